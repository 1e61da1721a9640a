import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.intervals import interval, mean, wilson


@pytest.mark.parametrize(
    ("n_right", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # these four: Newcombe, Statistics in Medicine 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (8, 10, 0.4902, 0.9433),
        (1, 1, 0.2065, 1.0),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson(n_right, n, low, high):
    assert wilson(n_right / n, n) == pytest.approx((low, high), abs=5e-5)
    values = [True] * n_right + [False] * (n - n_right)
    assert interval(values, "any key") == interval([float(value) for value in values]) == wilson(n_right / n, n)
    assert mean(values) == n_right / n


@pytest.mark.parametrize(
    ("p", "n", "low", "high"),
    [
        (0.0, 5, 0.0, 0.4345),  # 0 of 5 is not certain
        (1.0, 5, 0.5655, 1.0),
        (0.5, 10, 0.2366, 0.7634),
        (0.5, 4.5, 0.1607, 0.8393),  # a fraction of a trial
    ],
)
def test_wilson_of_a_share(p, n, low, high):
    assert wilson(p, n) == pytest.approx((low, high), abs=5e-5)


def test_nothing_right_is_not_certain():
    """Nor is everything right: the ends are exact, the other side is open."""
    for n in (1, 5, 400):
        (none_low, none_high), (all_low, all_high) = wilson(0.0, n), wilson(1.0, n)
        assert (none_low, all_high) == (0.0, 1.0)
        assert none_high == pytest.approx(1 - all_low)
        assert none_high > 3 / (n + 4)


def test_golden_bootstrap():
    """Pinned: an interval that moves with a library would make two reports of one run disagree."""
    assert interval([0.1, 0.4, 0.5, 0.9], "golden") == pytest.approx((0.2, 0.775), abs=1e-9)
    assert interval([n / 7 for n in range(8)], "golden") == pytest.approx((15 / 56, 5 / 7), abs=1e-9)
    assert interval([], "golden") is None
    assert mean([]) is None


def test_half_of_many_is_as_wide_as_theory_says():
    """±1.96·√(p(1 − p)/n) = 0.049 at n = 400."""
    for values in ([True, False] * 200, [0.001, 0.999] * 200):
        assert interval(values, "theory") == pytest.approx((0.5 - 0.049, 0.5 + 0.049), abs=0.006)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans() | st.floats(0, 1), min_size=1, max_size=40), st.integers())
def test_an_interval_holds_its_mean_and_nothing_impossible(values, key):
    low, high = interval(values, key)
    mean = math.fsum(values) / len(values)
    assert 0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1
    assert interval(values, key) == (low, high)


def test_resamples_are_named_by_their_key():
    values = [index / 37 for index in range(37)]
    assert interval(values, "overall") == interval(values, "overall") != interval(values, "pattern")
