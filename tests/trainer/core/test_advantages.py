import math
from dataclasses import replace

import pytest

from trainer.core.advantages import AdvantageConfig, StreamStatistics, advantages, eligible_experts

DEFAULT = AdvantageConfig()
LITERAL = AdvantageConfig(sigma_floor=0.0, sigma_degenerate=0.0, expert_degenerate="zero")
WRONG, RIGHT = 0.2, 1.0  # rewards of a grammatical wrong answer without looks, and of a perfect one


def group(policy, expert, config=DEFAULT, verdicts=None):
    """Advantages of one group, split again into policy and expert; an answer is right when its reward is ≥ 0.7."""
    rewards = [*policy, *expert]
    streams = ["policy"] * len(policy) + ["expert"] * len(expert)
    seen = [None if math.isnan(r) else r >= 0.7 - 1e-9 for r in rewards] if verdicts is None else verdicts
    result = advantages(rewards, streams, seen, config)
    return result, result.values[: len(policy)], result.values[len(policy) :]


@pytest.mark.parametrize(
    ("policy", "config", "expected"),
    [
        # rule 1: population σ = 0.4, so ±0.4/0.4001
        ([WRONG, RIGHT], DEFAULT, [-0.4 / 0.4001, 0.4 / 0.4001]),
        # one right of four: μ = 0.4, σ = √0.12
        ([WRONG, WRONG, WRONG, RIGHT], DEFAULT, [-0.2 / (0.12**0.5 + 1e-4)] * 3 + [0.6 / (0.12**0.5 + 1e-4)]),
        # a difference of 0.01 in diversity: σ = 0.005 is floored at 0.05 …
        ([0.90, 0.91], DEFAULT, [-0.005 / 0.0501, 0.005 / 0.0501]),
        # … and without the floor, to the letter, it is nearly a whole unit
        ([0.90, 0.91], LITERAL, [-0.005 / 0.0051, 0.005 / 0.0051]),
        # equal rewards are exactly 0, also where ε alone divides the rounding of their mean
        ([0.95] * 6, replace(LITERAL, eps=1e-12), [0.0] * 6),
        # rule 5: one rollout alone
        ([RIGHT], DEFAULT, [0.0]),
        # unscorable: out of μ and σ, advantage 0
        ([WRONG, math.nan, RIGHT], DEFAULT, [-0.4 / 0.4001, 0.0, 0.4 / 0.4001]),
        # R − μ without σ
        ([WRONG, RIGHT], replace(DEFAULT, divides_by_sigma=False), [-0.4, 0.4]),
        ([], DEFAULT, []),
    ],
)
def test_policy_stream(policy, config, expected):
    _, values, _ = group(policy, [], config)
    assert values == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("fallback", "policy", "expert", "expected", "is_degenerate"),
    [
        # spread and mixed accuracy: each stream by itself, σ_expert = 0.4
        ("on_baseline", [WRONG] * 8, [WRONG, RIGHT], [-0.4 / 0.4001, 0.4 / 0.4001], False),
        # all experts right and equal, all rollouts wrong: R − μ_policy = 0.8, σ_union = 0.4
        ("on_baseline", [WRONG] * 2, [RIGHT] * 2, [2.0, 2.0], True),
        ("zero", [WRONG] * 2, [RIGHT] * 2, [0.0, 0.0], True),
        ("imitate", [WRONG] * 2, [RIGHT] * 2, [1.0, 1.0], True),
        # as good as the policy: nothing left to teach, up to the floor of 0.05
        ("on_baseline", [RIGHT] * 2, [RIGHT] * 2, [0.0, 0.0], True),
        ("on_baseline", [1.0] * 2, [0.98] * 2, [-0.4, -0.4], True),
        # differing only by diversity (σ = 0.02 < 0.05)
        ("zero", [WRONG] * 2, [1.0, 0.96], [0.0, 0.0], True),
        ("imitate", [WRONG] * 2, [1.0, 0.96], [1.0, 1.0], True),
        # σ = 0.2 ≥ 0.05, yet all are wrong: degenerate by accuracy alone; `zero` then ranks what differs
        ("zero", [RIGHT] * 2, [0.2, 0.0, 0.2, 0.0], [0.1 / 0.1001, -0.1 / 0.1001] * 2, True),
        ("imitate", [RIGHT] * 2, [0.2, 0.0], [1.0, 1.0], True),
        # no policy stream: no baseline to stand on
        ("on_baseline", [], [RIGHT, RIGHT], [0.0, 0.0], True),
        ("on_baseline", [math.nan], [RIGHT, RIGHT], [0.0, 0.0], True),
        # rule 5 comes first: one expert alone is R − μ_policy whatever the fallback
        ("zero", [WRONG, RIGHT], [RIGHT], [0.4], False),
        ("imitate", [WRONG, RIGHT], [RIGHT], [0.4], False),
        ("imitate", [], [RIGHT], [0.0], False),
        # an unscorable expert has no advantage, not even when imitated, and the other one is then alone
        ("imitate", [WRONG] * 2, [RIGHT, RIGHT, math.nan], [1.0, 1.0, 0.0], True),
        ("imitate", [WRONG] * 2, [RIGHT, math.nan], [0.8, 0.0], False),
        ("imitate", [WRONG, RIGHT], [], [], False),
    ],
)
def test_expert_stream_decoupled(fallback, policy, expert, expected, is_degenerate):
    result, _, values = group(policy, expert, replace(DEFAULT, expert_degenerate=fallback))
    assert values == pytest.approx(expected, abs=1e-12)
    assert result.is_degenerate_expert is is_degenerate


def test_to_the_letter_a_degenerate_stream_ranks_diversity_alone_and_pushes_good_experts_down():
    _, _, values = group([WRONG] * 8, [1.0, 0.99], LITERAL)
    assert values == pytest.approx([0.005 / 0.0051, -0.005 / 0.0051])  # −0.98 for a path 0.79 above every rollout


def test_the_bound_of_degeneracy_is_no_matter_of_an_ulp():
    shifts = (0.0, 0.1, 0.3, 0.7, 1.1, 3.3)  # 0.9 + s and 1.0 + s: σ = 0.05 up to rounding on either side
    fired = {group([WRONG], [0.9 + s, 1.0 + s], verdicts=[False, False, True])[0].is_degenerate_expert for s in shifts}
    assert fired == {False}


@pytest.mark.parametrize(
    ("mode", "divides", "policy_expected", "expert_expected"),
    [
        # union: μ = 0.6, σ = 0.4, so experts push every rollout down
        ("mixed", True, [-0.4 / 0.4001] * 2, [0.4 / 0.4001] * 2),
        ("mixed", False, [-0.4] * 2, [0.4] * 2),  # LUFFY's command line
        # a flat policy stream has scale 1: 0.8, not 0.8/0.05 = 16
        ("policy_baseline", True, [0.0] * 2, [0.8] * 2),
        ("decoupled", True, [0.0] * 2, [2.0] * 2),
    ],
)
def test_modes_on_wrong_rollouts_and_right_experts(mode, divides, policy_expected, expert_expected):
    config = replace(DEFAULT, mode=mode, divides_by_sigma=divides)
    result, policy, expert = group([WRONG] * 2, [RIGHT] * 2, config)
    assert policy == pytest.approx(policy_expected)
    assert expert == pytest.approx(expert_expected)
    assert result.is_degenerate_expert is (mode == "decoupled")  # elsewhere the fallback decides nothing


def test_a_policy_baseline_without_a_policy_is_no_baseline():
    _, _, expert = group([], [WRONG, RIGHT], replace(DEFAULT, mode="policy_baseline"))
    assert expert == (0.0, 0.0)


def test_policy_baseline_scales_experts_by_the_spread_of_the_policy():
    _, policy, expert = group([WRONG, RIGHT], [RIGHT, RIGHT, 0.9], replace(DEFAULT, mode="policy_baseline"))
    assert policy == pytest.approx([-0.4 / 0.4001, 0.4 / 0.4001])
    assert expert == pytest.approx([0.4 / 0.4001, 0.4 / 0.4001, 0.3 / 0.4001])


@pytest.mark.parametrize(
    ("policy", "expert", "fallback", "is_dropped"),
    [
        ([RIGHT] * 8, [RIGHT] * 6, "on_baseline", True),
        ([RIGHT] * 8, [RIGHT] * 6, "zero", True),
        ([RIGHT] * 8, [RIGHT] * 6, "imitate", False),  # the experts still teach
        ([WRONG] * 8, [RIGHT] * 6, "on_baseline", False),
        ([WRONG] * 8, [RIGHT] * 6, "zero", True),
        ([WRONG, RIGHT], [RIGHT] * 6, "zero", False),  # the rollouts still teach
        ([0.95] * 6, [0.95] * 6, "on_baseline", True),  # μ is an ulp off 0.95: rounding is no signal
        ([math.nan] * 3, [], "imitate", True),
        ([], [], "imitate", True),
    ],
)
def test_a_group_leaves_only_when_both_streams_are_silent(policy, expert, fallback, is_dropped):
    result, _, _ = group(policy, expert, replace(DEFAULT, expert_degenerate=fallback))
    assert result.is_dropped is is_dropped


def test_the_log_sees_each_stream_by_itself():
    result, _, _ = group([WRONG, RIGHT, math.nan], [RIGHT])
    assert (result.policy.n, result.expert, result.n_unscorable) == (2, StreamStatistics(1, 1.0, 0.0), 1)
    assert (result.policy.mu, result.policy.sigma) == pytest.approx((0.6, 0.4))
    assert group([], [])[0].policy == StreamStatistics(0, None, None)


@pytest.mark.parametrize(
    ("variant", "is_correct", "keeps_wrong", "joins"),
    [
        (0, True, False, False),  # plain GRN serves SFT and ablations
        (1, True, False, True),
        (6, True, False, True),
        (7, True, False, False),
        (1, False, False, False),  # a wrong expert stays out …
        (1, False, True, True),  # … unless an ablation asks
        (1, None, True, False),  # nobody can judge it: its advantage would be 0
    ],
)
def test_who_joins_the_group(variant, is_correct, keeps_wrong, joins):
    config = replace(DEFAULT, keeps_wrong_experts=keeps_wrong)
    assert eligible_experts([variant], [is_correct], config) == (joins,)


@pytest.mark.parametrize(
    ("rewards", "streams", "verdicts", "message"),
    [
        ([1.0], ["policy", "policy"], [True], "one each"),
        ([1.0], ["experts"], [True], "experts"),
        ([math.inf], ["policy"], [True], "unscorable one is NaN"),
        ([1e9], ["policy"], [True], "unscorable one is NaN"),
    ],
)
def test_a_group_that_cannot_be_is_refused(rewards, streams, verdicts, message):
    with pytest.raises(ValueError, match=message):
        advantages(rewards, streams, verdicts, DEFAULT)


@pytest.mark.parametrize(
    "settings_",
    [
        {"mode": "union"},
        {"expert_degenerate": "none"},
        {"sigma_floor": -0.1},
        {"sigma_degenerate": math.nan},
        {"eps": 0.0},
        {"experts_max": -1},
    ],
)
def test_nonsense_is_refused(settings_):
    with pytest.raises(ValueError, match=next(iter(settings_))):
        AdvantageConfig(**settings_)
