"""One question's group: the policy's rollouts and the expert's trajectories, rewarded, compared, weighted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.answers import judge
from trainer.core.advantages import AdvantageConfig, GroupAdvantages, Stream, advantages
from trainer.core.rewards import Reward, RewardConfig, reward
from trainer.environment import Environment, Episode
from trainer.losses import Counts, normalisers


@dataclass(frozen=True)
class Member:
    """One trajectory of a group; `entropies` (nats) are those seen while it was sampled, empty for an expert."""

    episode: Episode
    stream: Stream
    is_correct: bool
    reward: Reward
    entropies: tuple[float, ...] = ()


@dataclass(frozen=True)
class Group:
    members: tuple[Member, ...]
    advantages: GroupAdvantages

    def of(self, stream: Stream) -> list[Member]:
        return [member for member in self.members if member.stream == stream]


def member(
    environment: Environment, episode: Episode, stream: Stream, config: RewardConfig, entropies: tuple[float, ...] = ()
) -> Member:
    """Judge an episode: no answer is a wrong answer."""
    question = episode.scene.question
    said = episode.answer
    is_correct = said is not None and judge(said, question.answer, question.answer_kind, question.options)
    paid = reward(is_correct, environment.is_grammatical(episode), episode.placed_looks, config)
    return Member(episode, stream, is_correct, paid, entropies)


def group(members: Sequence[Member], config: AdvantageConfig) -> Group:
    values = advantages(
        [one.reward.total for one in members],
        [one.stream for one in members],
        [one.is_correct for one in members],
        config,
    )
    return Group(tuple(members), values)


def counts(groups: Sequence[Group], lambda_sft: float) -> Counts:
    """Global normalisers: written tokens per stream over all groups, dropped ones included."""
    members = [one for each in groups for one in each.members]
    n_tokens = [sum(one.episode.is_written) for one in members]
    expert_tokens = sum(n for n, one in zip(n_tokens, members, strict=True) if one.stream == "expert")
    return normalisers(n_tokens, [one.stream for one in members], float(expert_tokens) if lambda_sft > 0 else 0.0)


def mean(values: Sequence[float]) -> float | None:
    """The mean of what is not NaN, None when nothing is left."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None
