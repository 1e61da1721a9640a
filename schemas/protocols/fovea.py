"""fovea's own protocol: the strict judge that rewards use too (`schemas.answers`). It is nobody's published score."""

from schemas.answers import judge
from schemas.protocols.base import Protocol, Verdict, decided
from schemas.records import Question


def verdict(response: str, question: Question) -> Verdict:
    is_correct = judge(response, question.answer, question.answer_kind, question.options)
    return decided(is_correct, question.answer_kind)


FOVEA = Protocol(
    name="fovea",
    origin="ours: schemas/answers.py",
    covers="every question",
    headline="accuracy over all questions",
    part=lambda question: question.answer_kind,
    rule=verdict,
    groups={"": ("kind", "type")},
)
