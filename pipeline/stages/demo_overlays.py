"""Pictures for the page: an image with boxes drawn over it, and what a look shows beside what was seen without it.

Images travel inside the page as data URIs. Boxes are SVG over the image, so that they stay sharp at any size. Nothing
here knows what a box means: the caller says what to draw and what to tell somebody who cannot see it.
"""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from PIL import Image

from pipeline.core.markup import Markup, joined, tag
from schemas.boxes import Box
from schemas.frames import crop, crop_box

NEAR = 1 / 20  # of the height: two equal names as close as that are written once


class Style(StrEnum):
    REGION = "region"  # known to somebody, not looked at
    FOCUS = "focus"  # the region that a look is about
    LOOK = "look"  # the crop that was shown


@dataclass(frozen=True, slots=True)
class Drawn:
    """One box over an image: a look has a number, a region has a name."""

    box_xyxy_px: Box
    style: Style
    name: str = ""


def overlaid(image: Image.Image, drawn: Sequence[Drawn], alt: str) -> Markup:
    """`image` with boxes over it, looks on top; the boxes are left to `alt` for those who cannot see them."""
    width, height = image.size
    order = sorted(_named_once(drawn, height * NEAR), key=lambda one: list(Style).index(one.style))
    boxes = joined(*(_box(one, height) for one in order))
    over = tag("svg", boxes, viewBox=f"0 0 {width} {height}", preserveAspectRatio="none", aria_hidden="true")
    return tag("div", tag("img", src=_jpeg(image), alt=alt, width=width, height=height), over, class_="overlay")


def compared(image: Image.Image, look_xyxy_px: Box, view_px: int, number: int) -> Markup:
    """The same box twice: cut from the whole image at view_px² pixels, and from the stored image at no more than that.

    No crop is enlarged: what a small one holds is shown pixel by pixel.
    """
    whole = tag("img", src=_png(in_whole_view(image, look_xyxy_px, view_px)), alt=f"look {number} in the whole view")
    sharp = crop(image, look_xyxy_px)
    if sharp.width * sharp.height > view_px**2:
        sharp = _resized(sharp, view_px)
    shown = tag("img", src=_png(sharp), alt=f"look {number} as a crop")
    return tag("figure", whole, shown, tag("figcaption", f"look {number}: whole view, crop"), class_="pair")


def in_whole_view(image: Image.Image, box_xyxy_px: Box, view_px: int) -> Image.Image:
    """The box's part of `image` reduced to view_px² pixels: all there is of it without a crop."""
    small = _resized(image, view_px)
    x, y = small.width / image.width, small.height / image.height
    x0, y0, x1, y1 = box_xyxy_px
    return small.crop(crop_box((x0 * x, y0 * y, x1 * x, y1 * y), small.size))


def _resized(image: Image.Image, view_px: int) -> Image.Image:
    scale = view_px / math.sqrt(image.width * image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return _grey_or_rgb(image).resize(size, Image.Resampling.BICUBIC)


def _named_once(drawn: Sequence[Drawn], near_px: float) -> list[Drawn]:
    """Names that would lie on top of their equals are left out."""
    kept: list[Drawn] = []
    for one in drawn:
        (x, y), places = _foot(one), [_foot(other) for other in kept if other.name == one.name]
        is_near = any(abs(x - other_x) < near_px and abs(y - other_y) < near_px for other_x, other_y in places)
        kept.append(replace(one, name="") if is_near and one.style is not Style.LOOK else one)
    return kept


def _foot(one: Drawn) -> tuple[float, float]:
    return one.box_xyxy_px[0], one.box_xyxy_px[3]


def _box(one: Drawn, height: int) -> Markup:
    x0, y0, x1, y1 = one.box_xyxy_px
    size = height / 24  # of letters and badges, so that they look alike on images of any size
    rect = tag("rect", x=x0, y=y0, width=x1 - x0, height=y1 - y0, class_=one.style)
    if not one.name:
        return rect
    if one.style is Style.LOOK:
        badge = tag("rect", x=x0, y=y0, width=1.3 * size, height=1.3 * size, class_="badge")
        number = tag("text", one.name, x=x0 + 0.65 * size, y=y0 + size, font_size=size, class_="number")
        return joined(rect, badge, number)
    below = y1 + 0.8 * size
    label = tag("text", one.name, x=x0, y=min(below, height - 2), font_size=0.75 * size, class_="name")
    return joined(rect, label)


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _jpeg(image: Image.Image, quality: int = 80) -> str:
    return _data_uri(image, "jpeg", quality=quality)


def _png(image: Image.Image) -> str:
    return _data_uri(image, "png", optimize=True)


def _data_uri(image: Image.Image, kind: str, **options: object) -> str:
    file = io.BytesIO()
    _grey_or_rgb(image).save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
