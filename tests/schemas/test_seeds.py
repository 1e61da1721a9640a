import subprocess
import sys
from itertools import pairwise
from statistics import fmean, pvariance

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.seeds import digest_int, shuffled, uniform

PINNED = 3151161029570406320

promised = settings(max_examples=100, deadline=None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("a", ""), ("a",)),
        (("",), ()),
        (("1:a",), ("a",)),
        ((1, 23), (12, 3)),
        ((1, 2), (2, 1)),
        (("q", 1, 0), ("q", 1, 0, 0)),
    ],
)
def test_keys_do_not_run_together(one, other):
    assert digest_int(*one) != digest_int(*other)


keys = st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=4)


@promised
@given(one=keys, other=keys)
def test_different_keys_have_different_digests(one, other):
    assert (digest_int(*one) == digest_int(*other)) is (one == other)


@promised
@given(key=keys)
def test_draws_are_64_bits_and_in_the_unit_interval(key):
    assert 0 <= digest_int(*key) < 1 << 64
    assert 0 <= uniform(*key) < 1


def test_the_numbers_are_pinned_and_the_same_in_another_process():
    # Stored trajectories and rollouts depend on these very bits.
    code = "from schemas.seeds import digest_int; print(digest_int(7, 'question-1', 3))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == digest_int(7, "question-1", 3) == PINNED


def test_draws_are_uniform_and_unrelated_between_neighbours():
    draws = [uniform(0, "question", index) for index in range(4000)]
    assert fmean(draws) == pytest.approx(1 / 2, abs=0.02)  # 4 standard errors are 0.018
    assert pvariance(draws) == pytest.approx(1 / 12, abs=0.005)
    tenths = [sum(tenth / 10 <= draw < (tenth + 1) / 10 for draw in draws) for tenth in range(10)]
    assert max(abs(count - 400) for count in tenths) < 90
    lagged = fmean((a - 0.5) * (b - 0.5) for a, b in pairwise(draws))
    assert abs(lagged) < 0.006


@promised
@given(items=st.lists(st.integers(), max_size=30), seed=st.integers())
def test_shuffling_keeps_every_item_and_leaves_the_list_alone(items, seed):
    before = list(items)
    assert sorted(shuffled(items, seed)) == sorted(items)
    assert shuffled(items, seed) == shuffled(items, seed)
    assert items == before


def test_every_place_is_equally_likely():
    firsts = [shuffled([0, 1, 2, 3], "order", seed)[0] for seed in range(2000)]
    assert max(abs(firsts.count(item) - 500) for item in range(4)) < 80  # 4 standard deviations are 77
