"""Measuring a policy on a split: one episode per question, judged as in training or by a protocol, with intervals.

Episodes that fail count as wrong under every protocol. The question-only majority answer, judged by the same protocol,
stands beside every number, unless there is no train split to take it from. A report has the numbers of one protocol,
and no mean over two metrics.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from schemas.errors import InputError
from schemas.protocols.base import ACCURACY, Protocol, Verdict
from schemas.protocols.fovea import FOVEA
from schemas.protocols.options import gold_letter
from schemas.records import Question
from trainer.core.intervals import interval, majority_answers, majority_guess
from trainer.data import Scenes
from trainer.environment import Environment, Episode, LookTaken, Scene
from trainer.lessons import is_shown, named_regions
from trainer.policy import Policy
from trainer.rollout.local import LocalRollout
from trainer.rollouts import roll_out

LIVE_ROWS = 64
FAILED = Verdict(0.0, False, "no answer")


@dataclass(frozen=True)
class Outcome:
    """One question's episode and its verdicts.

    `found` is None when the question names no annotated finding, `majority` when nobody knows a majority answer,
    `episode` when the policy could not be shown the images, which `unshown` says why.
    """

    question: Question
    episode: Episode | None
    verdict: Verdict
    majority: Verdict | None
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

    @property
    def is_correct(self) -> bool | None:
        """None where the protocol grades instead of deciding."""
        return self.verdict.is_correct


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
    for start in range(0, len(questions), LIVE_ROWS):
        batch = questions[start : start + LIVE_ROWS]
        shown = [_shown(scenes, question) for question in batch]
        engine = LocalRollout(policy, 1.0 if is_greedy else temperature)
        seen = [scene for scene in shown if isinstance(scene, Scene)]
        rolled = iter(roll_out(environment, engine, seen, 1, ("evaluate",), is_greedy=is_greedy) if seen else [])
        for question, scene in zip(batch, shown, strict=True):
            usual = protocol.judge(_lettered(majority_guess(question, majority), question), question) if train else None
            if isinstance(scene, str):
                yield Outcome(question, None, FAILED, usual, unshown=scene)
            else:
                yield _outcome(environment, question, next(rolled)[0].episode, usual, protocol)


def _lettered(guess: str, question: Question) -> str:
    """A guess that is the text of an option as its letter, which every protocol can read, as some cannot a text."""
    if question.answer_kind != "choice":
        return guess
    return gold_letter(replace(question, answer=guess)) or guess


def _shown(scenes: Scenes, question: Question) -> Scene | str:
    """The scene of a question, or why the policy cannot be shown it."""
    try:
        return scenes(question)
    except InputError as error:
        return error.what


def _outcome(
    environment: Environment, question: Question, episode: Episode, usual: Verdict | None, protocol: Protocol
) -> Outcome:
    return Outcome(
        question,
        episode,
        FAILED if episode.answer is None else protocol.judge(episode.answer, question),
        usual,
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
    """The protocol's numbers over all questions and by what it breaks them down by, each beside the majority answer.

    `fallbacks` lists the questions where the harness would not have decided; each counts as wrong.
    `modality_of` maps image ids.
    """
    looks = [len(one.looks) for one in results]
    fallbacks = _fallbacks(results)
    return {
        "protocol": protocol.name,
        "protocol_origin": protocol.origin,
        "headline": protocol.headline,
        "overall": _summary(results, "overall", protocol),
        **_broken_down(results, protocol, modality_of or {}),
        "n_fallback": sum(map(len, fallbacks.values())),
        "fallbacks": fallbacks,
        "grammatical": _share([one.is_grammatical for one in results]),
        "looks_per_question": sum(looks) / len(looks) if looks else None,
        "found": _share([one.found for one in results if one.found is not None]),
        "failures": [
            {"question_id": one.question.question_id, "problems": one.problems} for one in results if one.answer is None
        ],
    }


def _fallbacks(results: Sequence[Outcome]) -> dict[str, list[str]]:
    """Question ids by what the harness would have done instead of deciding."""
    found: dict[str, list[str]] = {}
    for one in results:
        if one.verdict.fallback is not None:
            found.setdefault(one.verdict.fallback, []).append(one.question.question_id)
    return found


def _broken_down(
    results: Sequence[Outcome], protocol: Protocol, modality_of: Mapping[str, str | None]
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


def _by(results: Sequence[Outcome], value: Callable[[Question], str | None], protocol: Protocol) -> dict[str, Any]:
    groups: dict[str, list[Outcome]] = {}
    for one in results:
        groups.setdefault(str(value(one.question)), []).append(one)
    return {name: _summary(groups[name], name, protocol) for name in sorted(groups)}


def _summary(results: Sequence[Outcome], name: str, protocol: Protocol) -> dict[str, Any]:
    """Number, mean score under its metric's name, interval, majority; no mean where the metrics differ."""
    metrics = {protocol.metric_of(one.question) for one in results}
    if len(metrics) > 1:
        return {"n": len(results), ACCURACY: None, "interval_95": None, "majority": None}
    scores = [one.verdict.score for one in results]
    return {
        "n": len(results),
        (metrics or {ACCURACY}).pop(): _share(scores),
        "interval_95": interval(scores, name, len(scores)),
        "majority": _share([one.majority.score for one in results if one.majority is not None]),
        **_also(results, protocol),
    }


def _also(results: Sequence[Outcome], protocol: Protocol) -> dict[str, dict[str, float]]:
    """Means of the numbers that the harness prints beside its score; a verdict without them counts as 0.

    None over several parts: a harness prints them of one, as MedEvalKit precision of its open questions.
    """
    if len({protocol.part_of(one.question) for one in results}) > 1:
        return {}
    verdicts = [one.verdict for one in results]
    names = dict.fromkeys(name for one in verdicts for name, _ in one.also)
    means = {name: sum(dict(one.also).get(name, 0.0) for one in verdicts) / len(verdicts) for name in names}
    return {"also": means} if means else {}


def _share(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
