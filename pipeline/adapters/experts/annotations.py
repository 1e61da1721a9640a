"""The expert that reads the data set's own boxes: SLAKE, NIH, RSNA, VinDr, phantom. Privileged, and says so.

Its confidence is no probability but relevance times visibility, so that a closer look makes a small region surer:
c = r · v, v = s² / (s² + 8²), with s the shorter side of what is seen of the region, in pixels of the view. The view
is the whole image, or the crop of a drill, scaled to an area of view_px x view_px: smaller crops are enlarged to it,
as the policy's are. It invents no region: an image without boxes gives an empty scan, and where nothing is marked
the confidence is 0.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.adapters.experts.relevance import relevance, sides_named
from schemas.boxes import Box, Size, area, centre, clamp, iou, whole
from schemas.experts import Ask, Candidate, Drill, ExpertIdentity, Failure, Seen
from schemas.places import side as side_of
from schemas.places import zone

REVISION = 1
HALF_VISIBLE_PX = 8.0  # v = ½ for a region of this shorter side
SAME_IOU = 0.5  # above it an annotation is the region asked about
FRAMES = ("image", "patient")
BANDS = ((0.85, "clear"), (0.5, "likely"), (0.25, "possible"), (0.0, "doubtful"))  # words by least confidence


@dataclass(frozen=True, slots=True)
class AnnotationsExpert:
    """`view_px`: side of the view. `sides_of`: whose left and right the questions mean.

    image: left is where x is small (phantom). patient: left is where x is large, as radiographs and axial slices are
    shown. A side in the label itself ("Left Lung") outranks both.
    """

    view_px: int = 448
    sides_of: str = "image"

    def __post_init__(self) -> None:
        if type(self.view_px) is not int or self.view_px < 1:
            raise ValueError(f"view_px must be a positive whole number, got {self.view_px!r}")
        if self.sides_of not in FRAMES:
            raise ValueError(f"sides_of must be one of {FRAMES}, got {self.sides_of!r}")

    @property
    def identity(self) -> ExpertIdentity:
        settings = (("sides_of", self.sides_of), ("view_px", self.view_px))
        return ExpertIdentity("annotations", str(REVISION), settings, privileged=True)

    def answer(self, asks: Sequence[Ask]) -> list[Seen | Failure]:
        return [self._drill(ask, ask.query) if isinstance(ask.query, Drill) else self._scan(ask) for ask in asks]

    def _scan(self, ask: Ask) -> Seen:
        """Every marked region of the image, in the order of the annotation."""
        view = whole(ask.image.size)
        marks = list(self._marks(ask))
        seen = [mark.seen(view, self.view_px) for mark in marks]
        surest_first = sorted(zip(seen, marks, strict=True), key=lambda pair: -pair[0].confidence)
        words = (mark.words(each.confidence) for each, mark in surest_first)
        return Seen(tuple(seen), ", ".join(words) or "nothing is marked")

    def _drill(self, ask: Ask, query: Drill) -> Seen:
        """The annotation that is the region asked about; else the surest whose centre lies in it; else nothing."""
        marks = [(mark, mark.seen(query.look_xyxy_px, self.view_px)) for mark in self._marks(ask)]
        closest = max(marks, key=lambda each: _likeness(each[1], query), default=None)
        if closest is None or iou(closest[1].box_xyxy_px, query.box_xyxy_px) <= SAME_IOU:
            inside = [each for each in marks if _holds(query.box_xyxy_px, centre(each[1].box_xyxy_px))]
            closest = max(inside, key=lambda each: each[1].confidence, default=None)
        if closest is None:
            return Seen((Candidate(query.box_xyxy_px, query.label, 0.0),), "nothing is marked here")
        mark, seen = closest
        return Seen((seen,), mark.words(seen.confidence))

    def _marks(self, ask: Ask) -> Iterator["_Mark"]:
        """By image id, as a call is named: an image that a question has twice bears the marks of both."""
        question, size = ask.question, ask.image.size
        for region in question.regions:
            box = clamp(region.box_xyxy_px, size)
            if box is None or question.image_ids[region.image] != ask.image_id:
                continue
            side = self._side(region.label, box, size)
            weight = relevance(region.label, region.provenance, side, question.question, question.answer)
            yield _Mark(box, region.label, side, zone(box, size), weight)

    def _side(self, label: str, box: Box, size: Size) -> str:
        named = sides_named(label)
        if len(named) == 1:
            return next(iter(named))
        return side_of(box, size, mirrored=self.sides_of == "patient")


@dataclass(frozen=True, slots=True)
class _Mark:
    """An annotated region as it matters for one question."""

    box_xyxy_px: Box
    label: str
    side: str
    zone: str
    relevance: float

    def seen(self, view: Box, view_px: int) -> Candidate:
        confidence = self.relevance * visibility(self.box_xyxy_px, view, view_px)
        return Candidate(self.box_xyxy_px, self.label, confidence)

    def words(self, confidence: float) -> str:
        """Band, label and place, e.g. "likely nodule on the upper left"; never the answer to the question."""
        band = next(word for least, word in BANDS if confidence >= least)
        name = self.label.replace("_", " ").lower()
        return f"{band} {name}" if sides_named(name) else f"{band} {name} on the {self.zone} {self.side}"


def visibility(box_xyxy_px: Box, view_xyxy_px: Box, view_px: int) -> float:
    """v = s² / (s² + 8²) in [0, 1); 0 for what lies outside the view."""
    x0, y0 = max(box_xyxy_px[0], view_xyxy_px[0]), max(box_xyxy_px[1], view_xyxy_px[1])
    x1, y1 = min(box_xyxy_px[2], view_xyxy_px[2]), min(box_xyxy_px[3], view_xyxy_px[3])
    if x1 <= x0 or y1 <= y0:
        return 0.0
    shorter_px = min(x1 - x0, y1 - y0) * view_px / math.sqrt(area(view_xyxy_px))
    return shorter_px**2 / (shorter_px**2 + HALF_VISIBLE_PX**2)


def _likeness(seen: Candidate, query: Drill) -> tuple[float, bool]:
    """Of two annotations with one box, the one with the label asked about."""
    return iou(seen.box_xyxy_px, query.box_xyxy_px), seen.label == query.label


def _holds(box: Box, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] < box[2] and box[1] <= point[1] < box[3]
