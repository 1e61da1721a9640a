"""ECE, Brier and AUROC by hand, against slow readings, and in any order."""

import math
import random as randoms
import statistics
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.admission import float32
from pipeline.core.calibration import Outcome, auroc, auroc_gain_se, brier, calibration, ece, placements, reliability

outcomes = st.lists(
    st.builds(Outcome, st.sampled_from("abcd"), st.floats(0, 1), st.booleans()), min_size=1, max_size=30
)


def said(confidence: float, n_right: int, n: int) -> list[Outcome]:
    """`n` boxes of one confidence, `n_right` of them right, each on an image of its own."""
    return [Outcome(f"{confidence}/{at}", confidence, at < n_right) for at in range(n)]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([(0.75, 3, 4)], 0.0),  # says 3/4 and is right 3 times of 4
        ([(1.0, 1, 4)], 0.75),
        ([(0.0, 0, 4)], 0.0),
        ([(0.25, 1, 1), (0.75, 0, 1)], 0.75),  # two bins, 3/4 off each
        ([(0.125, 1, 8), (0.625, 1, 4), (0.875, 2, 2)], (8 * 0 + 4 * 0.375 + 2 * 0.125) / 14),
        ([(0.62, 1, 1), (0.68, 0, 1)], 0.15),  # one bin: 0.65 said, 0.5 right
    ],
)
def test_ece_by_hand(groups, expected):
    assert ece(reliability([one for group in groups for one in said(*group)])) == pytest.approx(expected, abs=1e-12)


def test_an_edge_belongs_to_the_bin_above_and_one_to_the_last():
    bins = reliability([Outcome("a", confidence, True) for confidence in (0.0, 0.5, 0.95, 1.0)])
    assert [(one.low, one.high, one.n) for one in bins] == [(0.0, 0.1, 1), (0.5, 0.6, 1), (0.9, 1.0, 2)]
    assert bins[-1].confidence == pytest.approx(0.975)


@pytest.mark.parametrize("tenths", range(10))
def test_a_tenth_is_in_the_bin_it_opens_as_a_float32_too(tenths):
    """0.7 and 0.9 are stored a little below themselves."""
    for confidence in (tenths / 10, float32(tenths / 10)):
        (one,) = reliability([Outcome("a", confidence, True)])
        assert one.low == tenths / 10


def test_errors_of_an_expert_who_says_tenths_do_not_cancel():
    """Never right at 0.6, always at 0.7; as stored, 0.7 is 0.69999999."""
    some = [*said(float32(0.6), 0, 10), *said(float32(0.7), 10, 10)]
    assert ece(reliability(some)) == pytest.approx((0.6 + 0.3) / 2, abs=1e-6)


def test_brier_by_hand():
    assert brier([Outcome("a", 0.75, True), Outcome("a", 0.5, False)]) == (0.0625 + 0.25) / 2


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ([0.9, 0.8], [0.1], 1.0),
        ([0.1], [0.9, 0.8], 0.0),
        ([0.5], [0.5], 0.5),  # a tie is half
        ([0.9, 0.3], [0.6, 0.3], (1 + 1 + 0 + 0.5) / 4),
        ([], [0.5], None),
        ([0.5], [], None),
    ],
)
def test_auroc_by_hand(right, wrong, expected):
    assert auroc(right, wrong) == expected


def test_all_of_it_together():
    found = calibration([*said(0.75, 3, 4), *said(0.25, 0, 4)])
    assert (found.n, found.n_true, found.confidence_true) == (8, 3, 0.75)
    assert found.confidence_false == (0.75 + 4 * 0.25) / 5
    assert (found.ece, found.brier) == (0.125, (3 * 0.0625 + 0.5625 + 4 * 0.0625) / 8)
    assert found.auroc == (3 * 4 + 3 * 0.5) / 15
    assert calibration([]) is None


@pytest.mark.parametrize("confidence", [-0.1, 1.1, math.nan, math.inf])
def test_what_is_no_confidence_is_refused(confidence):
    with pytest.raises(ValueError, match="lies in"):
        Outcome("a", confidence, True)


@given(outcomes, st.randoms())
@settings(deadline=None, max_examples=80)
def test_measures_lie_in_their_range_whatever_the_order(some, random):
    found = calibration(some)
    shuffled = list(some)
    random.shuffle(shuffled)
    assert calibration(shuffled) == found
    assert 0 <= found.ece <= 1
    assert 0 <= found.brier <= 1
    assert found.auroc is None or 0 <= found.auroc <= 1
    assert sum(one.n for one in found.bins) == found.n == len(some)


@given(outcomes)
@settings(deadline=None, max_examples=80)
def test_they_are_what_a_slow_reading_gives(some):
    found = calibration(some)
    assert found.ece == pytest.approx(float(slow_ece(some)), abs=1e-12)
    assert found.brier == pytest.approx(sum((one.confidence - one.is_true) ** 2 for one in some) / len(some))
    pairs = [
        (one.confidence > other.confidence) + (one.confidence == other.confidence) / 2
        for one in some
        for other in some
        if one.is_true and not other.is_true
    ]
    assert found.auroc == (pytest.approx(sum(pairs) / len(pairs), abs=1e-12) if pairs else None)


def slow_ece(some: list[Outcome]) -> Fraction:
    """In fractions, one bin after the other; an edge is the smaller of a tenth as a double and as a float32."""
    total = Fraction(0)
    for number in range(10):
        low, high = (min(at / 10, float32(at / 10)) for at in (number, number + 1))
        high = 2 if number == 9 else high  # the last bin holds 1 itself
        held = [one for one in some if low <= one.confidence < high]
        total += abs(sum((Fraction(one.confidence) for one in held), Fraction(0)) - sum(one.is_true for one in held))
    return total / len(some)


@given(outcomes)
@settings(deadline=None, max_examples=40)
def test_a_rising_rescaling_of_confidence_never_changes_auroc(some):
    halved = [Outcome(one.image_id, one.confidence / 2, one.is_true) for one in some if one.confidence > 1e-300]
    kept = [one for one in some if one.confidence > 1e-300]
    if kept:
        assert calibration(halved).auroc == calibration(kept).auroc


@given(outcomes)
@settings(deadline=None, max_examples=60)
def test_placements_are_counted_pair_by_pair_and_their_mean_is_auroc(some):
    found = placements(some)
    for one, place in zip(some, found, strict=True):
        others = [other.confidence for other in some if other.is_true is not one.is_true]
        above = [(one.confidence > other) + (one.confidence == other) / 2 for other in others]
        share = sum(above) / len(above) if above else 0.0
        assert place == pytest.approx(share if one.is_true or not above else 1 - share, abs=1e-12)
    if (area := calibration(some).auroc) is not None:
        for is_true in (True, False):
            kind = [place for one, place in zip(some, found, strict=True) if one.is_true is is_true]
            assert sum(kind) / len(kind) == pytest.approx(area, abs=1e-12)


def test_the_error_of_a_gain_in_auroc_is_how_much_it_varies():
    """300 experiments on 40 images with one to five boxes each, whose confidences rise and fall together."""
    drawn = randoms.Random(3)
    gains, errors = [], []
    for _ in range(300):
        before, after = experiment(drawn)
        gains.append(calibration(after).auroc - calibration(before).auroc)
        errors.append(auroc_gain_se(before, after))
    assert statistics.mean(errors) == pytest.approx(statistics.stdev(gains), rel=0.12)


def experiment(drawn: randoms.Random) -> tuple[list[Outcome], list[Outcome]]:
    before, after = [], []
    for image in range(40):
        lift = drawn.gauss(0, 0.7)
        for _ in range(drawn.randint(1, 5)):
            is_true = drawn.random() < 0.4
            for said_, skill in ((before, 1.0), (after, 1.4)):
                logit = drawn.gauss(skill * is_true, 1) + lift
                said_.append(Outcome(str(image), 1 / (1 + math.exp(-logit)), is_true))
    return before, after


def test_a_gain_in_auroc_has_no_error_without_spread():
    some = [Outcome("a", 0.5, True), Outcome("b", 0.25, False)]
    assert auroc_gain_se(some, some) is None
    one_image = [Outcome("a", 0.5, True), Outcome("a", 0.25, False), Outcome("a", 0.75, False)]
    assert auroc_gain_se(one_image, one_image[::-1]) is None
