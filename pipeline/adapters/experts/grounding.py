"""Boxes in what a model wrote: JSON objects with a box and a label, wherever they stand in the text.

Prose, code fences and an end that was cut off are tolerated; the objects themselves are read by `json` alone. Which
coordinates the numbers are is declared, never guessed from them. A box that is not four finite numbers, is inverted, or
leaves the frame is dropped and counted under its rule: nothing here repairs one.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from schemas.boxes import Box, Size, inside
from schemas.experts import Failure
from schemas.frames import THOUSANDTHS, from_wire

BOX_KEYS = ("bbox_2d", "bbox", "box")  # not box_2d: its order is y0, x0, y1, x1
CONFIDENCE_KEYS = ("confidence", "score")
NAMELESS = "region"  # label of a box that has none
TEXT_CHARS_MAX, LABEL_CHARS_MAX = 100_000, 80
BROKEN_MAX = 1000  # beginnings of objects that are tried in vain
_DECODER = json.JSONDecoder()
_EMPTY_LIST = re.compile(r"\[\s*\]")


@dataclass(frozen=True, slots=True)
class Found:
    """A usable box: in pixels of the stored image; `stated` confidence in [0, 1]; where it stands in the text."""

    box_xyxy_px: Box
    label: str
    stated: float | None
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Grounding:
    """What was found, in the order of the text, and how many boxes each rule dropped."""

    found: tuple[Found, ...]
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Frame:
    """How a model counts: its family, the size it was shown, the size of the stored image."""

    family: str  # absolute | thousand | unit
    shown: Size
    stored: Size

    @property
    def extent(self) -> Size:
        """Width and height of the image in the model's numbers."""
        return {"absolute": self.shown, "thousand": THOUSANDTHS, "unit": (1, 1)}[self.family]


def grounded(text: str, frame: Frame, boxes_max: int) -> Grounding | Failure:
    """All boxes of a text, the first `boxes_max` usable ones; no box at all only where the text says so in JSON."""
    if len(text) > TEXT_CHARS_MAX:
        return Failure("oversized", f"the model wrote more than {TEXT_CHARS_MAX} characters")
    found: dict[tuple[Box, str], Found] = {}
    dropped: dict[str, int] = {}
    n_objects = n_boxes = 0
    for written, start, end in objects(text):
        n_objects += 1
        numbers = _value(written, BOX_KEYS)
        if numbers is None:
            continue
        n_boxes += 1
        box = _box(numbers, frame)
        if isinstance(box, tuple):
            each = Found(box, _label(written), _stated(written), (start, end))
            why = "repeated" if (box, each.label) in found else "beyond_limit" if len(found) == boxes_max else None
        else:
            why = box
        if why is None:
            found[box, each.label] = each
        else:
            dropped[why] = dropped.get(why, 0) + 1
    if n_boxes or _EMPTY_LIST.search(text):
        return Grounding(tuple(found.values()), dict(sorted(dropped.items())))
    if n_objects:
        return Failure("no_boxes_key", f"the model wrote JSON without any of {', '.join(BOX_KEYS)}")
    return Failure("malformed_json", "the model wrote no JSON that can be read")


def objects(text: str) -> Iterator[tuple[dict[str, Any], int, int]]:
    """(object, start, end) of JSON objects in a text, outer before inner; what cannot be decoded is stepped into.

    The inside of an object that has a box is not searched.
    """
    n_broken = start = 0
    while n_broken < BROKEN_MAX and (start := text.find("{", start)) >= 0:
        try:
            written, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            n_broken, start = n_broken + 1, start + 1
            continue
        yield written, start, end
        start = end if _value(written, BOX_KEYS) is not None else start + 1


def number(value: object) -> float | None:
    """A JSON number as a float, which may be NaN; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def plain(text: str, chars_max: int) -> str:
    """One line of valid Unicode, so that any table can hold it."""
    printable = "".join(char if char.isprintable() else " " for char in text)  # surrogates and controls are not
    return " ".join(printable.split())[:chars_max].rstrip()


def _value(written: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((written[key] for key in keys if written.get(key) is not None), None)


def _box(numbers: Any, frame: Frame) -> Box | str:
    """The box in stored pixels, or the rule that drops it."""
    edges = [number(edge) for edge in numbers] if isinstance(numbers, list) else []
    if len(edges) != 4 or None in edges:
        return "not_four_numbers"
    if not all(map(math.isfinite, edges)):
        return "not_finite"
    if not (edges[0] < edges[2] and edges[1] < edges[3]):
        return "inverted"
    if not inside(tuple(edges), frame.extent):
        return "out_of_frame"
    try:
        return from_wire(tuple(edges), frame.stored, frame.extent)
    except ValueError:
        return "inverted"  # a sliver that rounding closed


def _label(written: dict[str, Any]) -> str:
    label = written.get("label")
    return plain(label, LABEL_CHARS_MAX) or NAMELESS if isinstance(label, str) else NAMELESS


def _stated(written: dict[str, Any]) -> float | None:
    stated = number(_value(written, CONFIDENCE_KEYS))
    return stated if stated is not None and 0 <= stated <= 1 else None
