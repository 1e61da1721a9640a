"""Shares know that what lies on one image is not independent, and that few images show little of their spread."""

import math
import random as randoms
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.intervals import gain, share, t_95
from schemas.intervals import Z_95, wilson

counts = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 4), st.integers(0, 4)).map(
        lambda each: (each[0], float(min(each[1], each[2])), each[2])
    ),
    max_size=12,
)


def test_one_thing_an_image_gives_the_plain_interval():
    found = share((str(image), float(image < 3), 1) for image in range(10))
    assert (found.value, found.n, found.n_clusters) == (0.3, 10, 10)
    assert (found.low, found.high) == pytest.approx(wilson(0.3, 10), abs=1e-12)
    assert found.se == pytest.approx(math.sqrt(0.3 * 0.7 / 9), abs=1e-12)


def test_images_that_agree_in_themselves_are_worth_their_number():
    """Ten boxes on each of ten images, all right on three: not 30 of 100 but not even 3 of 10."""
    found = share((str(image), 10.0 * (image < 3), 10) for image in range(10))
    design_effect = (0.3 * 0.7 / 9) / (0.3 * 0.7 / 99)
    few = (1.98422 / 2.26216) ** 2  # t of 99 and of 9 degrees of freedom
    assert (found.low, found.high) == pytest.approx(wilson(0.3, 100 / design_effect * few), abs=1e-4)
    assert found.high - found.low > 2.5 * (wilson(0.3, 100)[1] - wilson(0.3, 100)[0])


@pytest.mark.parametrize("df", [1, 2, 5, 6, 7, 10, 30, 1000])
def test_students_quantile(df):
    assert t_95(df) == pytest.approx(slow_t(df), abs=2e-3)


def test_intervals_of_few_images_hold_as_often_as_they_say():
    """Ten boxes on each of five images, found with chances that differ: held in 85 of 100 by Wilson's alone."""
    drawn, n_held = randoms.Random(5), 0
    for _ in range(400):
        chances = [drawn.betavariate(0.5 * 7 / 3, 0.5 * 7 / 3) for _ in range(5)]
        counts = [(str(at), float(sum(drawn.random() < p for _ in range(10))), 10) for at, p in enumerate(chances)]
        found = share(counts)
        n_held += found.low <= 0.5 <= found.high
    assert n_held / 400 > 0.92


def test_a_gain_that_is_the_same_everywhere_has_no_error():
    """Nothing found anywhere, by chance neither: that is not ± 0."""
    assert gain((name, 0.0, 0.0, 2) for name in "abc") == (0.0, None)
    assert gain((name, 0.3, 0.1, 1) for name in "abc") == (pytest.approx(0.2), None)


def test_where_all_agree_an_image_is_worth_one():
    found = share([("a", 5.0, 5), ("b", 3.0, 3)])
    assert (found.low, found.high) == wilson(1.0, 2)
    assert share([("a", 2.0, 4)]).se is None


def test_nothing_to_count_is_no_share():
    assert share([]) is share([("a", 0.0, 0)]) is gain([("a", 0.0, 0.0, 0)]) is None


def test_a_gain_by_hand():
    """Regions 2, 1, 1; found 2, 0, 1 against 0.5, 0, 0.5 by chance: rests of 1.5, 0, 0.5 about 0.5 a region."""
    value, se = gain([("a", 2.0, 0.5, 2), ("b", 0.0, 0.0, 1), ("c", 1.0, 0.5, 1)])
    assert value == 0.5
    assert se == pytest.approx(math.sqrt(3 / 2 * (0.5**2 + 0.5**2 + 0.0)) / 4, abs=1e-12)


@given(counts, st.randoms())
@settings(deadline=None, max_examples=60)
def test_a_share_lies_in_its_interval_and_no_order_changes_it(some, random):
    found = share(some)
    shuffled = list(some)
    random.shuffle(shuffled)
    assert share(shuffled) == found
    if found is not None:
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.value == sum(hits for _, hits, _ in some) / sum(n for _, _, n in some)
        low, high = slow_interval(some)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-3)


def slow_interval(some):
    """The same from its definition, cluster by cluster."""
    images = sorted({image for image, _, n in some if n})
    n, k = sum(m for _, _, m in some), len(images)
    p = sum(hits for _, hits, _ in some) / n
    spread = sum(sum(hits - p * m for name, hits, m in some if name == image) ** 2 for image in images)
    worth = k
    if k > 1 and 0 < p < 1:
        worth = n / max(1.0, (k / (k - 1) * spread / n**2) / (p * (1 - p) / (n - 1)))
        worth *= (slow_t(n - 1) / slow_t(k - 1)) ** 2
    centre = (p + Z_95**2 / (2 * worth)) / (1 + Z_95**2 / worth)
    half = Z_95 / (1 + Z_95**2 / worth) * math.sqrt(p * (1 - p) / worth + Z_95**2 / (4 * worth**2))
    return max(0.0, centre - half), min(1.0, centre + half)


@cache
def slow_t(df):
    """Where Student's density has left 2.5 % above, by Simpson's rule from 0 and halving."""
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)

    def below(end, n=2000):
        values = [(1 + (end * at / n) ** 2 / df) ** (-(df + 1) / 2) for at in range(n + 1)]
        return scale * end / n / 3 * (values[0] + values[-1] + 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2]))

    low, high = 1.9, 13.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < 0.475 else (low, middle)
    return low
