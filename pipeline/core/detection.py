"""Which of an expert's boxes are annotated regions: one-to-one matching by confidence, as detectors are measured.

A region may have been boxed more than once (two readers, a box and a mask): any of its boxes will do. Random boxes of
the same sides are the baseline; what is drawn depends on the names of image and question alone. Nothing here asks an
expert or knows a question.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from schemas.boxes import Box, Size, iou
from schemas.seeds import uniform

IOUS = (0.1, 0.3, 0.5)
SAME_IOU = 0.5  # above it two boxes of one label are one region
DRAWS = 10  # random boxes for each box of an expert

Truth = tuple[Box, ...]  # all boxes of one region


@dataclass(frozen=True, slots=True)
class Found:
    box_xyxy_px: Box
    confidence: float


@dataclass(frozen=True, slots=True)
class Scanned:
    """What was found on one image of one question, and what is annotated there; `size` is (width, height)."""

    question_id: str
    image_id: str
    size: Size
    truths: tuple[Truth, ...]
    found: tuple[Found, ...]

    def overlap(self, box_xyxy_px: Box) -> float:
        """The best IoU of a box with any annotated region; 0 where there is none."""
        return max((likeness(box_xyxy_px, truth) for truth in self.truths), default=0.0)


def likeness(box_xyxy_px: Box, truth: Truth) -> float:
    """IoU with the box of a region that fits best."""
    return iou(box_xyxy_px, truth[0]) if len(truth) == 1 else max(iou(box_xyxy_px, each) for each in truth)


def regions(marks: Sequence[tuple[str, Box]]) -> tuple[Truth, ...]:
    """(label, box) → regions: boxes of one label that overlap by more than `SAME_IOU`, directly or by way of others."""
    groups: list[list[tuple[str, Box]]] = []
    for label, box in marks:
        same = [each for each in groups if any(label == name and iou(box, other) > SAME_IOU for name, other in each)]
        groups = [each for each in groups if each not in same] + [
            [*(one for each in same for one in each), (label, box)]
        ]
    return tuple(tuple(box for _, box in each) for each in groups)


def surest_first(found: Sequence[Found]) -> list[int]:
    """Indices by falling confidence; equal ones by their box, so that the order of an answer never matters."""
    return sorted(range(len(found)), key=lambda at: (-found[at].confidence, found[at].box_xyxy_px))


def matched(found: Sequence[Found], truths: Sequence[Truth], iou_min: float) -> list[int | None]:
    """For each found box its region, or None: the surest first, each takes the region it fits best of those left.

    (Everingham et al. 2010, with COCO's rule for taken regions.) A lower `iou_min` never matches fewer.
    """
    return _matched(_likenesses(found, truths), surest_first(found), iou_min)


@dataclass(frozen=True, slots=True)
class Hits:
    """Boxes matched at each of `IOUS`: of all boxes, and of the surest alone, any of equally sure ones as likely.

    Shares of boxes for a mean over draws, or over equally sure ones.
    """

    all: tuple[float, ...]
    surest: tuple[float, ...]


def hits(one: Scanned) -> Hits:
    likenesses, order = _likenesses(one.found, one.truths), surest_first(one.found)
    surest = [at for at in order if one.found[at].confidence == one.found[order[0]].confidence]
    best = [max(likenesses[at], default=0.0) for at in surest]
    return Hits(
        tuple(_n_matched(likenesses, order, iou_min) for iou_min in IOUS),
        tuple(sum(each >= iou_min for each in best) / max(1, len(best)) for iou_min in IOUS),
    )


def chance_hits(one: Scanned) -> Hits:
    """The mean of `DRAWS` draws: the same confidences in boxes of the same sides, anywhere in the image."""
    drawn = [hits(each) for each in at_random(one)]
    return Hits(
        tuple(sum(each.all[at] for each in drawn) / DRAWS for at in range(len(IOUS))),
        tuple(sum(each.surest[at] for each in drawn) / DRAWS for at in range(len(IOUS))),
    )


def at_random(one: Scanned) -> Iterator[Scanned]:
    for draw in range(DRAWS):
        key = ("random boxes", one.question_id, one.image_id, draw)
        boxes = (_elsewhere(each.box_xyxy_px, one.size, *key, at) for at, each in enumerate(one.found))
        found = (Found(box, each.confidence) for box, each in zip(boxes, one.found, strict=True))
        yield replace(one, found=tuple(found))


def _elsewhere(box: Box, size: Size, *key: object) -> Box:
    width, height = box[2] - box[0], box[3] - box[1]
    x = uniform(*key, "x") * (size[0] - width)
    y = uniform(*key, "y") * (size[1] - height)
    return x, y, x + width, y + height


def _likenesses(found: Sequence[Found], truths: Sequence[Truth]) -> list[list[float]]:
    return [[likeness(each.box_xyxy_px, truth) for truth in truths] for each in found]


def _matched(likenesses: Sequence[Sequence[float]], order: Sequence[int], iou_min: float) -> list[int | None]:
    takes: list[int | None] = [None] * len(likenesses)
    left = set(range(len(likenesses[0]))) if likenesses else set()
    for at in order:
        best = max(left, key=lambda number: (likenesses[at][number], -number), default=None)
        if best is not None and likenesses[at][best] >= iou_min:
            takes[at] = best
            left.remove(best)
    return takes


def _n_matched(likenesses: Sequence[Sequence[float]], order: Sequence[int], iou_min: float) -> int:
    return sum(take is not None for take in _matched(likenesses, order, iou_min))
