"""PDQ as its authors' code gives it, pHash nearly as imagehash gives it, and what mirrors, borders and voids do."""

from math import cos, pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.hashes import content_box, pdq_points, pdq_quality, picture_hashes
from schemas.records import Hashes

NOTHING = Hashes(None, None, None, None, None, None)


def blocks(height: int, width: int) -> np.ndarray:
    """Uneven blocks with a ramp across: integer arithmetic, the same everywhere."""
    y, x = np.mgrid[:height, :width].astype(np.int64)
    levels = ((x * 7 // width) * 37 + (y * 5 // height) * 91 + ((x * 7 // width) * (y * 5 // height)) * 53) % 200
    return (levels + (x * 3 + y * 2) % 32).astype(np.uint8)


def noise(height: int, width: int, seed: int) -> np.ndarray:
    """Coarse blobs over the whole grey scale."""
    cells = np.random.default_rng(seed).integers(0, 256, (9, 9), np.uint8)
    return cells[np.arange(height) * 9 // height][:, np.arange(width) * 9 // width]


def distance(one: str | None, other: str | None) -> int:
    assert one is not None
    assert other is not None
    return (int(one, 16) ^ int(other, 16)).bit_count()


@pytest.mark.parametrize(
    ("size", "pdq", "phash"),  # of pdqhash 0.2.8 and imagehash 4.3.2
    [
        ((64, 64), "0cc90ed0f92f9e361c3c0ed4fed2ad2ffaa3f1cf04d956d0f92616301c3c1ad0", "d5851e06f20d4df9"),
        ((100, 37), "36c9f2cdc936df70ae940a907e98e52fc383e18f06c9f58fc9369e301c3c1ad0", "d4851e06b6ee49f8"),
        ((200, 300), "1ed0b336b3261e3018dc1ed0c5abc12fe783c9cf5cd9b336b3263e30187c3ed0", "d5851e06b25c4df9"),
        ((513, 401), "6c996f9993669e70387c3e903e90c16fc783e18f6c996e9193661e70387c3e90", "d4851e06b26d4df9"),
    ],
)
def test_the_hashes_of_the_public_programs(size: tuple[int, int], pdq: str, phash: str):
    found = picture_hashes(blocks(*size))
    assert found.pdq == pdq
    assert distance(found.phash, phash) <= 2  # the box filter before Lanczos


def slow_pdq(grey: np.ndarray) -> str:
    """PDQ step by step, as its paper tells it."""
    values = grey.astype(float)
    for _ in range(2):
        values = slow_box(slow_box(values).T).T
    height, width = grey.shape
    rows, columns = ([int((i + 0.5) * n / 64) for i in range(64)] for n in (height, width))
    small = values[np.ix_(rows, columns)]
    basis = np.array([[sqrt(2 / 64) * cos(pi / 128 * k * (2 * x + 1)) for x in range(64)] for k in range(1, 17)])
    coefficients = (basis @ small @ basis.T).ravel()
    median = sorted(coefficients)[127]
    return f"{sum(1 << k for k, value in enumerate(coefficients) if value > median):064x}"


def slow_box(values: np.ndarray) -> np.ndarray:
    n = len(values)
    window = (n + 127) // 128
    half = (window + 2) // 2
    return np.array([values[max(0, i - window + half) : i + half].mean(axis=0) for i in range(n)])


@settings(max_examples=12, deadline=None)
@given(st.integers(64, 700), st.integers(64, 700), st.integers(0, 99))
def test_pdq_is_the_filter_the_sampling_and_the_transform_one_after_the_other(height: int, width: int, seed: int):
    grey = noise(height, width, seed)
    assert distance(picture_hashes(grey).pdq, slow_pdq(grey)) <= 2  # single precision near the median


@settings(max_examples=12, deadline=None)
@given(st.integers(64, 300), st.integers(64, 300), st.integers(0, 99))
def test_mirror_hashes_are_the_hashes_of_the_mirror_image(height: int, width: int, seed: int):
    found = picture_hashes(noise(height, width, seed))
    mirrored = picture_hashes(noise(height, width, seed)[:, ::-1].copy())
    assert found.pdq_mirror == mirrored.pdq
    assert distance(found.phash_mirror, mirrored.phash) <= 2
    assert distance(found.pdq, mirrored.pdq) > 70


def test_an_inverse_has_the_other_bits():
    grey = noise(300, 200, 5)
    found, inverse = picture_hashes(grey), picture_hashes(255 - grey)
    assert distance(found.pdq, inverse.pdq) >= 254
    assert distance(found.phash, inverse.phash) >= 62


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(0, 40)] * 4), st.sampled_from([0, 9, 128, 255]), st.integers(0, 99))
def test_a_border_is_cut_from_any_side(edges: tuple[int, ...], level: int, seed: int):
    inner = noise(120, 90, seed)
    for edge in (inner[0], inner[-1], inner[:, 0], inner[:, -1]):  # uneven, and of other colours than the border
        edge[0::2], edge[1::2] = (level + 100) % 256, (level + 60) % 256
    top, bottom, left, right = edges
    padded = np.pad(inner, ((top, bottom), (left, right)), constant_values=level)
    box = content_box(padded)
    assert box == (None if not any(edges) else (slice(top, top + 120), slice(left, left + 90)))
    assert picture_hashes(padded).pdq_trimmed == picture_hashes(inner).pdq


@pytest.mark.parametrize(
    ("change", "is_border"),
    [((0, 8), True), ((0, 9), False)],  # a grain of eight levels is still the border's colour
)
def test_a_border_may_have_a_little_grain(change: tuple[int, int], is_border: bool):
    padded = np.pad(noise(100, 100, 1) // 2 + 100, 10)
    padded[3, 40] = change[1]
    box = content_box(padded)
    assert box is not None
    assert (box[0].start == 10) == is_border
    assert (box[0].stop, box[1]) == (110, slice(10, 110))


def test_too_little_inside_a_border_stays_whole():
    large, small = (np.pad(noise(side, side, 2) // 2 + 60, 40) for side in (64, 63))
    assert content_box(large) == (slice(40, 104), slice(40, 104))
    assert content_box(small) is None
    found = picture_hashes(small)
    assert (found.pdq_trimmed, found.phash_trimmed) == (found.pdq, found.phash)


@pytest.mark.parametrize(
    "grey",
    [
        np.full((200, 200), 128, np.uint8),
        np.zeros((1, 1), np.uint8),
        noise(4, 300, 0),  # PDQ wants five pixels
        128 + noise(200, 200, 0) // 64,  # four levels of grey
        np.add.outer(np.arange(200) % 40, np.arange(200) % 50 * 3).astype(np.uint8),  # no frequency in both directions
    ],
    ids=["blank", "one pixel", "too thin", "pale", "stripes"],
)
def test_a_picture_with_too_little_in_it_has_no_hash(grey: np.ndarray):
    assert picture_hashes(grey) == NOTHING


@pytest.mark.parametrize(("levels", "quality"), [(2, 0), (3, 89), (255, 100)])  # 8,064 neighbours, // 90
def test_quality_counts_steps_of_whole_hundredths_of_the_scale(levels: int, quality: int):
    board = ((np.indices((64, 64)).sum(axis=0) % 2) * levels).astype(np.uint8)
    assert pdq_quality(pdq_points(board)[0]) == quality


@pytest.mark.parametrize("size", [(64, 64), (777, 129), (65, 1024)])
def test_an_even_picture_stays_even_under_the_filters(size: tuple[int, int]):
    for points in pdq_points(np.full(size, 200, np.uint8)):
        assert points.shape == (64, 64)
        assert np.allclose(points, 200)
