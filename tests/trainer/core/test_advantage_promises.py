import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.core.advantages import AdvantageConfig, advantages

DEFAULT = AdvantageConfig()
WRONG, RIGHT = 0.2, 1.0

MODES = st.sampled_from(["decoupled", "mixed", "policy_baseline"])
FALLBACKS = st.sampled_from(["zero", "on_baseline", "imitate"])
CONFIGS = st.builds(
    AdvantageConfig,
    mode=MODES,
    expert_degenerate=FALLBACKS,
    sigma_floor=st.sampled_from([0.0, 0.05]),
    sigma_degenerate=st.sampled_from([0.0, 0.05]),
    divides_by_sigma=st.booleans(),
)
# what the reward can really be: 0.7·{0, 1} + 0.2·{0, 1} + 0.1·k/24, and unscorable
REWARDS = st.builds(
    lambda right, grammar, k: math.fsum((0.7 * right, 0.2 * grammar, 0.1 * k / 24)),
    st.integers(0, 1),
    st.integers(0, 1),
    st.integers(0, 24),
)
SCORED = st.lists(REWARDS, max_size=9)
MAYBE = st.lists(st.one_of(REWARDS, st.just(math.nan)), max_size=9)


def group(policy, expert, config=DEFAULT, verdicts=None):
    """Advantages of one group, split again into policy and expert; an answer is right when its reward is ≥ 0.7."""
    rewards = [*policy, *expert]
    streams = ["policy"] * len(policy) + ["expert"] * len(expert)
    seen = [None if math.isnan(r) else r >= 0.7 - 1e-9 for r in rewards] if verdicts is None else verdicts
    result = advantages(rewards, streams, seen, config)
    return result, result.values[: len(policy)], result.values[len(policy) :]


def slow(policy, expert, config):
    """The rules of the method, read once more without the code's helpers; scorable rewards only, right ⇔ R ≥ 0.7."""
    if config.mode == "mixed":
        return slow_z(policy, policy + expert, config), slow_z(expert, policy + expert, config)
    if config.mode == "decoupled":
        return slow_z(policy, policy, config), slow_decoupled(policy, expert, config)
    if policy and deviation(policy) >= config.sigma_degenerate - 1e-9 and deviation(policy) > 1e-9:
        return slow_z(policy, policy, config), slow_z(expert, policy, config)
    return slow_z(policy, policy, config), [r - mean(policy) if policy else 0.0 for r in expert]


def mean(rewards):
    return sum(rewards) / len(rewards)


def deviation(rewards):
    return math.sqrt(sum((r - mean(rewards)) ** 2 for r in rewards) / len(rewards))


def slow_z(rewards, base, config):
    if not base or deviation(base) < 1e-9:
        return [0.0 for _ in rewards]
    scale = max(deviation(base), config.sigma_floor) + 1e-4 if config.divides_by_sigma else 1.0
    return [(r - mean(base)) / scale for r in rewards]


def slow_decoupled(policy, expert, config):
    above = [r - mean(policy) if policy else 0.0 for r in expert]
    if len(expert) < 2:
        return above
    is_flat = deviation(expert) < config.sigma_degenerate - 1e-9 or deviation(expert) < 1e-9
    is_degenerate = is_flat or len({r >= 0.7 - 1e-9 for r in expert}) == 1
    if is_degenerate and config.expert_degenerate == "imitate":
        return [1.0 for _ in expert]
    if is_degenerate and config.expert_degenerate == "on_baseline":
        scale = max(deviation(policy + expert), config.sigma_floor, 1e-9) if config.divides_by_sigma else 1.0
        return [a / scale for a in above]
    return [0.0 for _ in expert] if is_flat else slow_z(expert, expert, config)


@settings(max_examples=150, deadline=None)
@given(SCORED, SCORED, CONFIGS)
def test_agrees_with_a_slow_reading_of_the_rules(policy, expert, config):
    _, fast_policy, fast_expert = group(policy, expert, config)
    slow_policy, slow_expert = slow(policy, expert, config)
    assert fast_policy == pytest.approx(slow_policy, abs=1e-8)
    assert fast_expert == pytest.approx(slow_expert, abs=1e-8)


@settings(max_examples=80, deadline=None)
@given(MAYBE, MAYBE, MAYBE, FALLBACKS)
def test_expert_rewards_never_move_policy_advantages(policy, expert, other, fallback):
    config = replace(DEFAULT, expert_degenerate=fallback)
    assert group(policy, expert, config)[1] == group(policy, other, config)[1]


@settings(max_examples=80, deadline=None)
@given(MAYBE, MAYBE, SCORED, st.sampled_from(["zero", "imitate"]))
def test_policy_rewards_never_move_the_advantages_of_two_experts_or_more(policy, other, expert, fallback):
    # `on_baseline` and an expert alone do stand on the policy's mean: that is their purpose
    config = replace(DEFAULT, expert_degenerate=fallback)
    experts = [WRONG, *expert, RIGHT]
    assert group(policy, experts, config)[2] == group(other, experts, config)[2]


@settings(max_examples=80, deadline=None)
@given(MAYBE, MAYBE, CONFIGS, st.integers(-40, 40))
def test_a_common_shift_changes_nothing(policy, expert, config, eighths):
    verdicts = [None if math.isnan(r) else r >= 0.7 - 1e-9 for r in policy + expert]
    moved = [[r + eighths / 8 for r in stream] for stream in (policy, expert)]
    before, after = group(policy, expert, config, verdicts)[0], group(*moved, config, verdicts)[0]
    assert after.values == pytest.approx(before.values, abs=1e-7)
    assert (after.is_dropped, after.is_degenerate_expert) == (before.is_dropped, before.is_degenerate_expert)


@settings(max_examples=80, deadline=None)
@given(MAYBE, MAYBE, CONFIGS, st.randoms(use_true_random=False))
def test_order_changes_no_bit(policy, expert, config, rng: random.Random):
    rewards = [*policy, *expert]
    streams = ["policy"] * len(policy) + ["expert"] * len(expert)
    verdicts = [None if math.isnan(r) else r >= 0.7 - 1e-9 for r in rewards]
    order = list(range(len(rewards)))
    rng.shuffle(order)
    plain = advantages(rewards, streams, verdicts, config)
    mixed = advantages(*([column[i] for i in order] for column in (rewards, streams, verdicts)), config)
    assert mixed.values == tuple(plain.values[i] for i in order)
    assert (mixed.policy, mixed.expert, mixed.is_dropped) == (plain.policy, plain.expert, plain.is_dropped)


ANY_REWARD = st.floats(-1e6, 1e6) | st.just(math.nan) | st.sampled_from([0.0, -0.0, 5e-324, 1e-12, 1e6])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(ANY_REWARD, st.sampled_from(["policy", "expert"]), st.sampled_from([True, False, None]))),
    CONFIGS,
)
def test_every_advantage_is_finite_and_unscorable_ones_are_zero(members, config):
    rewards, streams, verdicts = zip(*members, strict=True) if members else ((), (), ())
    result = advantages(rewards, streams, verdicts, config)
    assert all(map(math.isfinite, result.values))
    assert all(value == 0.0 for value, r in zip(result.values, rewards, strict=True) if math.isnan(r))
    assert result.is_dropped == (not any(result.values))


@settings(max_examples=60, deadline=None)
@given(SCORED)
def test_a_standardised_stream_sums_to_zero_and_keeps_the_order_of_rewards(policy):
    _, values, _ = group(policy, [])
    assert math.fsum(values) == pytest.approx(0.0, abs=1e-9)
    by_reward = [value for _, value in sorted(zip(policy, values, strict=True))]
    assert by_reward == sorted(by_reward)
