"""What an answer-scoring protocol is: a name, what it covers, and a pure rule from (response, question) to a verdict.

A protocol never guesses. Where its harness would draw an answer at random, ask a model, or break, the verdict is
"wrong" and says so in `fallback`, so that a report can count and list it. Numbers of two protocols, or of two metrics
of one protocol, are never averaged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from schemas.errors import UsageError
from schemas.records import Question

ACCURACY = "accuracy"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one response earns: `score`, in [0, 1], is what the harness averages.

    `is_correct` is null where the harness grades instead of deciding (recall). `also` are numbers that it prints
    beside its score, by the names that it prints them under.
    """

    score: float
    is_correct: bool | None
    rule: str  # which of the protocol's rules decided
    fallback: str | None = None  # what the harness would have done instead of deciding
    also: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Protocol:
    """`part` names the share of the harness's table that a question counts in, null for one it has no rule for.

    `prompts` are facts for a reader: an evaluation in fovea's own dialogue does not use them, so its numbers are those
    of the scoring rule alone.
    """

    name: str
    origin: str  # repository@commit and files that the rule was read from
    covers: str
    headline: str
    part: Callable[[Question], str | None]
    rule: Callable[[str, Question], Verdict]
    prompts: tuple[str, ...] = ()
    metrics: Mapping[str, str] = field(default_factory=dict)  # by part; accuracy where not named
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # part, kind, type, modality; by source

    def part_of(self, question: Question) -> str:
        """The part a question counts in; UsageError for one that this protocol does not define."""
        found = self.part(question)
        if found is None:
            raise UsageError(
                f"protocol {self.name} does not judge this question ({_described(question)})",
                where=question.question_id,
                fix=f"it covers {self.covers}; the default protocol, fovea, judges every question",
            )
        return found

    def judge(self, response: str, question: Question) -> Verdict:
        """The verdict on any text whatsoever; UsageError for a question that this protocol does not define."""
        self.part_of(question)
        return self.rule(response, question)

    def metric_of(self, question: Question) -> str:
        return self.metrics.get(self.part_of(question), ACCURACY)

    def groups_of(self, source: str) -> tuple[str, ...]:
        """What the harness breaks a source's numbers down by."""
        return self.groups.get(source, self.groups.get("", ()))


def decided(is_correct: bool, rule: str, fallback: str | None = None, **also: float) -> Verdict:
    return Verdict(float(is_correct), is_correct, rule, fallback, tuple(also.items()))


def _described(question: Question) -> str:
    said = [f"source {question.source}", f"kind {question.answer_kind}"]
    said += [f"label {question.answer_type}" if question.answer_type else "no OPEN or CLOSED label"]
    return ", ".join([*said, f"{len(question.options)} options"])
