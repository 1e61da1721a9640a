"""Test doubles: a `ScriptedExpert` answers from a hash of what it is asked, so its answers depend on nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from schemas.boxes import Box, Size
from schemas.experts import Ask, Candidate, Drill, ExpertIdentity, Failure, Scan, Seen, as_asked, call_id
from schemas.records import Question
from schemas.seeds import uniform

IDENTITY = ExpertIdentity("scripted", "1")
ODD_BOXES = (
    (float("nan"), 0.0, 5.0, 5.0),
    (5.0, 5.0, 5.0, 9.0),
    (9.0, 9.0, 2.0, 2.0),
    (-1e30, -1e30, 1e30, 1e30),
    (500.0, 500.0, 600.0, 600.0),
    (0.0, 0.0, float("inf"), 10.0),
    (1.0, 2.0, 3.0),
    None,
    "abcd",
    (3.0, 3.0, 3.0 + 1e-12, 9.0),
    (10, 10, 30, 30),
)
ODD_CONFIDENCES = (float("nan"), float("inf"), -float("inf"), -3.0, 7.0, None, "x", 10**400, 0, 1, "0.5", True)


def question(question_id: str = "q0", *, split: str = "train", **changes: object) -> Question:
    fields = {
        "question_id": question_id,
        "source": "scripted",
        "split": split,
        "image_ids": ("image0",),
        "question": "Is there a nodule?",
        "answer": "yes",
        "answer_kind": "closed",
    }
    return Question(**(fields | changes))


@dataclass
class ScriptedExpert:
    """`script`: which expert. `fails`: share of calls that fail. `odd`: share of nonsense. `moves`: drills refine."""

    script: int = 0
    n_regions: int = 5
    fails: float = 0.0
    odd: float = 0.0
    moves: bool = True
    size: Size = (200, 100)
    identity: ExpertIdentity = IDENTITY
    batches: list[list[str]] = field(default_factory=list)

    def answer(self, asks: Sequence[Ask]) -> list[Seen | Failure]:
        names = [call_id(self.identity.id, as_asked(ask.question), ask.image_id, ask.query) for ask in asks]
        self.batches.append(names)
        return [self._one(ask.query, name) for ask, name in zip(asks, names, strict=True)]

    @property
    def n_calls(self) -> int:
        return sum(map(len, self.batches))

    def _one(self, query: Scan | Drill, name: str) -> Seen | Failure:
        if self._draw(name, "fail") < self.fails:
            return Failure("timeout", f"no answer to {name[:8]}", "half a sen")
        if isinstance(query, Drill):
            box = self._moved(query.box_xyxy_px, name) if self.moves else query.box_xyxy_px
            return Seen((self._candidate(box, query.label, name, 0),), f"drilled {name[:4]}", "{}")
        n = self.n_regions if not query.visited_xyxy_px else int(2 * self._draw(name, "n"))
        candidates = (self._candidate(self._box(name, index), f"r{index}", name, index) for index in range(n))
        return Seen(tuple(candidates), f"scanned {name[:4]}", "[]")

    def _candidate(self, box: Box, label: str, name: str, index: int) -> Candidate:
        confidence = self._draw(name, index, "confidence")
        if self._draw(name, index, "odd box") < self.odd:
            box = ODD_BOXES[int(len(ODD_BOXES) * self._draw(name, index, "which box"))]
        if self._draw(name, index, "odd confidence") < self.odd:
            confidence = ODD_CONFIDENCES[int(len(ODD_CONFIDENCES) * self._draw(name, index, "which confidence"))]
        return Candidate(box, label, confidence)

    def _box(self, name: str, index: int) -> Box:
        """Somewhere in the image, 10 % to 50 % of its sides: some overlap."""
        edges = []
        for axis in (0, 1):
            side = self.size[axis] * (0.1 + 0.4 * self._draw(name, index, axis, "side"))
            low = self._draw(name, index, axis, "low") * (self.size[axis] - side)
            edges.append((low, low + side))
        return edges[0][0], edges[1][0], edges[0][1], edges[1][1]

    def _moved(self, box: Box, name: str) -> Box:
        sides = (box[2] - box[0], box[3] - box[1]) * 2
        return tuple(edge + 0.2 * sides[i] * (self._draw(name, i, "move") - 0.5) for i, edge in enumerate(box))

    def _draw(self, *key: object) -> float:
        return uniform("scripted", self.script, *key)


def any_seen() -> st.SearchStrategy[Seen]:
    """Answers of the most hostile expert."""
    edge = st.one_of(st.floats(-50, 250, width=32), st.floats(allow_nan=True, allow_infinity=True))
    box = st.one_of(st.tuples(edge, edge, edge, edge), st.sampled_from(ODD_BOXES))
    confidence = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from(ODD_CONFIDENCES))
    candidate = st.builds(Candidate, box, st.text(max_size=3), confidence)
    return st.lists(candidate, max_size=6).map(lambda candidates: Seen(tuple(candidates), ""))
