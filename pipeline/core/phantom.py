"""A procedural chest radiograph with exact boxes and one question: a pure function of (seed, index, level, side).

Left and right are the image's: "left" is small x. The crop-only attributes (striped, spiculated) are
zero-mean textures inside a finding that vanish when 448 px are reduced to 112; `twin` gives the same
image with the asked finding's texture the other way. Small distractors keep their distance from
findings, so a look at one of them answers nothing. Nothing here reads a file or claims realism.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.core import phantom_questions
from pipeline.core.phantom_questions import (
    CROP_ONLY_TYPES,
    LEVELS,
    VOCABULARY_LINES,
    FindingPlan,
    PhantomQuestion,
    Plan,
)
from pipeline.core.phantom_render import FRAME_PX, Anatomy, IntBox, Mark, box_at, draw, lung_level
from schemas.boxes import Box, grow, inside, intersection, iou
from schemas.seeds import digest_int, shuffled, uniform

__all__ = [
    "CROP_ONLY_TYPES",
    "LEVELS",
    "VOCABULARY_LINES",
    "Phantom",
    "PhantomQuestion",
    "PhantomRegion",
    "phantom",
    "twin",
]

SIDE_PX_MIN = 112  # below this, small distractors shrink to nothing; below 224, textures cannot be drawn
SECOND_READER_SHARE = 0.45
N_CANDIDATES_MIN = 4

Draw = Callable[..., float]  # a uniform draw in [0, 1) by name


@dataclass(frozen=True, slots=True)
class PhantomRegion:
    """Whole-pixel box, half open. `provenance`: finding, second-reader, distractor (drawn) or anatomy."""

    box_xyxy_px: Box
    label: str
    provenance: str


@dataclass(frozen=True, slots=True)
class Phantom:
    pixels: np.ndarray  # uint8 [side, side]
    regions: tuple[PhantomRegion, ...]  # in random order; at least four
    questions: tuple[PhantomQuestion, ...]  # one


def phantom(seed: int, index: int, level: str = "L1", side_px: int = FRAME_PX) -> Phantom:
    """Image `index` of the endless set (seed, level). Anatomy, boxes and question are one at every `side_px`."""
    return _compose(phantom_questions.plan(seed, index, level), (seed, index, level), side_px)


def twin(seed: int, index: int, level: str = "L1", side_px: int = FRAME_PX) -> Phantom:
    """`phantom(...)` with the asked finding's texture, and so its answer, the other way round; all else the same.

    ValueError when the image's question is not one of `CROP_ONLY_TYPES`.
    """
    planned = phantom_questions.twin(phantom_questions.plan(seed, index, level))
    return _compose(planned, (seed, index, level), side_px)


def _compose(plan: Plan, key: tuple[object, ...], side_px: int) -> Phantom:
    if side_px < SIDE_PX_MIN:
        raise ValueError(f"side_px must be at least {SIDE_PX_MIN}, got {side_px}")
    lot = partial(uniform, "phantom", *key)
    anatomy = _anatomy(lot)
    hila = tuple(_hilum(anatomy, side, lot) for side in (-1, 1))
    texture = "spiculated" if key[-1] == "hard" else "striped"
    findings = _findings(plan.findings, texture, anatomy, hila, lot)
    if lot("second reader") < SECOND_READER_SHARE:
        small, candidates = (), _four_candidates(findings, hila, lot)
    else:
        small = _small(anatomy, findings, hila, lot)
        candidates = _candidates(findings, hila + small, anatomy, lot)
    regions = tuple(_region(*candidate, side_px, lot) for candidate in shuffled(candidates, "phantom order", *key))
    pixels = draw(anatomy, hila + small + findings, side_px, digest_int("phantom noise", *key))
    return Phantom(pixels, regions, (plan.question,))


def _between(lot: Draw, low: float, high: float, *name: object) -> float:
    return low + (high - low) * lot(*name)


def _anatomy(lot: Draw) -> Anatomy:
    centre_x, lung_y = 224 + _between(lot, -6, 6, "centre"), 212 + _between(lot, -8, 8, "lung y")
    heart_size = _between(lot, 0.9, 1.1, "heart")
    return Anatomy(
        centre_x=centre_x,
        lung_y=lung_y,
        lung_rx=_between(lot, 80, 86, "lung rx"),
        lung_ry=_between(lot, 160, 174, "lung ry"),
        gap=_between(lot, 24, 30, "gap"),
        heart=(centre_x + 26 + 12 * lot("heart x"), lung_y + 84, 74 * heart_size, 66 * heart_size),
        lung_tone=_between(lot, 52, 68, "lung tone"),
        tissue_tone=_between(lot, 128, 142, "tissue tone"),
        rib_phase=lot("rib phase"),
        rib_spacing=_between(lot, 34, 42, "rib spacing"),
        waves=tuple((6 * lot("wave x", i) - 3 + (i - 1), 2 + 6 * lot("wave y", i), lot("wave", i)) for i in range(3)),
    )


def _hilum(anatomy: Anatomy, sign: int, lot: Draw) -> Mark:
    """The large distractor of one lung: 100–108 by 104–140 frame units about its medial edge."""
    width, height = _between(lot, 100, 108, "hilum width", sign), _between(lot, 104, 140, "hilum height", sign)
    x = anatomy.centre_x + sign * (anatomy.gap + 26)
    y = anatomy.lung_y - 26 + _between(lot, -14, 14, "hilum y", sign)
    return Mark("hilum", _box(x, y, width, height), lot("hilum", sign), mirrored=sign > 0)


def _box(x: float, y: float, width: float, height: float) -> IntBox:
    x0, y0 = round(x - width / 2), round(y - height / 2)
    return x0, y0, x0 + round(width), y0 + round(height)


def _findings(
    plans: tuple[FindingPlan, ...], texture: str, anatomy: Anatomy, hila: tuple[Mark, ...], lot: Draw
) -> tuple[Mark, ...]:
    """All findings placed, or all placed anew when the first ones leave no room for the last."""
    for attempt in range(50):
        marks = _place_findings(plans, texture, anatomy, hila, partial(lot, "findings", attempt))
        if len(marks) == len(plans):
            return marks
    raise AssertionError(f"no room for {plans}")


def _place_findings(
    plans: tuple[FindingPlan, ...], texture: str, anatomy: Anatomy, hila: tuple[Mark, ...], lot: Draw
) -> tuple[Mark, ...]:
    marks: list[Mark] = []
    for number, plan in enumerate(plans):
        keep_out = [grow(mark.box, -0.15) for mark in hila] + [grow(mark.box, 0.25) for mark in marks]
        sign = -1 if plan.side == "left" else 1
        box = _finding_box(plan, sign, anatomy, keep_out, partial(lot, number))
        if box is None:
            break
        marks.append(
            Mark(plan.kind, box, lot(number, "variety"), texture if plan.has_texture else "", mirrored=sign > 0)
        )
    return tuple(marks)


def _finding_box(plan: FindingPlan, sign: int, anatomy: Anatomy, keep_out: list[Box], lot: Draw) -> IntBox | None:
    wall = anatomy.centre_x + sign * (anatomy.gap + 2 * anatomy.lung_rx)
    if plan.kind == "effusion":
        width, height = _between(lot, 84, 116, "width"), _between(lot, 72, 104, "height")
        return _box(wall - sign * (width / 2 + 2), anatomy.lung_y + 0.93 * anatomy.lung_ry - height / 2, width, height)
    if plan.kind == "pneumothorax":
        width, height = _between(lot, 48, 60, "width"), _between(lot, 110, 150, "height")
        return _box(wall - sign * (width / 2 + 4), anatomy.lung_y - 22 + _between(lot, -16, 16, "y"), width, height)
    if plan.kind == "nodule":
        width = height = _between(lot, *plan.size_range_px, "size")
    else:  # a consolidation is oblong
        long, short = _between(lot, 52, 60, "long"), _between(lot, 40, 44, "short")
        width, height = (long, short) if lot("lies") < 0.5 else (short, long)
    return _place(width, height, sign, anatomy, keep_out, lot)


def _place(width: float, height: float, sign: int, anatomy: Anatomy, keep_out: list[Box], lot: Draw) -> IntBox | None:
    """The first of up to 200 uniform draws that lies in the lung, off the heart, and touches nothing in `keep_out`."""
    for attempt in range(200):
        x = anatomy.centre_x + sign * (anatomy.gap + 2 * anatomy.lung_rx * lot("x", attempt))
        y = anatomy.lung_y + anatomy.lung_ry * (2 * lot("y", attempt) - 1)
        box = _box(x, y, width, height)
        if _in_lung(box, sign, anatomy) and not any(intersection(box, other) for other in keep_out):
            return box
    return None


def _in_lung(box: IntBox, sign: int, anatomy: Anatomy) -> bool:
    """Whether the ellipse in `box` lies on air: eight rim points inside the lung and outside the heart."""
    x, y, rx, ry = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    heart_x, heart_y, heart_rx, heart_ry = anatomy.heart
    rim = ((x + dx * rx, y + dy * ry) for dx, dy in _RIM)
    return all(
        lung_level(anatomy, sign, px, py) >= 0.1
        and math.hypot((px - heart_x) / heart_rx, (py - heart_y) / heart_ry) > 1
        for px, py in rim
    )


_RIM = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7))


def _small(anatomy: Anatomy, findings: tuple[Mark, ...], hila: tuple[Mark, ...], lot: Draw) -> tuple[Mark, ...]:
    """Two small distractors whose crop at margin 1 shows no part of a finding; fewer where there is no room."""
    placed: list[Mark] = []
    for kind, low, high in (("rib crossing", 28, 40), ("clip", 20, 28)):
        named = partial(lot, kind)
        width, height = _between(named, low, high, "width"), _between(named, low, high, "height")
        keep_out = [_reach(mark.box, width, height) for mark in findings] + [mark.box for mark in (*hila, *placed)]
        sign = -1 if named("side") < 0.5 else 1
        for lung in (sign, -sign):
            if box := _place(width, height, lung, anatomy, keep_out, named):
                placed.append(Mark(kind, box, named("variety"), mirrored=lung > 0))
                break
    return tuple(placed)


def _reach(box: IntBox, width: float, height: float) -> Box:
    """`box` grown by a small distractor's size, so that the distractor grown by margin 1 cannot touch it."""
    return box[0] - width - 1, box[1] - height - 1, box[2] + width + 1, box[3] + height + 1


Candidate = tuple[str, str, IntBox]  # label, provenance, frame box


def _candidates(
    findings: tuple[Mark, ...], distractors: tuple[Mark, ...], anatomy: Anatomy, lot: Draw
) -> list[Candidate]:
    candidates = [(mark.kind, "finding", mark.box) for mark in findings]
    candidates += [(mark.kind, "distractor", mark.box) for mark in distractors]
    if lot("heart listed") < 0.5 or len(candidates) < N_CANDIDATES_MIN:
        x, y, rx, ry = anatomy.heart
        candidates.append(("heart", "anatomy", _box(x, y, 2 * rx, 2 * ry)))
    return candidates


def _four_candidates(findings: tuple[Mark, ...], hila: tuple[Mark, ...], lot: Draw) -> list[Candidate]:
    """Exactly four boxes of two or three regions: a second reader marks one or two of them again."""
    first = [(mark.kind, "finding", mark.box) for mark in findings]
    first += [(mark.kind, "distractor", mark.box) for mark in (hila if lot("first hilum") < 0.5 else hila[::-1])]
    n_again = 2 if len(first) == 2 or (len(findings) < 3 and lot("again") < 0.5) else 1
    first = first[: N_CANDIDATES_MIN - n_again]
    return first + [(label, "second-reader", box) for label, _, box in first[:n_again]]


def _region(label: str, provenance: str, frame_box: IntBox, side_px: int, lot: Draw) -> PhantomRegion:
    box = box_at(frame_box, side_px)
    if provenance == "second-reader":
        box = _read_again(box, side_px, partial(lot, "read again", label, *frame_box))
    return PhantomRegion(tuple(map(float, box)), label, provenance)


def _read_again(box: IntBox, side_px: int, lot: Draw) -> IntBox:
    """Each edge moved by up to 15 % of the side until the IoU with `box` lies between 0.62 and 0.88."""
    sides = (box[2] - box[0], box[3] - box[1]) * 2
    for attempt in range(1000):
        moved = tuple(round(edge + (0.3 * lot(attempt, i) - 0.15) * sides[i]) for i, edge in enumerate(box))
        if inside(moved, (side_px, side_px)) and 0.62 <= iou(box, moved) <= 0.88:
            return moved
    raise AssertionError(f"no second reading of {box}")
