"""What the three evaluations say, in sentences that never claim more than the intervals allow."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb
from typing import Any

from pipeline.core.phantom_questions import CROP_ONLY_TYPES
from pipeline.stages.demo_results import Evaluation, Results, Score


@dataclass(frozen=True, slots=True)
class Changed:
    """Questions on which two policies differ, paired; `p_value` of the exact two-sided sign test (McNemar)."""

    n_gained: int
    n_lost: int

    @property
    def p_value(self) -> float:
        n, fewer = self.n_gained + self.n_lost, min(self.n_gained, self.n_lost)
        return min(1.0, 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n)


def changed(before: Evaluation, after: Evaluation) -> Changed:
    """Over the questions that both were asked."""
    was = {one.question_id: one.is_correct for one in before.played}
    pairs = [(was[one.question_id], one.is_correct) for one in after.played if one.question_id in was]
    return Changed(pairs.count((False, True)), pairs.count((True, False)))


def crop_only(evaluation: Evaluation) -> tuple[str, Score] | None:
    """(question type, score) of the questions that cannot be decided in the policy's whole view, if any were asked."""
    return next(((name, evaluation.by_type[name]) for name in CROP_ONLY_TYPES if name in evaluation.by_type), None)


def percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"


def in_words(score: Score) -> str:
    low, high = score.interval
    return f"{percent(score.accuracy)} (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"


def claims(results: Results, form: str) -> list[str]:
    """Paragraphs, the most important first."""
    untrained, warm, trained = results.evaluations
    said = [_headline(untrained, warm, trained), _against_majority(trained.overall)]
    if one := crop_only(trained):
        name, score = one
        start = f"Of the {score.n} crop-only questions (type “{name}”: not decidable in the whole view) "
        said.append(start + f"the trained policy answers {in_words(score)}. {_against_majority(score)}")
    said.append(_since_warm_start(warm, trained))
    if form == "short":
        said.append("This is the short form of the demo: it shows that every part runs, not that anything is learned.")
    return said


def _headline(untrained: Evaluation, warm: Evaluation, trained: Evaluation) -> str:
    return (
        f"After training, the policy answers {in_words(trained.overall)} of {trained.overall.n} test questions; "
        f"untrained it answered {percent(untrained.overall.accuracy)}, "
        f"after the warm start {percent(warm.overall.accuracy)}. {_decoding(trained.temperature)}"
    )


def _decoding(temperature: float) -> str:
    if temperature == 0:
        return "Episodes are greedy."
    return f"Episodes are sampled at temperature {temperature:g}, as in training: that is what GRPO improves."


def _against_majority(score: Score) -> str:
    if score.majority is None:
        return "What the question alone suggests is not known."
    alone = f"Who reads only the question and never sees the image gets {percent(score.majority)}"
    if score.interval[0] > score.majority:
        return f"{alone}; the interval lies wholly above that."
    if score.interval[1] < score.majority:
        return f"{alone}; the interval lies wholly below that."
    return f"{alone}; the interval holds that value, so the image is not shown to have helped."


def _since_warm_start(warm: Evaluation, trained: Evaluation) -> str:
    both = changed(warm, trained)
    if not both.n_gained + both.n_lost:
        return (
            "Since the warm start, dual-stream GRPO has changed no answer from wrong to right or from right to wrong."
        )
    counts = f"Dual-stream GRPO put {both.n_gained} answers right and {both.n_lost} wrong since the warm start"
    if both.p_value < 0.05:
        return f"{counts} (exact sign test, p\u00a0=\u00a0{both.p_value:.2g})."
    return (
        f"{counts} (exact sign test, p\u00a0=\u00a0{both.p_value:.2g}): one run of this size does not tell them apart."
    )


def summary(results: Results) -> dict[str, Any]:
    """The same figures for programs."""
    return {
        "accuracy": {one.label: _plain(one.overall) for one in results.evaluations},
        "crop_only": {
            one.label: {"type": found[0], **_plain(found[1])}
            for one in results.evaluations
            if (found := crop_only(one))
        },
        "store_digest": results.store_digest,
        "recipe_sha256": results.run.get("recipe_sha256"),
    }


def lines(results: Results) -> list[str]:
    """The same figures for people, on a terminal."""
    rows: list[tuple[str, Mapping[str, Score]]] = [("all", {one.label: one.overall for one in results.evaluations})]
    if found := crop_only(results.trained):
        rows.append((f"crop-only ({found[0]})", {one.label: one.by_type[found[0]] for one in results.evaluations}))
    said = []
    for name, scores in rows:
        said.append(f"{name}, {results.trained.overall.n if name == 'all' else found[1].n} test questions")
        said += [f"  {label:<11}{in_words(score)}" for label, score in scores.items()]
        said.append(f"  {'majority':<11}{percent(scores[results.trained.label].majority)} (question alone)")
    return said


def _plain(score: Score) -> dict[str, Any]:
    return {
        "n": score.n,
        "accuracy": score.accuracy,
        "interval_95": list(score.interval),
        "majority": score.majority,
    }
