"""What an expert is asked and what it answers: the words between the GRN machine and anything that looks at images.

The machine asks (`Scan`, `Drill`), an expert answers (`Seen`) or says why it cannot (`Failure`);
nobody here calls a model. Any object with the shape of `Expert` can be plugged in.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Protocol

from schemas.boxes import Box
from schemas.records import Question


@dataclass(frozen=True, slots=True)
class Scan:
    """Where on this image of the question is anything that matters for it?

    `visited_xyxy_px`, boxes on this image, is filled only for an expert that `rescans`.
    """

    visited_xyxy_px: tuple[Box, ...] = ()
    image: int = 0  # index into the question's image_ids


@dataclass(frozen=True, slots=True)
class Drill:
    """How sure are you of this one region, seen in this crop? Round 1 is the widest crop; history is never told."""

    box_xyxy_px: Box
    label: str
    look_xyxy_px: Box
    round: int
    image: int = 0  # index into the question's image_ids


Query = Scan | Drill

NOT_RECORDED = "call_not_recorded"  # error class of what a replay was asked beyond its records: no call was made
ASKED = ("question_id", "image_ids", "question", "answer_kind", "answer_type", "options", "question_type", "language")
GOLD = ("answer", "regions")  # what only a privileged expert knows of a question


@dataclass(frozen=True, slots=True)
class Candidate:
    """A region as an expert gives it; `confidence` in [0, 1], not necessarily a probability."""

    box_xyxy_px: Box
    label: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer: any number of candidates for a scan, exactly one for a drill; `text` is the expert's own words."""

    candidates: tuple[Candidate, ...]
    text: str
    raw: str = ""  # the unparsed output of a model, kept for audit


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer; the question goes to `rejects` with these words."""

    error_class: str
    message: str
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """One query on one image of one question; `image` is that image, decoded by Pillow from the stored bytes."""

    question: Question
    image_id: str
    image: Any
    query: Query


@dataclass(frozen=True, slots=True)
class ExpertIdentity:
    """Who answers. `settings` is everything that changes an answer; it enters the revision that rows record."""

    name: str
    revision: str
    settings: tuple[tuple[str, object], ...] = ()
    privileged: bool = False  # knows the gold annotation: never training data outside the train split
    rescans: bool = False  # wants to be asked again, with the visited boxes, when nothing unvisited is left

    @property
    def id(self) -> str:
        """`name@revision+hash of settings`: the string that rows, slices and call ids carry."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.name}@{self.revision}+{digest}"


class Expert(Protocol):
    identity: ExpertIdentity

    def answer(self, asks: Sequence[Ask]) -> list[Seen | Failure]:
        """One answer per ask, in order; batching is the expert's own business, raising is for bugs only."""


def as_asked(question: Question, *, privileged: bool = False) -> str:
    """Id of a question and a hash of all that an expert may know of it: a reworded question is another one."""
    known = [getattr(question, name) for name in (*ASKED, *(GOLD if privileged else ()))]
    return f"{question.question_id} {hashlib.sha256(json.dumps(known, default=astuple).encode()).hexdigest()}"


def call_id(expert: str, asked: str, image_id: str, query: Query) -> str:
    """sha256 of who was asked what on which image, wherever the question has it; never of the history before it."""
    what: list[object] = [expert, asked, image_id]
    match query:
        case Scan(visited):
            what += ["scan", sorted(visited)]
        case Drill(box, label, look, round_):
            what += ["drill", box, label, look, round_]
    return hashlib.sha256(json.dumps(what, ensure_ascii=False).encode()).hexdigest()
