"""Masks ↔ boxes: identities and covers as properties, components against a slow flood fill."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.adapters.experts.masks import box_of, decoded, encoded, mask_of, parts_of
from schemas.frames import crop_box

SOME = settings(max_examples=60, deadline=None)
SIZES = st.tuples(st.integers(1, 24), st.integers(1, 24))
MASKS = SIZES.flatmap(lambda size: arrays.arrays(bool, size[::-1], elements=st.booleans()))


@st.composite
def boxes_in_frames(draw, edges=st.integers):
    size = draw(SIZES)
    spans = [sorted(draw(st.lists(edges(0, side), min_size=2, max_size=2, unique=True))) for side in size]
    return (spans[0][0], spans[1][0], spans[0][1], spans[1][1]), size


def flooded(mask: np.ndarray) -> set[frozenset]:
    """Components by walking from pixel to pixel, corners included."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    found = set()
    while left:
        part, border = set(), [left.pop()]
        while border:
            y, x = border.pop()
            part.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            border += near
        found.add(frozenset(part))
    return found


@SOME
@given(boxes_in_frames())
def test_a_box_of_whole_pixels_comes_back_from_its_mask(boxed):
    box, size = boxed
    mask = mask_of(box, size)
    assert (mask.shape, int(mask.sum())) == (size[::-1], (box[2] - box[0]) * (box[3] - box[1]))
    assert box_of(mask) == box


@SOME
@given(boxes_in_frames())
def test_a_box_comes_back_from_fractions_of_any_frame(boxed):
    box, size = boxed
    scaled = tuple(edge / size[i % 2] * size[i % 2] for i, edge in enumerate(box))
    assert box_of(mask_of(scaled, size)) == box


@SOME
@given(boxes_in_frames(lambda low, high: st.floats(low, high, width=32)))
def test_the_mask_of_any_box_covers_it_by_less_than_a_pixel_at_each_edge(boxed):
    box, size = boxed
    found = box_of(mask_of(box, size))
    for i in range(4):
        outward = box[i] - found[i] if i < 2 else found[i] - box[i]
        assert -1e-6 <= outward < 1 + 1e-6
    if all(abs(edge - round(edge)) > 1e-3 for edge in box):
        assert found == crop_box(box, size)  # what the environment cuts


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ((0.0, 0.0, 0.5, 0.5), (0, 0, 1, 1)),
        ((-5.0, 1.0, 2.0, 99.0), (0, 1, 2, 4)),
        ((4.9999999, 0.0, 5.0, 1.0), (4, 0, 5, 1)),
        ((2.0 - 1e-9, 1.0, 3.0 + 1e-9, 2.0), (2, 1, 3, 2)),
    ],
)
def test_boxes_at_borders(box, found):
    assert box_of(mask_of(box, (5, 4))) == found


@pytest.mark.parametrize("box", [(5.0, 0.0, 9.0, 2.0), (1.0, 1.0, 1.0, 2.0), (float("nan"), 0.0, 1.0, 1.0)])
def test_what_is_no_box_in_the_frame_has_no_mask(box):
    with pytest.raises(ValueError):
        mask_of(box, (5, 4))


def test_an_empty_mask_has_no_box_and_no_parts():
    empty = np.zeros((3, 4), bool)
    with pytest.raises(ValueError, match="empty"):
        box_of(empty)
    parts = parts_of(empty)
    assert (parts.boxes_xyxy_px, parts.areas_px, int(parts.labels.sum())) == ((), (), 0)


@SOME
@given(MASKS)
def test_parts_are_what_a_flood_fill_finds_and_together_the_mask(mask):
    parts = parts_of(mask)
    sets = [frozenset(map(tuple, np.argwhere(parts.mask(n + 1)).tolist())) for n in range(len(parts.areas_px))]
    assert set(sets) == flooded(mask)
    assert ((parts.labels > 0) == mask).all()
    assert list(map(min, sets)) == sorted(map(min, sets))  # numbered in reading order
    assert parts.areas_px == tuple(map(len, sets))
    for number, box in enumerate(parts.boxes_xyxy_px, start=1):
        assert box == box_of(parts.mask(number))


@SOME
@given(MASKS)
def test_boxes_of_parts_cover_every_set_pixel_and_lie_in_the_box_of_all(mask):
    covered = np.zeros_like(mask)
    for box in parts_of(mask).boxes_xyxy_px:
        covered |= mask_of(box, mask.shape[::-1])
    assert (covered | ~mask).all()
    assert not mask.any() or box_of(covered) == box_of(mask)


def test_a_checkerboard_is_one_part_and_stripes_are_many():
    y, x = np.mgrid[:9, :9]
    assert parts_of((x + y) % 2 == 0).areas_px == (41,)
    assert parts_of(x % 2 == 0).areas_px == (9,) * 5


def test_means_are_those_inside_each_part():
    mask = np.array([[1, 1, 0, 0], [0, 0, 0, 1]], bool)
    values = np.array([[0.2, 0.4, 9.0, 9.0], [9.0, 9.0, 9.0, 0.7]])
    assert parts_of(mask).means(values) == pytest.approx([0.3, 0.7])


@SOME
@given(MASKS)
def test_run_lengths_give_the_mask_back(mask):
    rle = encoded(mask)
    assert (decoded(rle, mask.shape[::-1]) == mask).all()
    assert all(count > 0 for count in rle["counts"][1:])


def test_run_lengths_go_down_the_columns_and_begin_with_zeros():
    assert encoded(np.array([[0, 1], [0, 1], [1, 0]], bool)) == {"size": [3, 2], "counts": [2, 3, 1]}
    assert encoded(np.ones((2, 2), bool)) == {"size": [2, 2], "counts": [0, 4]}


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [2, 3], "counts": [6]},
        {"size": [3, 2], "counts": [5]},
        {"size": [3, 2], "counts": [-1, 7]},
        {"size": [10**9, 10**9], "counts": [10**18]},
        {"size": [3, 2], "counts": [10**30]},
    ],
)
def test_run_lengths_of_another_frame_are_refused(rle):
    with pytest.raises(ValueError):
        decoded(rle, (2, 3))
