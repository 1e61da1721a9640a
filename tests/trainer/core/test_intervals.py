import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doubles import question
from trainer.core.intervals import interval, majority_answers, majority_guess

EIGHT_OF_TEN = [True] * 8 + [False] * 2


def test_golden_intervals():
    """Pinned: an interval that moves with a library would make two reports of one run disagree."""
    assert interval(EIGHT_OF_TEN, "golden") == (0.5, 1.0)
    assert interval([0.1, 0.4, 0.5, 0.9], "golden") == pytest.approx((0.2, 0.775), abs=1e-9)
    assert interval([n / 7 for n in range(8)], "golden") == pytest.approx((15 / 56, 5 / 7), abs=1e-9)
    assert interval([], "golden") is None
    assert interval([True], "golden") == (1.0, 1.0)
    assert interval([False] * 30, "golden") == (0.0, 0.0)


def test_half_of_many_is_as_wide_as_theory_says():
    """±1.96·√(p(1 − p)/n) = 0.049 at n = 400."""
    low, high = interval([True, False] * 200, "theory")
    assert low == pytest.approx(0.5 - 0.049, abs=0.006)
    assert high == pytest.approx(0.5 + 0.049, abs=0.006)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers())
def test_an_interval_holds_its_mean_and_nothing_impossible(values, key):
    low, high = interval(values, key)
    mean = math.fsum(values) / len(values)
    assert 0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1
    assert interval(values, key) == (low, high)


def test_resamples_are_named_by_their_key():
    values = [index / 37 for index in range(37)]
    assert interval(values, "overall") == interval(values, "overall") != interval(values, "pattern")


TRAIN = [
    question(answer="no"),
    question(answer="yes"),
    question(answer="no"),
    question(question="Which side?", answer="right"),
    question(question="Which side?", answer="left"),
    question(question="What is it?", answer="yes"),
    question(question="What is it?", answer="yes"),
]


@pytest.mark.parametrize(
    ("asked", "guess"),
    [
        ("Is there a nodule?", "no"),
        ("Which side?", "left"),  # a tie: first in the alphabet
        ("What is it?", "yes"),
        ("Never asked before?", "yes"),  # the majority of all answers
    ],
)
def test_the_question_alone(asked, guess):
    for train in (TRAIN, TRAIN[::-1]):
        assert majority_guess(question(question=asked, answer="?"), majority_answers(train)) == guess


def test_nobody_knows_a_majority_without_answers():
    assert majority_answers([]) == {}
    assert majority_guess(question(), {}) == ""
