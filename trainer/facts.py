"""The metrics of a batch, made of light records that ranks can exchange: the same records, the same numbers.

It takes no ids, no text and nothing from a device; names and meanings are in `trainer.metrics`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from trainer.core.advantages import FLOAT_NOISE, AdvantageConfig, GroupAdvantages, Stream, StreamStatistics
from trainer.core.rewards import Reward
from trainer.groups import Group, mean
from trainer.losses import LossConfig, RowDiagnostics, kl_k3, row_diagnostics
from trainer.metrics import STREAMS

Metrics = dict[str, float | None]
UNENDED = "length"  # the environment's word for a turn that ran out of tokens


@dataclass(frozen=True, slots=True)
class MemberFacts:
    """One trajectory of a group; `entropies` (nats) are those of its sampled tokens."""

    stream: Stream
    reward: Reward
    advantage: float
    n_looks: int
    n_turns: int
    n_tokens: int  # written
    n_ids: int  # of the whole row
    problems: tuple[str, ...]
    has_answer: bool
    entropies: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """One group; `place` is that of its question among those of the step."""

    place: int
    advantages: GroupAdvantages
    members: tuple[MemberFacts, ...]

    @property
    def is_finite(self) -> bool:
        """Whether every token of the rollouts was drawn from a distribution."""
        return all(math.isfinite(nats) for one in self.members for nats in one.entropies)


@dataclass(frozen=True, slots=True)
class RowFacts:
    """One trained row: means over its written tokens, in nats where they are no probability. `kl`: NaN without one."""

    stream: Stream
    advantage: float
    token_probability: float
    entropy: float
    kl: float
    diagnostics: RowDiagnostics


def facts(group: Group, place: int = 0) -> GroupFacts:
    members = [
        MemberFacts(
            one.stream,
            one.reward,
            advantage,
            n_looks=len(one.episode.looks),
            n_turns=len(one.episode.turns),
            n_tokens=sum(one.episode.is_written),
            n_ids=len(one.episode.ids),
            problems=tuple(one.episode.problems),
            has_answer=one.episode.answer is not None,
            entropies=one.entropies,
        )
        for one, advantage in zip(group.members, group.advantages.values, strict=True)
    ]
    return GroupFacts(place, group.advantages, tuple(members))


def group_metrics(groups: Sequence[GroupFacts], config: AdvantageConfig) -> Metrics:
    """What the log says of the groups of a step."""
    metrics: Metrics = {
        "groups": len(groups),
        "groups_dropped": sum(one.advantages.is_dropped for one in groups),
        "expert_degenerate": sum(one.advantages.is_degenerate_expert for one in groups),
        "unscorable": sum(one.advantages.n_unscorable for one in groups),
    }
    for stream in STREAMS:
        of_groups = _spread([getattr(one.advantages, stream) for one in groups], config)
        of_members = _means([one for each in groups for one in each.members if one.stream == stream])
        metrics |= {f"{stream}/{name}": value for name, value in (of_groups | of_members).items()}
    return metrics | {
        "policy/entropy": mean([nats for each in groups for one in each.members for nats in one.entropies])
    }


def _spread(streams: Sequence[StreamStatistics], config: AdvantageConfig) -> Metrics:
    sigmas = [one.sigma for one in streams if one.sigma is not None]
    return {
        "reward_std": mean(sigmas),
        "flat": sum(one.n > 1 and one.sigma <= FLOAT_NOISE for one in streams),
        "floored": sum(FLOAT_NOISE < one < config.sigma_floor for one in sigmas),
        "alone": sum(one.n == 1 for one in streams),
    }


def _means(members: Sequence[MemberFacts]) -> Metrics:
    return {
        "trajectories": len(members),
        "reward": mean([one.reward.total for one in members]),
        "accuracy": mean([one.reward.accuracy for one in members]),
        "grammar": mean([one.reward.grammar for one in members]),
        "diversity": mean([one.reward.diversity for one in members]),
        "advantage": mean([one.advantage for one in members]),
        "advantage_abs": mean([abs(one.advantage) for one in members]),
        "looks": mean([float(one.n_looks) for one in members]),
        "turns": mean([float(one.n_turns) for one in members]),
        "tokens": mean([float(one.n_tokens) for one in members]),
        "tokens_max": max((one.n_tokens for one in members), default=None),
        "length_max": max((one.n_ids for one in members), default=None),
        "answered": mean([float(one.has_answer) for one in members]),
        "truncated": mean([float(UNENDED in one.problems) for one in members]),
        "invalid": mean([float(any(rule != UNENDED for rule in one.problems)) for one in members]),
    }


def row_facts(
    stream: Stream,
    advantage: float,
    config: LossConfig,
    logprobs: Tensor,
    entropies: Tensor,
    reference_logprobs: Tensor | None = None,
) -> RowFacts:
    """Of one row's written tokens [T]; they come on the host, so that a batch needs one transfer from the device."""
    kl = math.nan if reference_logprobs is None else float(kl_k3(logprobs, reference_logprobs, config).mean())
    diagnostics = row_diagnostics(logprobs, None, advantage, stream, config)
    return RowFacts(stream, advantage, float(logprobs.exp().mean()), float(entropies.mean()), kl, diagnostics)


def row_metrics(rows: Sequence[RowFacts]) -> Metrics:
    """What the log says of the rows that were trained, token by token over a stream; no dropped group is in it."""
    metrics: Metrics = {}
    for stream in STREAMS:
        own = [one for one in rows if one.stream == stream and one.diagnostics.n_tokens]
        metrics |= {f"{stream}/{name}": value for name, value in _per_token(own).items()}
    del metrics["policy/entropy"], metrics["expert/kl"]  # the first is known from sampling, the second is no part of it
    return metrics


def _per_token(rows: Sequence[RowFacts]) -> Metrics:
    told = [one.diagnostics for one in rows]
    tokens = [one.n_tokens for one in told]
    negative = [one.diagnostics for one in rows if one.advantage < 0]
    held = [one for one in rows if not math.isnan(one.kl)]
    return {
        "token_probability": _weighed([one.token_probability for one in rows], tokens),
        "entropy": _weighed([one.entropy for one in rows], tokens),
        "kl": _weighed([one.kl for one in held], [one.diagnostics.n_tokens for one in held]),
        "ratio_min": min((one.ratio_min for one in told), default=None),
        "ratio_max": max((one.ratio_max for one in told), default=None),
        "clip_fraction": _weighed([one.clip_fraction for one in told], tokens),
        "clamped": sum(one.n_clamped for one in told),
        "zero_gradient_share": _weighed([one.zero_gradient_share for one in told], tokens),
        "faint_gradient_share": _weighed([one.faint_gradient_share for one in told], tokens),
        "negatives_zeroed": _weighed([one.zero_gradient_share for one in negative], [one.n_tokens for one in negative]),
    }


def _weighed(means: Sequence[float], counts: Sequence[int]) -> float | None:
    """The mean over all tokens of rows whose own means and numbers of tokens are these."""
    return _ratio([mean * n for mean, n in zip(means, counts, strict=True)], counts)


def _ratio(sums: Sequence[float], counts: Sequence[int]) -> float | None:
    """Correctly rounded sums, so that the order of the rows changes no bit; None when there is nothing."""
    return math.fsum(sums) / sum(counts) if sum(counts) else None
