import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.boxes import area, as_box, centre, clamp, from_xywh, grow, inside, intersection, iou, whole

positions = st.floats(-1e4, 1e4)
promised = settings(max_examples=150, deadline=None)


@st.composite
def boxes(draw):
    x0, y0 = draw(positions), draw(positions)
    return as_box((x0, y0, x0 + draw(st.floats(0.01, 1e4)), y0 + draw(st.floats(0.01, 1e4))))


sizes = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@pytest.mark.parametrize(
    ("numbers", "complaint"),
    [
        ((3, 0, 3, 5), "empty or inverted"),
        ((0, 5, 3, 5), "empty or inverted"),
        ((4, 0, 3, 5), "empty or inverted"),
        ((math.nan, 0, 3, 5), "not finite"),
        ((0, 0, math.inf, 5), "not finite"),
        ((0, 0, 5), "unpack"),
        ((0, 0, 5, 5, 5), "unpack"),
    ],
)
def test_what_is_no_box(numbers, complaint):
    with pytest.raises(ValueError, match=complaint):
        as_box(numbers)


def test_a_box_is_four_floats():
    box = as_box([1, 2, 3, 4])
    assert box == (1.0, 2.0, 3.0, 4.0)
    assert all(isinstance(edge, float) for edge in box)


def test_xywh_is_not_xyxy():
    assert from_xywh((212.0, 587.0, 247.0, 201.0)) == (212.0, 587.0, 459.0, 788.0)
    with pytest.raises(ValueError, match="empty"):
        from_xywh((5, 5, 0, 3))


@pytest.mark.parametrize(
    ("a", "b", "common", "overlap"),
    [
        ((0, 0, 2, 2), (1, 1, 3, 3), 1, 1 / 7),
        ((0, 0, 2, 2), (0, 0, 2, 2), 4, 1),
        ((0, 0, 4, 4), (1, 1, 2, 3), 2, 2 / 16),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0, 0),  # they only touch: x1 is exclusive
        ((0, 0, 1, 1), (5, 5, 6, 6), 0, 0),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0, 0),  # both empty
        ((3, 3, 1, 1), (0, 0, 4, 4), 0, 0),  # inverted: two negative sides are no area
    ],
)
def test_intersection_and_iou(a, b, common, overlap):
    assert intersection(a, b) == common
    assert iou(a, b) == pytest.approx(overlap)


@promised
@given(a=boxes(), b=boxes())
@example(a=(0.0, 0.0, 1.0, 1.0), b=(0.0, 0.0, 1.0, math.nextafter(1.0, 2.0)))
def test_iou_is_symmetric_and_between_0_and_1(a, b):
    assert 0 <= iou(a, b) <= 1
    assert iou(a, b) == iou(b, a)
    assert iou(a, a) == 1


@promised
@given(a=boxes(), b=boxes())
def test_common_area_is_at_most_either_area(a, b):
    assert 0 <= intersection(a, b) <= min(area(a), area(b))


@pytest.mark.parametrize(
    ("box", "clamped"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4)),
        ((-5, -5, 3, 4), (0, 0, 3, 4)),
        ((5, 5, 99, 99), (5, 5, 30, 20)),
        ((-math.inf, 0, math.inf, 20), (0, 0, 30, 20)),
        ((30, 0, 40, 20), None),  # x = width is outside
        ((0, -9, 30, 0), None),
    ],
)
def test_clamp(box, clamped):
    assert clamp(box, (30, 20)) == clamped


@promised
@given(box=boxes(), size=sizes)
def test_clamp_is_the_part_inside(box, size):
    part = clamp(box, size)
    if part is None:
        assert intersection(box, whole(size)) == 0
    else:
        assert inside(part, size)
        assert clamp(part, size) == part
        assert area(part) == pytest.approx(intersection(box, whole(size)))


@pytest.mark.parametrize(
    ("box", "is_inside"),
    [
        ((0, 0, 30, 20), True),
        ((0, 0, 30.01, 20), False),
        ((-0.01, 0, 30, 20), False),
        ((5, 5, 5, 6), False),
        ((6, 5, 5, 6), False),
        ((math.nan, 0, 1, 1), False),
        ((0, 0, math.inf, 1), False),
    ],
)
def test_inside(box, is_inside):
    assert inside(box, (30, 20)) is is_inside


def test_a_margin_of_one_triples_both_sides():
    assert grow((10, 20, 14, 30), 1.0) == (6, 10, 18, 40)
    assert grow((10, 20, 14, 30), 0.25) == (9, 17.5, 15, 32.5)


@promised
@given(box=boxes(), margin=st.floats(0, 3))
def test_growing_keeps_the_centre_and_covers_the_box(box, margin):
    grown = grow(box, margin)
    assert centre(grown) == pytest.approx(centre(box), abs=1e-6)
    assert grown[0] <= box[0] < box[2] <= grown[2]
    assert grown[1] <= box[1] < box[3] <= grown[3]
    assert area(grown) == pytest.approx(area(box) * (1 + 2 * margin) ** 2, rel=1e-6)
    assert grow(box, 0) == box
