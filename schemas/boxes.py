"""Boxes: four floats (x0, y0, x1, y1), x1 and y1 exclusive, in one frame that the name's suffix tells.

`box_xyxy_px` is in pixels of the stored image unless a name says otherwise. Nothing here
changes a frame; that is `schemas.frames`' business alone.
"""

import math
from collections.abc import Sequence

Box = tuple[float, float, float, float]
Size = tuple[int, int]  # width, height


def as_box(numbers: Sequence[float]) -> Box:
    """The four numbers as floats; ValueError unless they are finite and x0 < x1, y0 < y1."""
    x0, y0, x1, y1 = (float(number) for number in numbers)
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise ValueError(f"box {tuple(numbers)} is not finite")
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"box {(x0, y0, x1, y1)} is empty or inverted")
    return x0, y0, x1, y1


def from_xywh(numbers: Sequence[float]) -> Box:
    """Left, top, width, height → box (SLAKE, NIH, RSNA, COCO, MS-CXR)."""
    x, y, width, height = numbers
    return as_box((x, y, x + width, y + height))


def area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def intersection(a: Box, b: Box) -> float:
    """Common area in square pixels; 0 for boxes that only touch."""
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def iou(a: Box, b: Box) -> float:
    """Intersection over union in [0, 1], symmetric; 0 when both boxes are empty."""
    common = intersection(a, b)
    union = area(a) + area(b) - common
    return common / union if union > 0 else 0.0


def clamp(box: Box, size: Size) -> Box | None:
    """The part of `box` inside the image, or None when nothing is left or an edge is not a number."""
    width, height = size
    if any(map(math.isnan, box)):
        return None
    inside = (max(0.0, box[0]), max(0.0, box[1]), min(float(width), box[2]), min(float(height), box[3]))
    return inside if inside[0] < inside[2] and inside[1] < inside[3] else None


def inside(box: Box, size: Size) -> bool:
    """Whether `box` is finite, not empty, and within the image."""
    return all(map(math.isfinite, box)) and 0 <= box[0] < box[2] <= size[0] and 0 <= box[1] < box[3] <= size[1]


def grow(box: Box, margin: float) -> Box:
    """`box` with `margin` times its own side added on each side: margin 1.0 triples both sides."""
    dx, dy = margin * (box[2] - box[0]), margin * (box[3] - box[1])
    return box[0] - dx, box[1] - dy, box[2] + dx, box[3] + dy


def whole(size: Size) -> Box:
    return 0.0, 0.0, float(size[0]), float(size[1])


def centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
