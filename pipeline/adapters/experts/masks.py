"""Masks ↔ boxes, on whole pixels: what a segmenter draws as the boxes that tables hold, and back.

A mask is bool [height, width]. The box of a mask is tight and half open: first set column and row, and one past the
last. The mask of a box is the smallest block of whole pixels that covers its part inside the frame, so that nothing
that can be looked at becomes empty. The parts of a mask are its 8-connected components, the rule of
`cv2.connectedComponents`, which MedPLIB's own code calls. Nothing here fills holes, smooths, or drops a speck.

MedPLIB's environment runs this file too: Python 3.10, numpy 1.26.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.boxes import Box, Size, as_box, clamp

SNAP_PX = 1e-6  # an edge this near to a whole pixel is that pixel: edges come back from fractions of the image
_RUN = tuple[int, int, int]  # row, first column, one past the last


@dataclass(frozen=True, slots=True)
class Parts:
    """Components of a mask, numbered from 1 in the order of their first pixel, row by row; 0 is background."""

    labels: np.ndarray  # int32 [height, width]
    boxes_xyxy_px: tuple[Box, ...]
    areas_px: tuple[int, ...]

    def mask(self, number: int) -> np.ndarray:
        return self.labels == number

    def means(self, values: np.ndarray) -> list[float]:
        """Mean of `values` [height, width] inside each part."""
        sums = np.bincount(self.labels.ravel(), weights=values.ravel(), minlength=len(self.areas_px) + 1)
        return [float(total) / area for total, area in zip(sums[1:], self.areas_px, strict=True)]


def mask_of(box_xyxy_px: Box, size: Size) -> np.ndarray:
    """ValueError for a box that is none or lies outside a frame of `size` (width, height)."""
    inside = clamp(as_box(box_xyxy_px), size)
    if inside is None:
        raise ValueError(f"box {tuple(box_xyxy_px)} lies outside a mask of {size[0]} x {size[1]}")
    x0, x1 = _whole(inside[0], inside[2], size[0])
    y0, y1 = _whole(inside[1], inside[3], size[1])
    mask = np.zeros(size[::-1], bool)
    mask[y0:y1, x0:x1] = True
    return mask


def box_of(mask: np.ndarray) -> Box:
    """ValueError for a mask without a pixel."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        raise ValueError("the mask is empty")
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def parts_of(mask: np.ndarray) -> Parts:
    """The components, whose pixels together are the mask; none for an empty one."""
    height, width = mask.shape
    steps = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)  # [height, width + 1]
    rows, firsts = np.nonzero(steps == 1)
    lasts = np.nonzero(steps == -1)[1]
    roots = _roots(list(zip(rows.tolist(), firsts.tolist(), lasts.tolist(), strict=True)))
    _, numbers = np.unique(np.asarray(roots, np.int64), return_inverse=True)
    numbers = numbers.reshape(-1) + 1
    changes = np.zeros((height, width + 1), np.int32)
    changes[rows, firsts], changes[rows, lasts] = numbers, -numbers  # runs of a row never touch
    labels = np.cumsum(changes, axis=1, dtype=np.int32)[:, :width]
    boxes, areas = _measured(numbers, rows, firsts, lasts)
    return Parts(labels, boxes, areas)


def encoded(mask: np.ndarray) -> dict[str, list[int]]:
    """Run lengths as COCO writes them uncompressed: column by column, the first run one of zeros, maybe of length 0."""
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate(([0], ends, [flat.size]))).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat.size and flat[0] else counts}


def decoded(rle: Mapping[str, Any], size: Size) -> np.ndarray:
    """The mask of a frame of `size` (width, height); ValueError for run lengths that are not for it."""
    height, width = rle["size"]
    if (width, height) != tuple(size):
        raise ValueError(f"a mask of {width} x {height} for an image of {size[0]} x {size[1]}")
    counts: Sequence[int] = rle["counts"]
    if min(counts, default=0) < 0 or sum(counts) != width * height:
        raise ValueError(f"run lengths that do not fill {width} x {height}")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def _whole(low: float, high: float, side: int) -> tuple[int, int]:
    """Outward to whole pixels, at least one."""
    first = min(math.floor(low + SNAP_PX), side - 1)
    return first, max(first + 1, math.ceil(high - SNAP_PX))


def _roots(runs: Sequence[_RUN]) -> list[int]:
    """For each run, in reading order, the first run of its component."""
    parents = list(range(len(runs)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    oldest = 0  # the first run that may touch this one or a later one
    for run, (row, first, last) in enumerate(runs):
        while runs[oldest][0] < row - 1 or (runs[oldest][0] == row - 1 and runs[oldest][2] < first):
            oldest += 1
        above = oldest
        while runs[above][0] == row - 1 and runs[above][1] <= last:  # corners touch
            one, other = sorted((root(above), root(run)))
            parents[other] = one
            above += 1
    return [root(run) for run in range(len(runs))]


def _measured(
    numbers: np.ndarray, rows: np.ndarray, firsts: np.ndarray, lasts: np.ndarray
) -> tuple[tuple[Box, ...], tuple[int, ...]]:
    """Boxes and areas of the components that these runs make up."""
    n_parts = int(numbers.max(initial=0))
    low, high = np.full((n_parts, 2), np.iinfo(np.int64).max), np.zeros((n_parts, 2), np.int64)
    np.minimum.at(low, numbers - 1, np.stack([firsts, rows], axis=1))
    np.maximum.at(high, numbers - 1, np.stack([lasts, rows + 1], axis=1))
    areas = np.bincount(numbers - 1, weights=lasts - firsts, minlength=n_parts)
    boxes = np.concatenate([low, high], axis=1).astype(float).tolist()
    return tuple(map(tuple, boxes)), tuple(int(area) for area in areas)
