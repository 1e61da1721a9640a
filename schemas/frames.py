"""The one place where coordinates change frame: stored image ↔ resized image ↔ thousandths → pixels of a crop.

* *stored*: float pixels of the stored image, `Box`, the frame of every table.
* *wire*: integer pixels of the image as the policy sees it, four ints, the frame of every written turn.
* *thousandths*: integers 0…1000 per axis, the wire of Qwen3-VL.

Sizes are (width, height), x1 and y1 exclusive, and each axis has its own scale, because a resize rounds the sides
apart. Nothing here resizes pixels, and nothing repairs a box of the policy: `wire_problem` only says what is wrong.
"""

import math
from typing import TYPE_CHECKING

from schemas.boxes import Box, Size, as_box, clamp

if TYPE_CHECKING:
    from PIL import Image

WireBox = tuple[int, int, int, int]

THOUSANDTHS: Size = (1000, 1000)


def to_wire(box_xyxy_px: Box, size: Size, resized: Size) -> WireBox:
    """Stored pixels → wire, halves rounded up, always inside the frame and at least one pixel wide and high.

    Each edge moves by at most half a resized pixel; by less than one where a side is below one resized pixel.
    """
    x0, y0, x1, y1 = as_box(box_xyxy_px)
    left, right = _to_axis(x0, x1, size[0], resized[0])
    top, bottom = _to_axis(y0, y1, size[1], resized[1])
    return left, top, right, bottom


def from_wire(wire: WireBox, size: Size, resized: Size) -> Box:
    """Wire → stored pixels, exactly; ValueError for an empty or inverted box (ask `wire_problem` first)."""
    x0, x1 = (_rescale(edge, size[0], resized[0]) for edge in (wire[0], wire[2]))
    y0, y1 = (_rescale(edge, size[1], resized[1]) for edge in (wire[1], wire[3]))
    return as_box((x0, y0, x1, y1))


def to_thousandths(box_xyxy_px: Box, size: Size) -> WireBox:
    """Stored pixels → 0…1000 per axis, rounded as in `to_wire`."""
    return to_wire(box_xyxy_px, size, THOUSANDTHS)


def from_thousandths(wire: WireBox, size: Size) -> Box:
    return from_wire(wire, size, THOUSANDTHS)


def wire_problem(wire: WireBox, resized: Size, min_side_px: int = 1) -> str | None:
    """A sentence for the feedback when the box cannot be looked at, else None; `min_side_px` in wire pixels."""
    x0, y0, x1, y1 = wire
    width, height = resized
    if x0 >= x1 or y0 >= y1:
        return "The box is empty or inverted: left must be less than right, and top less than bottom."
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
        return f"The box leaves the image, which is {width} wide and {height} high."
    if min(x1 - x0, y1 - y0) < min_side_px:
        return f"The box is too small: each side must be at least {min_side_px} pixels."
    return None


def crop_box(box_xyxy_px: Box, size: Size) -> tuple[int, int, int, int]:
    """The smallest block of whole stored pixels that covers the box's part inside the image; ValueError if none is."""
    inside = clamp(as_box(box_xyxy_px), size)
    if inside is None:
        raise ValueError(f"box {box_xyxy_px} lies outside an image of {size[0]} x {size[1]}")
    return math.floor(inside[0]), math.floor(inside[1]), math.ceil(inside[2]), math.ceil(inside[3])


def crop(image: "Image.Image", box_xyxy_px: Box) -> "Image.Image":
    """The stored pixels of `crop_box`, at their own resolution."""
    return image.crop(crop_box(box_xyxy_px, image.size))


def _rescale(position: float, to_px: int, from_px: int) -> float:
    return position * to_px / from_px


def _to_axis(low: float, high: float, from_px: int, to_px: int) -> tuple[int, int]:
    """Both edges of one axis. Half up, not half even: sides of a whole pixel then never collapse."""
    low, high = (min(max(_rescale(edge, to_px, from_px), 0.0), float(to_px)) for edge in (low, high))
    first, last = math.floor(low + 0.5), math.floor(high + 0.5)
    if first == last:  # the pixel that holds the centre
        first = min(math.floor((low + high) / 2), to_px - 1)
        last = first + 1
    return first, last
