"""Advantages of one group: who is better than whom, counted within each stream.

Pure arithmetic on one question's rewards. It computes no reward, sees no token, and knows
no loss. Means are correctly rounded sums, so the order of the members changes no bit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Stream = Literal["policy", "expert"]
Mode = Literal["decoupled", "mixed", "policy_baseline"]
Fallback = Literal["zero", "on_baseline", "imitate"]

FLOAT_NOISE = 1e-9  # rewards differ by 1e-3 or not at all; anything below is rounding
REWARD_MAX = 1e6  # in absolute value; no composition of rewards comes near it, a bug does


@dataclass(frozen=True, slots=True)
class AdvantageConfig:
    """How rewards become advantages. [P] paper, [C] released configuration only, [D] ours (MedEyes, arXiv:2511.22018).

    mode: `decoupled` μ, σ of the member's own stream [P] · `mixed` of both together (LUFFY's union mean)
    · `policy_baseline` of the policy stream, for both (LUFFY's split).
    expert_degenerate [D], when σ_expert < sigma_degenerate or all experts' r_acc are equal, `decoupled` only:
    `zero` no spread, no signal (above sigma_degenerate the z-score stands and ranks diversity alone)
    · `on_baseline` (R − μ_policy)/max(σ_union, sigma_floor) · `imitate` 1.
    The paper to the letter is sigma_floor = sigma_degenerate = 0 with `zero`.
    """

    mode: Mode = "decoupled"  # "advantage decoupling" [P]; the others are ablations
    expert_degenerate: Fallback = "on_baseline"  # [D]: gold answers make the degenerate stream the normal case
    sigma_floor: float = 0.05  # [D]: without it a difference of 0.01 in diversity becomes |A| ≈ 2
    sigma_degenerate: float = 0.05  # [D]: half the weight of r_div, i.e. what diversity alone can spread
    eps: float = 1e-4  # ε of the denominator [P]
    divides_by_sigma: bool = True  # [P]; False leaves R − μ (LUFFY's command line, `grpo_use_std=False`)
    experts_max: int = 6  # N_expert [P]
    keeps_wrong_experts: bool = False  # [D]; True is an ablation

    def __post_init__(self) -> None:
        for name, value, known in (("mode", self.mode, Mode), ("expert_degenerate", self.expert_degenerate, Fallback)):
            if value not in get_args(known):
                raise ValueError(f"{name} must be one of {', '.join(get_args(known))}, got {value!r}")
        for name in ("sigma_floor", "sigma_degenerate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if not 0 < self.eps < math.inf:
            raise ValueError(f"eps must be finite and positive, got {self.eps}")
        if self.experts_max < 0:
            raise ValueError(f"experts_max must not be negative, got {self.experts_max}")


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """Scorable members of one stream, their mean and population deviation; both None when there are none."""

    n: int
    mu: float | None
    sigma: float | None


@dataclass(frozen=True, slots=True)
class GroupAdvantages:
    """One advantage per member, in the order given, and what the log needs to explain them."""

    values: tuple[float, ...]
    is_degenerate_expert: bool  # `expert_degenerate` decided the expert stream
    is_dropped: bool  # every advantage of both streams is 0: nothing to learn, leaves before the forward pass
    policy: StreamStatistics
    expert: StreamStatistics
    n_unscorable: int  # NaN rewards


def eligible_experts(
    variants: Sequence[int], is_correct: Sequence[bool | None], config: AdvantageConfig
) -> tuple[bool, ...]:
    """Which expert trajectories join the group: variants 1…experts_max whose own answer is right.

    Variant 0 (plain GRN) serves SFT and ablations. An unscorable answer stays out always: its advantage would be 0.
    """
    allowed = (True, False) if config.keeps_wrong_experts else (True,)
    pairs = zip(variants, is_correct, strict=True)
    return tuple(1 <= variant <= config.experts_max and right in allowed for variant, right in pairs)


def advantages(
    rewards: Sequence[float], streams: Sequence[Stream], is_correct: Sequence[bool | None], config: AdvantageConfig
) -> GroupAdvantages:
    """A_i = (R_i − μ_s)/(max(σ_s, sigma_floor) + ε), with μ, σ (population) over i's own stream s in mode `decoupled`.

    NaN rewards count nowhere and get 0. An empty stream contributes nothing. One member alone: policy 0,
    expert R − μ_policy, or 0 without a policy stream. Degenerate expert streams: see `AdvantageConfig`.
    Source: MedEyes (arXiv:2511.22018), "Advantage Decoupling"; modes after LUFFY (arXiv:2504.14945).
    """
    _check(rewards, streams, is_correct)
    scored = [i for i, reward in enumerate(rewards) if not math.isnan(reward)]
    policy = [i for i in scored if streams[i] == "policy"]
    expert = [i for i in scored if streams[i] == "expert"]
    group = _Group(*(tuple(rewards[i] for i in members) for members in (policy, expert)))
    degenerate = config.mode == "decoupled" and _is_degenerate(group, [is_correct[i] for i in expert], config)
    values = [0.0] * len(rewards)
    for i, value in zip(policy + expert, _by_mode(group, degenerate, config), strict=True):
        values[i] = value if abs(value) > FLOAT_NOISE else 0.0
    return GroupAdvantages(
        values=tuple(values),
        is_degenerate_expert=degenerate,
        is_dropped=not any(values),
        policy=_statistics(group.policy),
        expert=_statistics(group.expert),
        n_unscorable=len(rewards) - len(scored),
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """Scorable rewards, by stream."""

    policy: tuple[float, ...]
    expert: tuple[float, ...]

    @property
    def union(self) -> tuple[float, ...]:
        return self.policy + self.expert


def _check(rewards: Sequence[float], streams: Sequence[str], is_correct: Sequence[bool | None]) -> None:
    if not len(rewards) == len(streams) == len(is_correct):
        raise ValueError(f"{len(rewards)} rewards, {len(streams)} streams, {len(is_correct)} verdicts: one each")
    if unknown := set(streams) - set(get_args(Stream)):
        raise ValueError(f"a stream is 'policy' or 'expert', got {sorted(unknown)}")
    if any(abs(reward) > REWARD_MAX for reward in rewards):
        raise ValueError(f"a reward is beyond ±{REWARD_MAX:g}: {tuple(rewards)}; an unscorable one is NaN")


def _statistics(rewards: Sequence[float]) -> StreamStatistics:
    if not rewards:
        return StreamStatistics(0, None, None)
    n = len(rewards)
    mu = math.fsum(rewards) / n
    return StreamStatistics(n, mu, math.sqrt(math.fsum((reward - mu) ** 2 for reward in rewards) / n))


def _is_flat(sigma: float, config: AdvantageConfig) -> bool:
    """σ < sigma_degenerate, where the bound itself (rewards 0.9 and 1.0: σ = 0.05) is no matter of an ulp."""
    return sigma < max(config.sigma_degenerate - FLOAT_NOISE, FLOAT_NOISE)


def _is_degenerate(group: _Group, verdicts: Sequence[bool | None], config: AdvantageConfig) -> bool:
    """Whether an expert stream of two or more has no spread or no spread in accuracy."""
    return len(verdicts) > 1 and (len(set(verdicts)) == 1 or _is_flat(_statistics(group.expert).sigma, config))


def _by_mode(group: _Group, is_degenerate: bool, config: AdvantageConfig) -> list[float]:
    """Advantages of the policy members, then of the experts."""
    if config.mode == "mixed":
        return _standardised(group.union, config)
    expert = _from_policy(group, config) if config.mode == "policy_baseline" else _own(group, is_degenerate, config)
    return _standardised(group.policy, config) + expert


def _standardised(rewards: Sequence[float], config: AdvantageConfig) -> list[float]:
    """(R − μ)/(max(σ, floor) + ε); exact zeros for equal rewards, whose rounding would otherwise be divided by ε."""
    own = _statistics(rewards)
    if own.n == 0 or own.sigma <= FLOAT_NOISE:
        return [0.0] * own.n
    scale = max(own.sigma, config.sigma_floor) + config.eps if config.divides_by_sigma else 1.0
    return [(reward - own.mu) / scale for reward in rewards]


def _from_policy(group: _Group, config: AdvantageConfig) -> list[float]:
    """Experts against the policy's μ and σ; a flat policy stream has scale 1, as in LUFFY.

    The floor would not do: eight wrong answers and one right expert would make A = 0.7/0.05 = 14.
    """
    policy = _statistics(group.policy)
    if policy.n == 0:
        return [0.0] * len(group.expert)
    is_unscaled = _is_flat(policy.sigma, config) or not config.divides_by_sigma
    scale = 1.0 if is_unscaled else max(policy.sigma, config.sigma_floor) + config.eps
    return [(reward - policy.mu) / scale for reward in group.expert]


def _own(group: _Group, is_degenerate: bool, config: AdvantageConfig) -> list[float]:
    """Experts in mode `decoupled`."""
    if len(group.expert) == 1:
        return _above_policy(group, 1.0)
    if not is_degenerate:
        return _standardised(group.expert, config)
    if config.expert_degenerate == "imitate":
        return [1.0] * len(group.expert)
    if config.expert_degenerate == "on_baseline":
        sigma = max(_statistics(group.union).sigma, config.sigma_floor, FLOAT_NOISE)
        return _above_policy(group, sigma if config.divides_by_sigma else 1.0)
    flat = _is_flat(_statistics(group.expert).sigma, config)
    return [0.0] * len(group.expert) if flat else _standardised(group.expert, config)


def _above_policy(group: _Group, scale: float) -> list[float]:
    mu = _statistics(group.policy).mu
    return [0.0 if mu is None else (reward - mu) / scale for reward in group.expert]
