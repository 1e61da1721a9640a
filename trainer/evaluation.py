"""Measuring a policy on a split: one episode per question, judged as in training, with intervals.

Episodes that fail count as wrong. The question-only majority answer stands beside every accuracy, unless there is no
train split to take it from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.answers import judge
from schemas.boxes import area, intersection
from schemas.records import Question
from trainer.core.intervals import interval, majority_answers, majority_guess
from trainer.data import Scenes
from trainer.environment import Environment, Episode
from trainer.lessons import COVERED_MIN, named_regions
from trainer.policy import Policy
from trainer.rollout.local import LocalRollout
from trainer.rollouts import roll_out

LIVE_ROWS = 64


@dataclass(frozen=True)
class Outcome:
    """One question's episode and its verdicts.

    `found` is None when the question names no annotated finding, `is_majority_correct` when nobody knows a majority.
    """

    question: Question
    episode: Episode
    is_correct: bool
    is_majority_correct: bool | None
    is_grammatical: bool
    found: bool | None


def outcomes(
    policy: Policy,
    environment: Environment,
    scenes: Scenes,
    questions: Sequence[Question],
    train: Sequence[Question],
    temperature: float = 0.0,
) -> Iterator[Outcome]:
    """Episodes of all questions, LIVE_ROWS at a time: greedy at temperature 0, else sampled, with noise by question."""
    majority = majority_answers(train)
    is_greedy = temperature == 0
    for start in range(0, len(questions), LIVE_ROWS):
        batch = questions[start : start + LIVE_ROWS]
        shown = [scenes(question) for question in batch]
        engine = LocalRollout(policy, 1.0 if is_greedy else temperature)
        rolled = roll_out(environment, engine, shown, 1, ("evaluate",), is_greedy=is_greedy)
        for question, (one,) in zip(batch, rolled, strict=True):
            guess = majority_guess(question, majority) if train else None
            yield _outcome(environment, question, one.episode, guess)


def _outcome(environment: Environment, question: Question, episode: Episode, guess: str | None) -> Outcome:
    def is_right(said: str) -> bool:
        return judge(said, question.answer, question.answer_kind, question.options)

    return Outcome(
        question,
        episode,
        is_right(episode.answer or ""),
        None if guess is None else is_right(guess),
        environment.is_grammatical(episode),
        _found(question, episode),
    )


def _found(question: Question, episode: Episode) -> bool | None:
    """Whether some look holds a finding that the question names."""
    named = [region.box_xyxy_px for region in named_regions(question, episode.scene.size)]
    if not named:
        return None
    return any(intersection(look, box) >= COVERED_MIN * area(box) for look in episode.look_boxes for box in named)


def report(results: Sequence[Outcome]) -> dict[str, Any]:
    """Accuracy overall, by answer kind and by question type, each beside the question-only majority answer."""
    looks = [len(one.episode.looks) for one in results]
    return {
        "overall": _summary(results, "overall"),
        "by_kind": _by(results, "answer_kind"),
        "by_type": _by(results, "question_type"),
        "grammatical": _share([one.is_grammatical for one in results]),
        "looks_per_question": sum(looks) / len(looks) if looks else None,
        "found": _share([one.found for one in results if one.found is not None]),
        "failures": [
            {"question_id": one.question.question_id, "problems": one.episode.problems}
            for one in results
            if one.episode.answer is None
        ],
    }


def _by(results: Sequence[Outcome], name: str) -> dict[str, Any]:
    kinds = sorted({str(getattr(one.question, name)) for one in results})
    return {
        kind: _summary([one for one in results if str(getattr(one.question, name)) == kind], kind) for kind in kinds
    }


def _summary(results: Sequence[Outcome], name: str) -> dict[str, Any]:
    right = [one.is_correct for one in results]
    return {
        "n": len(results),
        "accuracy": _share(right),
        "interval_95": interval(right, name, len(right)),
        "majority": _share([one.is_majority_correct for one in results if one.is_majority_correct is not None]),
    }


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None
