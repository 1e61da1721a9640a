from fractions import Fraction
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.dicom_windows import NAMED_HU, Table, Window, eight_bits, stretched
from schemas.errors import InputError


def slow_linear(x, c, w):
    """PS3.3 C.11.2.1.2.1, word by word."""
    x, c, w = Fraction(x), Fraction(c), Fraction(w)
    if x <= c - Fraction(1, 2) - (w - 1) / 2:
        return Fraction(0)
    if x > c - Fraction(1, 2) + (w - 1) / 2:
        return Fraction(1)
    return (x - (c - Fraction(1, 2))) / (w - 1) + Fraction(1, 2)


def slow_linear_exact(x, c, w):
    """PS3.3 C.11.2.1.3.2, word by word."""
    x, c, w = Fraction(x), Fraction(c), Fraction(w)
    if x <= c - w / 2:
        return Fraction(0)
    if x > c + w / 2:
        return Fraction(1)
    return (x - c) / w + Fraction(1, 2)


@pytest.mark.parametrize(
    ("function", "center", "width", "x", "unit"),
    [
        # the standard's own example: c = 2048, w = 4096 spans 0 to 4095
        ("LINEAR", 2048, 4096, [0, 4095, -1, 5000], [0, 1, 0, 1]),
        ("LINEAR", 2048, 1, [2047, 2048], [0, 1]),
        ("LINEAR", 0, 100, [-50, -49, 48, 49], [0, 1 / 99, 98 / 99, 1]),  # the standard's: -50 to 49
        ("LINEAR", 0, 1, [-1, -0.5, -0.4, 0], [0, 0, 1, 1]),  # a step, and the edge itself is black
        ("LINEAR", 40, 2, [39, 39.5, 40], [0, 0.5, 1]),
        ("LINEAR_EXACT", 2048, 4096, [0, 2048, 4095, 4096], [0, 0.5, 4095 / 4096, 1]),
        ("LINEAR_EXACT", 0.5, 0.5, [0, 0.25, 0.5, 0.75, 1], [0, 0, 0.5, 1, 1]),  # widths below 1 are fine here
        ("SIGMOID", 10, 20, [10, 20, 0], [0.5, 1 / (1 + exp(-2)), 1 / (1 + exp(2))]),
        ("SIGMOID", 0, 1, [-1e9, 1e9], [0, 1]),  # no overflow
    ],
)
def test_windows(function, center, width, x, unit):
    assert Window(center, width, function).unit(np.array(x, float)) == pytest.approx(unit, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(x=st.integers(-3000, 3000), c=st.integers(-6000, 6000), w=st.integers(1, 4000))
def test_linear_windows_in_eight_bits_agree_with_exact_arithmetic(x, c, w):
    for function, slow in (("LINEAR", slow_linear), ("LINEAR_EXACT", slow_linear_exact)):
        expected = int(255 * slow(x, Fraction(c, 2), w) + Fraction(1, 2))
        assert eight_bits(Window(c / 2, w, function).unit(np.array([x], float))) == [expected]


@settings(max_examples=100, deadline=None)
@given(x=st.floats(-50, 50), c=st.floats(-50, 50), w=st.floats(0.5, 100))
def test_the_sigmoid_is_that_of_the_standard(x, c, w):
    power = min(700.0, -4 * (x - c) / w)  # beyond it a double overflows, and 1/(1 + e^700) is 0 to 304 digits
    assert Window(c, w, "SIGMOID").unit(np.array([x])) == pytest.approx([1 / (1 + exp(power))], abs=1e-12)


@pytest.mark.parametrize(
    ("center", "width", "function"),
    [(0, 0.5, "LINEAR"), (0, 0, "LINEAR_EXACT"), (0, -5, "SIGMOID"), (float("nan"), 5, "LINEAR"), (0, 5, "CUBIC")],
)
def test_impossible_windows_are_refused(center, width, function):
    with pytest.raises(InputError):
        Window(center, width, function)


def test_tables_hold_their_ends_and_use_their_full_scale():
    table = Table(-2, np.array([0.0, 100, 4095]), 12)
    assert table.look_up(np.array([-9.0, -2, -1.5, -1, 0, 7])).tolist() == [0, 0, 100, 100, 4095, 4095]
    assert table.unit(np.array([-1.0, 9])).tolist() == [100 / 4095, 1]
    assert Table(0, np.array([7.0]), 8).unit(np.array([3.0])).tolist() == [7 / 255]


def test_rounding_is_half_up_and_survives_inversion_and_noise():
    ties = (np.arange(255) + 0.5) / 255
    assert eight_bits(ties).tolist() == list(range(1, 256))
    assert eight_bits(1 - (1 - ties)).tolist() == list(range(1, 256))
    assert eight_bits(np.arange(256) / 255).tolist() == list(range(256))


def test_stretching_reaches_both_ends_and_divides_by_no_zero():
    assert stretched(np.array([-3.0, 0, 7]), -3, 7).tolist() == [0, 0.3, 1]
    assert stretched(np.array([4.0, 4]), 4, 4).tolist() == [0.5, 0.5]


def test_named_windows_are_possible_and_those_of_the_source():
    assert all(Window(*NAMED_HU[name]) for name in NAMED_HU)
    assert (NAMED_HU["lung"], NAMED_HU["brain"], NAMED_HU["mediastinum"]) == ((-600, 1500), (40, 80), (50, 350))
