import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.core.rewards import Reward, RewardConfig, diversity, n_unique, overlap, reward

PAPER = RewardConfig()
A, B, C, D, E = ((0, (100.0 * i, 0.0, 100.0 * i + 50.0, 50.0)) for i in range(5))  # five disjoint boxes of one image
HALF_OF_A = (0, (0.0, 0.0, 25.0, 50.0))  # IoU with A is exactly ½: not below the threshold
CHAIN = [(0, (start, 0.0, start + 10.0, 10.0)) for start in (0.0, 2.0, 4.0)]  # IoU ⅔ to the next, 3/7 end to end

edges = st.integers(0, 40)
boxes = st.tuples(edges, edges, edges, edges).map(lambda b: (b[0], b[1], b[0] + b[2] + 1.0, b[1] + b[3] + 1.0))
looks = st.lists(st.tuples(st.integers(0, 2), boxes), max_size=7)


@pytest.mark.parametrize(
    ("looked", "expected"),
    [
        ([], 0.0),
        ([A], 0.125),  # ½·¼, and one box has no pair
        ([A, A], 0.125),  # a second look at the same place earns nothing
        ([A, HALF_OF_A], 0.125),  # IoU = 0.5 is not < 0.5
        ([A, B], 0.75),  # ½·2/4 + ½·1
        ([A, B, A], 0.25 + 0.5 * 2 / 3),  # two of three pairs differ
        ([A, B, C, D], 1.0),
        ([A, B, C, D, E], 1.0),  # bounded: a fifth region pays nothing
        ([A] * 4, 0.125),
        ([A, A, A, B], 0.5),
        ([A, A, A, B, B], 0.55),  # the paper's pair term: repeating pays from the fifth look on, T_max is 4
    ],
)
def test_diversity(looked, expected):
    assert diversity(looked, PAPER) == pytest.approx(expected, abs=1e-15)


def test_looks_on_different_images_never_overlap():
    """The same box four times: on one image one region, on four images four."""
    everywhere = [(image, A[1]) for image in range(4)]
    assert overlap(A, A) == 1.0
    assert overlap(*everywhere[:2]) == 0.0
    assert diversity(everywhere, PAPER) == 1.0
    assert diversity([*everywhere[:2], A], PAPER) == diversity([A, B, A], PAPER)
    assert n_unique([A, (1, A[1]), HALF_OF_A, (1, HALF_OF_A[1])], 0.5) == 2


def test_fewer_looks_allowed_make_each_worth_more():
    assert diversity([A, A], RewardConfig(looks_max=2)) == 0.25
    assert diversity([A, B, C], RewardConfig(looks_max=2)) == 1.0


def test_unique_regions_are_counted_in_the_order_of_looking():
    first, middle, last = CHAIN
    assert n_unique([first, middle, last], 0.5) == 2  # the middle one is no news, the last one is
    assert n_unique([middle, first, last], 0.5) == 1  # both are too close to the middle one


@pytest.mark.parametrize(
    ("is_correct", "is_grammatical", "looked", "total"),
    [
        (True, True, [A, B, C, D], 1.0),
        (True, True, [], 0.9),
        (True, False, [], 0.7),
        (False, True, [], 0.2),
        (False, True, [A, B], 0.275),
        (False, False, [A], 0.0125),
        (False, False, [], 0.0),
    ],
)
def test_total_is_the_weighted_sum(is_correct, is_grammatical, looked, total):
    paid = reward(is_correct, is_grammatical, looked, PAPER)
    assert paid.total == pytest.approx(total, abs=1e-15)
    assert paid == Reward(paid.total, float(is_correct), float(is_grammatical), diversity(looked, PAPER))


def test_a_perfect_trajectory_is_worth_exactly_one():
    assert reward(True, True, [A, B, C, D], PAPER).total == 1.0


def test_an_unscorable_answer_keeps_its_other_components():
    paid = reward(None, True, [A, B], PAPER)
    assert math.isnan(paid.total)
    assert math.isnan(paid.accuracy)
    assert (paid.grammar, paid.diversity) == (1.0, 0.75)


def test_the_gate_pays_diversity_only_for_right_answers_and_still_logs_it():
    gated = RewardConfig(gate_diversity=True)
    assert reward(True, True, [A, B], gated).total == pytest.approx(0.975)
    wrong = reward(False, True, [A, B], gated)
    assert wrong.total == pytest.approx(0.2)
    assert wrong.diversity == 0.75
    assert math.isnan(reward(None, True, [A, B], gated).total)


@settings(max_examples=60, deadline=None)
@given(looks, st.sampled_from([True, False]), st.booleans(), st.booleans())
def test_rewards_stay_in_the_unit_interval(looked, is_correct, is_grammatical, gate):
    paid = reward(is_correct, is_grammatical, looked, RewardConfig(gate_diversity=gate))
    assert 0.0 <= paid.diversity <= 1.0
    assert 0.0 <= paid.total <= 1.0


@settings(max_examples=60, deadline=None)
@given(looks, st.integers(0, 6))
def test_repeating_a_look_is_no_new_region(looked, which):
    if looked:
        assert n_unique([*looked, looked[which % len(looked)]], 0.5) == n_unique(looked, 0.5)


@settings(max_examples=40, deadline=None)
@given(looks, st.integers(-3, 3), st.integers(-50, 50))
def test_diversity_ignores_scale_and_place(looked, power, shift):
    moved = [(image, tuple((x + shift) * 2.0**power for x in box)) for image, box in looked]  # exact in binary
    assert diversity(moved, PAPER) == diversity(looked, PAPER)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"weight_accuracy": -0.1}, "weights"),
        ({"weight_grammar": math.nan}, "weights"),
        ({"weight_accuracy": 0, "weight_grammar": 0, "weight_diversity": 0}, "not all 0"),
        ({"iou_max": 0.0}, "iou_max"),
        ({"iou_max": math.nan}, "iou_max"),
        ({"looks_max": 0}, "looks_max"),
    ],
)
def test_nonsense_is_refused(settings_, message):
    with pytest.raises(ValueError, match=message):
        RewardConfig(**settings_)
