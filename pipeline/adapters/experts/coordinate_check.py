"""Does a model count as was declared? A drawing with one bright rectangle at a known place, located once.

A model of the other family would be believed otherwise: its boxes are legal numbers that point elsewhere. The error
names the family that would fit. It repairs nothing and picks no family.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from pipeline.adapters.experts.grounding import Frame, Grounding, grounded
from pipeline.adapters.experts.wording import FAMILIES
from schemas.boxes import Box, Size, iou
from schemas.errors import ExpertError
from schemas.experts import Failure

SIZE: Size = (560, 420)  # both sides multiples of 28; the rectangle is off centre and no square
MARK: Box = (308.0, 84.0, 476.0, 182.0)
GROUND, BRIGHT = 40, 230
IOU_MIN = 0.3


def drawing() -> Image.Image:
    pixels = np.full(SIZE[::-1], GROUND, np.uint8)
    x0, y0, x1, y1 = map(int, MARK)
    pixels[y0:y1, x0:x1] = BRIGHT
    return Image.fromarray(pixels)


def check_coordinates(text: str, family: str, shown: Size) -> None:
    """ExpertError unless a box of the reply overlaps the rectangle, read in `family`, with IoU of at least 0.3."""
    overlaps = dict(_overlaps(text, shown))
    if overlaps[family] >= IOU_MIN:
        return
    fitting = [each for each, overlap in overlaps.items() if overlap >= IOU_MIN]
    if fitting:
        fix = f"its numbers fit coordinates={fitting[0]}; set that"
    else:
        fix = "no family fits: take a model that can locate; check=false asks it all the same"
    told = grounded(text, Frame(family, shown, SIZE), 8)
    why = f" ({told.error_class}: {told.message})" if isinstance(told, Failure) else ""
    what = f"the model does not find a drawn rectangle in {family} coordinates: IoU {overlaps[family]:.2f}{why}"
    raise ExpertError(what, fix=fix)


def _overlaps(text: str, shown: Size) -> Iterator[tuple[str, float]]:
    """(family, best IoU of a box with the rectangle)."""
    frame = Frame("unit", shown, SIZE)
    for family in FAMILIES:
        told = grounded(text, replace(frame, family=family), 8)
        found = told.found if isinstance(told, Grounding) else ()
        yield family, max((iou(each.box_xyxy_px, MARK) for each in found), default=0.0)
