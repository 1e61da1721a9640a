"""SLAKE's two kinds of regions: boxes in `detection.json`, organ and lesion masks in `mask.png` named by `mask.txt`.

A box is cut to its image; a box with nothing inside it, or that is no box, becomes a problem with its own row key
and costs no question. Masks are read as bounding boxes only.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from pipeline.adapters.pixels import decode
from pipeline.adapters.sources.drafts import Problem, json_list, text_of
from schemas.boxes import Box, Size, clamp, from_xywh
from schemas.errors import InputError
from schemas.records import Region

Found = Region | tuple[str, Problem]  # a region, or (row key, problem)

DETECTION, MASK, MASK_NAMES = "detection.json", "mask.png", "mask.txt"


def mask_names(path: Path) -> dict[int, str]:
    """Names of mask values from lines `<int>:<name>`; a line of another form names nothing."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    found = (re.fullmatch(r'\s*"?(\d{1,3})\s*[:\uff1a]\s*(.*?)"?,?\s*', line) for line in lines)
    return {int(match[1]): match[2].strip() for match in found if match and match[2].strip()}


def regions(folder: Path, key: str, size: Size, names: Mapping[int, str]) -> Iterator[Found]:
    """All regions of the image in `folder` (called `key` in row keys): boxes in file order, then masks by value."""
    if (folder / DETECTION).is_file():
        yield from _boxes(folder / DETECTION, f"{key}/{DETECTION}", size)
    if (folder / MASK).is_file():
        yield from _masks(folder / MASK, f"{key}/{MASK}", size, names)


def _boxes(path: Path, key: str, size: Size) -> Iterator[Found]:
    try:
        entries = json_list(path)
    except InputError as error:
        yield key, Problem("region_file", error.what)
        return
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not entry:
            yield (
                f"{key}#{number}",
                Problem("region_malformed", f"expected {{label: [x, y, w, h]}}, found {entry!r:.80}"),
            )
            continue
        for label, numbers in entry.items():
            yield _box(f"{key}#{number}:{label!a}", text_of(label), numbers, size)


def _box(key: str, label: str | None, numbers: object, size: Size) -> Found:
    try:
        box = _xywh(numbers)
    except (ValueError, OverflowError) as error:
        return key, Problem("region_malformed", str(error))
    if label is None:
        return key, Problem("region_malformed", "the box has no label")
    inside = clamp(box, size)
    if inside is None:
        return key, Problem("region_outside", f"box {box} lies outside the {size[0]} × {size[1]} image")
    return Region(inside, label, "detection")


def _xywh(numbers: object) -> Box:
    if not isinstance(numbers, list) or len(numbers) != 4:
        raise ValueError(f"expected [x, y, w, h], found {numbers!r:.80}")
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        raise ValueError(f"expected four numbers, found {numbers!r:.80}")
    return from_xywh(numbers)


def _masks(path: Path, key: str, size: Size, names: Mapping[int, str]) -> Iterator[Found]:
    try:
        mask = decode(path.read_bytes()).convert("L")
    except (InputError, OSError) as error:
        what = error.what if isinstance(error, InputError) else str(error.strerror)
        yield key, Problem("region_file", what)
        return
    if mask.size != size:
        yield key, Problem("region_size", f"mask is {mask.size[0]} × {mask.size[1]}, image {size[0]} × {size[1]}")
        return
    pixels = np.asarray(mask)
    values = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256)[1:]) + 1  # 0 is background
    for value in values.tolist():
        if value in names:
            yield Region(_bounds(pixels == value), names[value], "mask")
    if unnamed := [value for value in values.tolist() if value not in names]:
        yield key, Problem("region_unnamed", f"{MASK_NAMES} does not name the values {unnamed}")


def _bounds(is_on: np.ndarray) -> Box:
    """Smallest half-open box around all true pixels of [height, width]."""
    ys, xs = np.flatnonzero(is_on.any(axis=1)), np.flatnonzero(is_on.any(axis=0))
    return float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)
