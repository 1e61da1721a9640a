"""What a remote model is shown: 8-bit pictures, resized once, by one rule, so that its pixels are known.

The longer side becomes at most (scan) or just about (drill) the side asked for, then both sides are rounded to
multiples of `multiple_px`, at least one: a model that resizes to such multiples itself (28 for Qwen2-VL and Qwen2.5-VL,
32 for Qwen3-VL) leaves the picture alone, and its absolute pixels are ours. A colour picture whose channels are equal
is sent as grey: every decoder makes the same three channels of it. Nothing here moves a box.
"""

import base64

import numpy as np
from PIL import Image, ImageChops

from pipeline.adapters.experts.saliency import to_grey
from pipeline.adapters.png import write_png
from schemas.boxes import Box
from schemas.frames import crop

FEW_PX = 16


def scan_view(image: Image.Image, longest_px: int, multiple_px: int) -> Image.Image:
    """The whole image, never enlarged beyond rounding."""
    return _resized(eight_bit(image), min(1.0, longest_px / max(image.size)), longest_px, multiple_px)


def drill_view(image: Image.Image, look_xyxy_px: Box, longest_px: int, multiple_px: int) -> Image.Image:
    """The stored pixels of the look, enlarged or reduced."""
    cut = eight_bit(crop(image, look_xyxy_px))
    return _resized(cut, longest_px / max(cut.size), longest_px, multiple_px)


def data_url(view: Image.Image) -> str:
    """The picture as PNG in a `data:` URL, without metadata.

    Without compression either: to deflate a crop takes as long as all else that a request costs this machine.
    """
    return f"data:image/png;base64,{base64.b64encode(write_png(np.asarray(view))).decode()}"


def eight_bit(image: Image.Image) -> Image.Image:
    """Grey of one channel, or RGB; where it is transparent, what lies under."""
    if image.mode == "L":
        return image
    if image.mode in ("1", "I", "F", "LAB") or image.mode.startswith("I;16"):
        return to_grey(image)
    if image.mode != "RGB":
        image = image.convert({"PA": "RGBA", "La": "LA", "RGBa": "RGBA"}.get(image.mode, "RGB")).convert("RGB")
    return image.getchannel(0) if _is_grey(image) else image


def _is_grey(image: Image.Image) -> bool:
    """Whether all channels are equal; a few pixels are looked at first, since most colour shows there."""
    few = image.resize((min(FEW_PX, image.width), min(FEW_PX, image.height)), Image.Resampling.NEAREST)
    return all(_is_one_grey(each) for each in (few, image))


def _is_one_grey(image: Image.Image) -> bool:
    red, green, blue = image.split()
    return not (ImageChops.difference(red, green).getbbox() or ImageChops.difference(red, blue).getbbox())


def _resized(image: Image.Image, scale: float, longest_px: int, multiple_px: int) -> Image.Image:
    size = tuple(_side(side * scale, longest_px, multiple_px) for side in image.size)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC, reducing_gap=None)


def _side(side_px: float, longest_px: int, multiple_px: int) -> int:
    """Nearest multiple, at least one, at most the last within `longest_px`."""
    most = max(1, longest_px // multiple_px)
    return min(most, max(1, int(side_px / multiple_px + 0.5))) * multiple_px
