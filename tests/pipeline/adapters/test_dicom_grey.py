import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.dicom_grey import GreyRule, Rescale, distinct, grey_pixels
from pipeline.adapters.dicom_windows import Table, Window
from schemas.errors import InputError

stored = st.lists(st.integers(0, 4095), min_size=1, max_size=40)
U8, U12, S16 = (0, 255), (0, 4095), (-32768, 32767)


def grey(values, rule, window=None):
    return grey_pixels(np.array([values]), rule, window)[0].tolist()


def test_order_is_modality_then_window_then_inversion():
    rule = GreyRule(S16, modality=Rescale(1, -1024), views=(Window(40, 100),))
    assert grey([1014, 1063, 1113, 3000], rule) == [0, 126, 255, 255]  # HU −10, 39, 89: 49/99 of 255 is 126.2
    inverted = GreyRule(S16, modality=Rescale(1, -1024), views=(Window(40, 100),), is_inverted=True)
    assert grey([1014, 1063, 1113, 3000], inverted) == [255, 129, 0, 0]


def test_up_to_eight_bits_without_window_stay_what_they_were():
    values = [7, 8, 200]
    assert grey(values, GreyRule(U8)) == values
    assert grey(values, GreyRule(U8, modality=Rescale(1, 0))) == values
    assert grey(values, GreyRule(U8, is_inverted=True)) == [248, 247, 55]
    assert grey([0, 1, 1], GreyRule((0, 1))) == [0, 255, 255]
    assert grey([0, 0], GreyRule((0, 1))) == [0, 0]
    assert grey([-128, 127], GreyRule((-128, 127))) == [0, 255]


def test_deeper_values_without_window_reach_both_ends():
    assert grey([100, 300, 500], GreyRule(U12)) == [0, 128, 255]
    assert grey([100, 300, 500], GreyRule(U8, modality=Rescale(2, 0))) == [0, 128, 255]
    assert grey([7, 8, 207], GreyRule(U8), "minmax") == [0, 1, 255]  # asked for
    assert grey([0, 4095], GreyRule(U12, views=(Window(100, 10),)), "minmax") == [0, 255]


def test_a_constant_frame_is_mid_grey_and_padding_alone_is_black():
    assert grey([900, 900], GreyRule(U12)) == grey([900, 900], GreyRule(U12, is_inverted=True)) == [128, 128]
    assert grey([-2000, -2000], GreyRule(S16, padding=(-2000, -2000))) == [0, 0]


def test_padding_is_black_and_counts_for_nothing():
    rule = GreyRule(S16, padding=(-2000, -1990))
    assert grey([-2000, -1990, 0, 50, 100], rule) == [0, 0, 0, 128, 255]
    white = GreyRule(U12, padding=(4095, 4095), is_inverted=True)  # MONOCHROME1 pads at the other end
    assert grey([4095, 0, 50, 100], white) == [0, 255, 128, 0]


def test_views_are_chosen_by_index():
    rule = GreyRule(U12, views=(Table(0, np.array([0.0, 255]), 8), Window(50, 100, "LINEAR_EXACT"), Window(0, 2)))
    assert grey([0, 1, 50], rule) == grey([0, 1, 50], rule, 0) == [0, 255, 255]
    assert grey([0, 25, 50], rule, 1) == [0, 64, 128]
    with pytest.raises(InputError, match="no window 3: the image has 3"):
        grey([0, 1], rule, 3)
    with pytest.raises(InputError, match="no window -1"):
        grey([0, 1], rule, -1)
    with pytest.raises(InputError, match="no window 0: the image has 0"):
        grey([0, 1], GreyRule(U12), 0)


def test_named_windows_are_for_hounsfield_units_only():
    ct = GreyRule(S16, modality=Rescale(1, -1024), views=(Window(0, 1),), is_hounsfield=True)
    hounsfield = np.array([-1400, -1350, -601, -600, 149, 800])  # −1350 to 149: LINEAR, centre −600, width 1500
    assert grey((hounsfield + 1024).tolist(), ct, "lung") == [0, 0, 127, 128, 255, 255]
    with pytest.raises(InputError, match="Hounsfield"):
        grey([1, 2], GreyRule(U12), "lung")
    with pytest.raises(InputError, match="no window called 'lnug'") as caught:
        grey([1, 2], ct, "lnug")
    assert "lung" in caught.value.fix


def test_a_rescale_that_leaves_no_image_is_refused():
    for slope, intercept in ((0, 5), (float("nan"), 0), (1, float("inf"))):
        with pytest.raises(InputError, match="leave no image"):
            Rescale(slope, intercept)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(0, 4095), min_size=1, max_size=40), c=st.integers(-100, 4200), w=st.integers(2, 5000)
)
def test_the_inverted_twin_of_a_frame_is_the_same_picture(values, c, w):
    """Stored values x and 4095 − x, with the window mirrored likewise, shown as MONOCHROME2 and MONOCHROME1."""
    twin = [4095 - value for value in values]
    for function, mirrored in (("LINEAR", 4096 - c), ("LINEAR_EXACT", 4095 - c), ("SIGMOID", 4095 - c)):
        one = GreyRule(U12, views=(Window(c, w, function),))
        other = GreyRule(U12, views=(Window(mirrored, w, function),), is_inverted=True)
        assert grey(values, one) == grey(twin, other)
    assert grey(values, GreyRule(U12)) == grey(twin, GreyRule(U12, is_inverted=True))
    assert grey(values, GreyRule(U12, padding=(0, 9))) == grey(
        twin, GreyRule(U12, padding=(4086, 4095), is_inverted=True)
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(-40, 40), st.integers(-(2**31), 2**31 - 1)), min_size=1, max_size=30))
def test_distinct_values_are_those_of_numpy(values):
    stored = np.array([values, values])
    levels, index = distinct(stored)
    expected, inverse = np.unique(stored, return_inverse=True)
    assert np.array_equal(levels, expected)
    assert np.array_equal(index, inverse.reshape(stored.shape))
