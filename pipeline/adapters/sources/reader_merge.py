"""Several readers drew boxes for one finding: which of them mean the same place, and where that is.

Larger boxes first, each box joins the group whose mean box it overlaps most, with an IoU of at least 0.4, if its reader
is not in that group yet; else it opens a group. The merged box is the plain mean of its members. No box is dropped: a
group of one is what one reader saw. (Ours; the order of the input does not matter.)
"""

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.boxes import Box, area, iou

SAME_IOU = 0.4


@dataclass(frozen=True, slots=True, order=True)
class Reading:
    """One box of one reader; `row_key` is where it stands."""

    box_xyxy_px: Box
    reader: str
    row_key: str


@dataclass(frozen=True, slots=True)
class Merged:
    box_xyxy_px: Box
    readings: tuple[Reading, ...]


def merge(readings: Iterable[Reading]) -> list[Merged]:
    """Groups in the order in which their largest boxes come."""
    groups: list[Merged] = []
    for reading in sorted(readings, key=lambda one: (-area(one.box_xyxy_px), one)):
        overlaps = {
            at: iou(group.box_xyxy_px, reading.box_xyxy_px)
            for at, group in enumerate(groups)
            if all(member.reader != reading.reader for member in group.readings)
        }
        closest = max(overlaps, key=overlaps.__getitem__, default=None)  # the first of equals
        if closest is not None and overlaps[closest] >= SAME_IOU:
            groups[closest] = _group((*groups[closest].readings, reading))
        else:
            groups.append(_group((reading,)))
    return groups


def _group(readings: tuple[Reading, ...]) -> Merged:
    edges = zip(*(one.box_xyxy_px for one in readings), strict=True)
    x0, y0, x1, y1 = (sum(edge) / len(readings) for edge in edges)
    return Merged((x0, y0, x1, y1), readings)


def consensus(n_marking: int, n_readers: int) -> int:
    """1: more than half of the readers, at least two, mark the finding; 0: none of three or more does; −1: else."""
    if n_marking >= 2 and 2 * n_marking > n_readers:
        return 1
    return 0 if n_marking == 0 and n_readers >= 3 else -1
