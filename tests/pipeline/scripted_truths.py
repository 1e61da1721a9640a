"""Small stores with known regions, and an expert that is right exactly as often as it is told to be."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.stages.audit_expert import ExpertReport, Which, audit_asked
from schemas.experts import Ask, Candidate, Drill, ExpertIdentity, Failure, Seen
from schemas.reader import Store
from schemas.records import POOL, Finding, Question, Region
from schemas.rows import to_table
from tests.pipeline.small_stores import INGEST, asked, drawn_image, put_questions, put_slice

SPOT, AWAY = (10.0, 10.0, 20.0, 20.0), (40.0, 30.0, 50.0, 40.0)


def spotted(*boxes: tuple[float, float, float, float], label: str = "spot", image: int = 0) -> tuple[Region, ...]:
    return tuple(Region(box, label, "drawn", image) for box in boxes)


def store_of(root: Path, n_questions: int, **changed: Any) -> Store:
    """`n_questions` drawings, each asked about its one spot."""
    images = [drawn_image(number) for number in range(n_questions)]
    questions = [asked(number, image, **({"regions": spotted(SPOT)} | changed)) for number, image in enumerate(images)]
    store = Store(root)
    put_questions(store, images, questions)
    return store


def store_with(root: Path, questions: Sequence[Question], findings: Sequence[Finding], n_images: int) -> Store:
    """These questions and findings on the first drawings."""
    store = Store(root)
    tables = {
        ("images", POOL): to_table("images", [drawn_image(number) for number in range(n_images)]),
        ("findings", POOL): to_table("findings", findings),
    }
    for split in sorted({question.split for question in questions}):
        tables["questions", split] = to_table("questions", [one for one in questions if one.split == split])
    put_slice(store, INGEST, tables, {})
    return store


@dataclass
class TellingExpert:
    """`script[n]` answers question n: (confidence of the scan, whether its box is right, confidence of the drill)."""

    script: Sequence[tuple[float, bool, float] | None]
    privileged: bool = False
    mute: frozenset[int] = frozenset()  # drills without an answer
    fails: frozenset[int] = frozenset()  # scans that fail
    n_asks: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def identity(self) -> ExpertIdentity:
        return ExpertIdentity("telling", "1", privileged=self.privileged)

    def answer(self, asks: Sequence[Ask]) -> list[Seen | Failure]:
        self.n_asks += len(asks)
        return [self._one(ask) for ask in asks]

    def take_usage(self) -> dict[str, Any]:
        return {"n_requests": 2 * self.n_asks, "tokens_in": 10 * self.n_asks, "cost": None}

    def _one(self, ask: Ask) -> Seen | Failure:
        number = int(ask.question.question_id.removeprefix("drawn-"))
        said = self.script[number % len(self.script)]
        if isinstance(ask.query, Drill):
            after = said[2] if said else 0.0
            return Seen(() if number in self.mute else (Candidate(ask.query.box_xyxy_px, "", after),), "")
        self.asked.append(ask.question.question_id)
        if number in self.fails:
            return Failure("timeout", "no answer in time")
        return Seen((Candidate(SPOT if said[1] else AWAY, "spot", said[0]),) if said else (), "")


def measured(store: Store, expert: TellingExpert, which: Which | None = None, looks_max: int = 4) -> ExpertReport:
    snapshot = store.snapshot()
    return audit_asked(snapshot, snapshot.slice(INGEST), which or Which(), expert, looks_max)
