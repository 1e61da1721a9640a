"""Where in an image something lies, in two words that experts and lessons share."""

from schemas.boxes import Box, Size, centre

ZONES = ("upper", "middle", "lower")
SIDES = ("left", "right")


def zone(box_xyxy_px: Box, size: Size) -> str:
    """The third of the image's height that holds the centre."""
    _, y = centre(box_xyxy_px)
    return ZONES[min(2, max(0, int(3 * y / size[1])))]


def side(box_xyxy_px: Box, size: Size, *, mirrored: bool = False) -> str:
    """The half of the image's width that holds the centre; `mirrored` names the patient's side of a radiograph."""
    is_first_half = centre(box_xyxy_px)[0] < size[0] / 2
    return SIDES[is_first_half == mirrored]
