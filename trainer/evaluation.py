"""Measuring a policy on a split: one episode per question, judged as in training or by a protocol, with intervals.

Episodes that fail count as wrong under every protocol. The question-only majority answer, judged by the same protocol,
stands beside every number, unless there is no train split to take it from.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.errors import InputError
from schemas.intervals import mean
from schemas.protocols.base import Protocol, Verdict
from schemas.protocols.fovea import FOVEA
from schemas.protocols.majority import majority_answers, majority_verdict
from schemas.protocols.report import Judged, numbers
from schemas.records import Question
from trainer.data import Scenes
from trainer.environment import Environment, Episode, LookTaken, Scene
from trainer.lessons import is_shown, named_regions
from trainer.policy import Policy
from trainer.rollout.local import LocalRollout
from trainer.rollouts import roll_out

LIVE_ROWS = 64
FAILED = Verdict(0.0, False, "no answer")


@dataclass(frozen=True)
class Outcome(Judged):
    """One question's episode and its verdicts.

    `found` is None when the question names no annotated finding, `episode` when the policy could not be shown the
    images, which `unshown` says why.
    """

    episode: Episode | None
    is_grammatical: bool = False
    found: bool | None = None
    unshown: str | None = None

    @property
    def answer(self) -> str | None:
        return None if self.episode is None else self.episode.answer

    @property
    def problems(self) -> list[str]:
        return [self.unshown or "not shown"] if self.episode is None else self.episode.problems

    @property
    def looks(self) -> list[LookTaken]:
        return [] if self.episode is None else self.episode.looks


def outcomes(
    policy: Policy,
    environment: Environment,
    scenes: Scenes,
    questions: Sequence[Question],
    train: Sequence[Question],
    temperature: float = 0.0,
    protocol: Protocol = FOVEA,
) -> Iterator[Outcome]:
    """Episodes of all questions, LIVE_ROWS at a time: greedy at temperature 0, else sampled, with noise by question."""
    majority = majority_answers(train)
    is_greedy = temperature == 0
    engine = LocalRollout(policy, temperature or 1.0, is_greedy=is_greedy, live_rows=LIVE_ROWS)
    why_not: dict[str, str] = {}
    rolled = roll_out(environment, engine, _shown(scenes, questions, why_not), 1, ("evaluate",))
    group = next(rolled, None)
    for question in questions:
        usual = majority_verdict(question, majority, protocol)
        if question.question_id in why_not:
            yield Outcome(question, FAILED, usual, None, unshown=why_not[question.question_id])
        else:
            yield _outcome(environment, question, group[0].episode, usual, protocol)
            group = next(rolled, None)


def _shown(scenes: Scenes, questions: Sequence[Question], why_not: dict[str, str]) -> Iterator[Scene]:
    """The scenes of the questions, and for those that the policy cannot be shown: why not."""
    for question in questions:
        try:
            yield scenes(question)
        except InputError as error:
            why_not[question.question_id] = error.what


def _outcome(
    environment: Environment, question: Question, episode: Episode, usual: Verdict | None, protocol: Protocol
) -> Outcome:
    return Outcome(
        question,
        FAILED if episode.answer is None else protocol.judge(episode.answer, question),
        usual,
        episode,
        environment.is_grammatical(episode),
        _found(episode),
    )


def _found(episode: Episode) -> bool | None:
    """Whether some look, at the right image, holds a finding that the question names."""
    named = named_regions(episode.scene)
    return any(is_shown(region, episode.placed_looks) for region in named) if named else None


def report(
    results: Sequence[Outcome], protocol: Protocol = FOVEA, modality_of: Mapping[str, str | None] | None = None
) -> dict[str, Any]:
    """The protocol's numbers, and how the policy came by them: grammar, looks, findings that were looked at."""
    looks = [len(one.looks) for one in results]
    return numbers(results, protocol, modality_of) | {
        "grammatical": mean([one.is_grammatical for one in results]),
        "looks_per_question": mean(looks),
        "found": mean([one.found for one in results if one.found is not None]),
        "failures": [
            {"question_id": one.question.question_id, "problems": one.problems} for one in results if one.answer is None
        ],
    }
