"""What of an expert's answer may enter a search: finite numbers, boxes inside the image, all float32-exact.

Experts say odd things; this is the one place that decides what they amount to, and it never raises. A number is
rounded to float32 here and never again, so that a decision recomputed from a stored row cannot disagree at a border.
"""

import math
import struct
from typing import Any

from schemas.boxes import Box, Size, as_box, clamp
from schemas.experts import Candidate, Drill, Query, Seen

_ODD = (TypeError, ValueError, OverflowError)
_ONE, _FOUR = struct.Struct("<f"), struct.Struct("<4f")


def float32(value: float) -> float:
    """The nearest float32 as a float."""
    return _ONE.unpack(_ONE.pack(value))[0]


def admit(query: Query, seen: Seen, size: Size) -> tuple[Candidate, ...]:
    """The usable candidates of an answer, in its order; `admit` of what it returns changes nothing.

    Scan: those with a confidence and a box in the image. Drill: the first with a confidence, or none; where
    its box is of no use, it is the box that was asked about.
    """
    if isinstance(query, Drill):
        told = (_candidate(candidate, size, query.box_xyxy_px) for candidate in seen.candidates)
        return tuple(candidate for candidate in told if candidate is not None)[:1]
    told = (_candidate(candidate, size, None) for candidate in seen.candidates)
    return tuple(candidate for candidate in told if candidate is not None)


def admit_box(box_xyxy_px: Any, size: Size) -> Box | None:
    """The part of the box inside the image in float32, or None for what is no box or lies outside."""
    try:
        inside = clamp(as_box(box_xyxy_px), size)
    except _ODD:
        return None
    return None if inside is None else _sound(_FOUR.unpack(_FOUR.pack(*inside)))


def admit_confidence(confidence: Any) -> float | None:
    """Clipped to [0, 1] in float32; None for what is no finite number."""
    try:
        number = float(confidence)
    except _ODD:
        return None
    return float32(min(max(number, 0.0), 1.0)) if math.isfinite(number) else None


def _candidate(candidate: Candidate, size: Size, asked: Box | None) -> Candidate | None:
    box, confidence = admit_box(candidate.box_xyxy_px, size) or asked, admit_confidence(candidate.confidence)
    return None if box is None or confidence is None else Candidate(box, str(candidate.label), confidence)


def _sound(box: Box) -> Box | None:
    """None where float32 has closed a sliver."""
    return box if box[0] < box[2] and box[1] < box[3] else None
