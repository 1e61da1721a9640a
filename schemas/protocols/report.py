"""The numbers of one protocol over judged answers, each beside its interval and the question-only majority.

A report has the numbers of one protocol, and no mean over two metrics.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.intervals import interval, mean
from schemas.protocols.base import ACCURACY, Protocol, Verdict
from schemas.records import Question


@dataclass(frozen=True)
class Judged:
    """What an answer to a question has earned; `majority` is None when nobody knows a majority answer."""

    question: Question
    verdict: Verdict
    majority: Verdict | None

    @property
    def is_correct(self) -> bool | None:
        """None where the protocol grades instead of deciding."""
        return self.verdict.is_correct


def numbers(
    results: Sequence[Judged], protocol: Protocol, modality_of: Mapping[str, str | None] | None = None
) -> dict[str, Any]:
    """Over all questions, and by what the harness breaks them down by; `modality_of` maps image ids.

    `fallbacks` lists the questions where the harness would not have decided; each counts as wrong.
    """
    fallbacks = _fallbacks(results)
    return {
        "protocol": protocol.name,
        "protocol_origin": protocol.origin,
        "headline": protocol.headline,
        "overall": _summary(results, "overall", protocol),
        **_broken_down(results, protocol, modality_of or {}),
        "n_fallback": sum(map(len, fallbacks.values())),
        "fallbacks": fallbacks,
    }


def _fallbacks(results: Sequence[Judged]) -> dict[str, list[str]]:
    """Question ids by what the harness would have done instead of deciding."""
    found: dict[str, list[str]] = {}
    for one in results:
        if one.verdict.fallback is not None:
            found.setdefault(one.verdict.fallback, []).append(one.question.question_id)
    return found


def _broken_down(
    results: Sequence[Judged], protocol: Protocol, modality_of: Mapping[str, str | None]
) -> dict[str, dict[str, Any]]:
    values: dict[str, Callable[[Question], str | None]] = {
        "part": protocol.part_of,
        "kind": lambda question: question.answer_kind,
        "type": lambda question: question.question_type,
        "modality": lambda question: modality_of.get(question.image_ids[0]),
    }
    sources = sorted({one.question.source for one in results})
    names = dict.fromkeys(name for source in sources for name in protocol.groups_of(source))
    return {f"by_{name}": _by(results, values[name], protocol) for name in names}


def _by(results: Sequence[Judged], value: Callable[[Question], str | None], protocol: Protocol) -> dict[str, Any]:
    groups: dict[str, list[Judged]] = {}
    for one in results:
        groups.setdefault(str(value(one.question)), []).append(one)
    return {name: _summary(groups[name], name, protocol) for name in sorted(groups)}


def _summary(results: Sequence[Judged], name: str, protocol: Protocol) -> dict[str, Any]:
    """Number, mean score under its metric's name, interval, majority; no mean where the metrics differ."""
    metrics = {protocol.metric_of(one.question) for one in results}
    if len(metrics) > 1:
        return {"n": len(results), ACCURACY: None, "interval_95": None, "majority": None}
    scores = [one.verdict.score for one in results]
    return {
        "n": len(results),
        (metrics or {ACCURACY}).pop(): mean(scores),
        "interval_95": interval(scores, name, len(scores)),
        "majority": mean([one.majority.score for one in results if one.majority is not None]),
        **_also(results, protocol),
    }


def _also(results: Sequence[Judged], protocol: Protocol) -> dict[str, dict[str, float]]:
    """Means of the numbers that the harness prints beside its score; a verdict without them counts as 0.

    None over several parts: a harness prints them of one, as MedEvalKit precision of its open questions.
    """
    if len({protocol.part_of(one.question) for one in results}) > 1:
        return {}
    verdicts = [one.verdict for one in results]
    names = dict.fromkeys(name for one in verdicts for name, _ in one.also)
    means = {name: sum(dict(one.also).get(name, 0.0) for one in verdicts) / len(verdicts) for name in names}
    return {"also": means} if means else {}
