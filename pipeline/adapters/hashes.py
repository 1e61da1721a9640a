"""What near copies of a picture have nearly in common: PDQ and pHash of it, of its mirror image and without its border.

PDQ (Facebook, "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm", 2019) in numpy, since its
package has no wheel for Linux. Two box filters per axis and the sampling of 64 points are linear, so here they are one
row of weights per point. Nothing is compared here, and a picture with too little in it has no hash.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from schemas.records import Hashes

Grey = NDArray[np.uint8]
Grid = NDArray[np.float32]

SIDE = 64  # points per axis that PDQ sees
FREQUENCIES = 16
SIDE_MIN_PX = 5
QUALITY_MIN = 50  # of 100: below it PDQ's authors advise against using a hash
SET_BITS_MIN = 96  # of 256, where 128 is the rule: stripes and ramps leave most coefficients at zero, hence equal
PHASH_SIDE, PHASH_FREQUENCIES = 32, 8
SHORTCUT = 3.0  # Pillow's reducing_gap: a box filter first, Lanczos on three times the wanted size
GRAIN = 1 / 1024  # coefficients are rounded to it, so that those of a symmetric picture are zero on every machine
BORDER_LEVELS = 8  # a border may differ from the colour of its corner by so much
TRIMMED_SIDE_MIN_PX = SIDE


def picture_hashes(grey: Grey) -> Hashes:
    """Hashes of [height, width] grey levels; null where PDQ's quality or the number of its set bits is too low."""
    pdq, pdq_mirror, phash, phash_mirror = _whole(grey)
    box = content_box(grey)
    pdq_trimmed, _, phash_trimmed, _ = (pdq, None, phash, None) if box is None else _whole(grey[box])
    return Hashes(pdq, pdq_mirror, pdq_trimmed, phash, phash_mirror, phash_trimmed)


def content_box(grey: Grey) -> tuple[slice, slice] | None:
    """Rows and columns inside a uniform border; None where there is none, or a side would have less than 64 pixels.

    Upper rows and left columns are border while all their pixels lie within `BORDER_LEVELS` of the upper left corner,
    lower and right ones within that of the lower right corner.
    """
    height, width = grey.shape
    rows, columns = _inside(grey, int(grey[0, 0])), _inside(grey[::-1, ::-1], int(grey[-1, -1]))
    if rows is None or columns is None:
        return None
    (top, left), (bottom, right) = rows, (height - columns[0], width - columns[1])
    is_whole = (top, left, bottom, right) == (0, 0, height, width)
    is_small = min(bottom - top, right - left) < TRIMMED_SIDE_MIN_PX
    return None if is_whole or is_small else (slice(top, bottom), slice(left, right))


def _inside(grey: Grey, corner: int) -> tuple[int, int] | None:
    """The first row and the first column that leave the corner's colour; None when no pixel does."""
    low, high = max(corner - BORDER_LEVELS, 0), min(corner + BORDER_LEVELS, 255)
    if all((edge - np.uint8(low) > high - low).any() for edge in (grey[0], grey[:, 0])):
        return 0, 0
    is_content = grey - np.uint8(low) > high - low  # levels below `low` wrap round
    rows = is_content.any(axis=1)
    if not rows.any():
        return None
    return int(rows.argmax()), int(is_content.any(axis=0).argmax())


def _whole(grey: Grey) -> tuple[str | None, str | None, str | None, str | None]:
    """PDQ and its mirror, pHash and its mirror."""
    if min(grey.shape) < SIDE_MIN_PX:
        return None, None, None, None
    points, mirrored = pdq_points(grey)
    pdq, pdq_mirror = _pdq_bits(points), _pdq_bits(mirrored)
    if pdq_quality(points) < QUALITY_MIN or min(int(pdq.sum()), int(pdq_mirror.sum())) < SET_BITS_MIN:
        return None, None, None, None
    low = _phash_coefficients(grey)
    odd_negated = low * np.where(np.arange(PHASH_FREQUENCIES) % 2, -1, 1)
    return _hex(pdq), _hex(pdq_mirror), _hex(_phash_bits(low)), _hex(_phash_bits(odd_negated))


def pdq_points(grey: Grey) -> tuple[Grid, Grid]:
    """[64, 64] levels of the picture and of its mirror image.

    Two box filters of ceil(side / 128) pixels per axis, then the centres of 64 equal stretches.
    """
    columns = np.ascontiguousarray(_sampled(grey).T)
    return _sampled(columns).T, _sampled(columns[::-1]).T


def _sampled(values: NDArray[np.number]) -> Grid:
    """The filtered sum over rows at 64 of them: [n, columns] → [64, columns]; small arrays, used again for each tap."""
    total = np.zeros((SIDE, values.shape[1]), np.float32)
    taken, weighted = np.empty(total.shape, values.dtype), np.empty_like(total)
    for rows, weights in zip(*_taps(len(values)), strict=True):
        values.take(rows, axis=0, out=taken, mode="clip")
        np.multiply(taken, weights[:, None], out=weighted)
        total += weighted
    return total


@lru_cache(maxsize=256)
def _taps(n: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Rows [taps, 64] and weights [taps, 64] of two box filters run one after the other; weight 0 outside.

    A box filter averages from `left` before to `right` after; at the ends, over what there is.
    """
    window = -(-n // (2 * SIDE))
    left, right = window - (window + 2) // 2, (window + 2) // 2 - 1
    points = ((np.arange(SIDE) + 0.5) * n / SIDE).astype(np.intp)[:, None, None]
    middle = points + np.arange(-left, right + 1)[:, None]  # [64, window, 1]: outputs of the first filter
    taps = points + np.arange(-2 * left, 2 * right + 1)  # [64, 1, taps]
    first = _share(taps, middle, left, right, n) * ((taps >= 0) & (taps < n))
    weights = (first * _share(middle, points, left, right, n) * ((middle >= 0) & (middle < n))).sum(axis=1)
    return taps[:, 0].T.clip(0, n - 1), weights.T.astype(np.float32)


def _share(taken: NDArray[np.intp], at: NDArray[np.intp], left: int, right: int, n: int) -> NDArray[np.float64]:
    """The weight of row `taken` in the average around row `at`."""
    begin, end = np.maximum(at - left, 0), np.minimum(at + right + 1, n)
    return ((begin <= taken) & (taken < end)) / np.maximum(end - begin, 1)


def pdq_quality(points: Grid) -> int:
    """0 … 100: sum of the differences between neighbours in whole hundredths of the grey scale, over 90."""
    steps = (np.diff(points, axis=axis) * np.float32(100) / np.float32(255) for axis in (0, 1))
    return min(100, sum(int(np.abs(np.trunc(step)).sum()) for step in steps) // 90)


def _pdq_bits(points: Grid) -> NDArray[np.bool_]:
    """Frequencies 1 … 16 of the cosine transform above their lower median, the last bit first."""
    basis = _cosines(SIDE, FREQUENCIES, 1) * np.sqrt(2 / SIDE)
    values = _rounded(basis @ points.astype(np.float64) @ basis.T)
    return (values > np.sort(values)[values.size // 2 - 1])[::-1]


def _phash_coefficients(grey: Grey) -> NDArray[np.float64]:
    """Frequencies 0 … 7 of the cosine transform at 32 x 32 pixels: `imagehash.phash` but for the shortcut."""
    size = (PHASH_SIDE, PHASH_SIDE)
    small = Pillow.fromarray(grey).resize(size, Pillow.Resampling.LANCZOS, reducing_gap=SHORTCUT)
    basis = 2 * _cosines(PHASH_SIDE, PHASH_FREQUENCIES, 0)
    return basis @ np.asarray(small, np.float64) @ basis.T


@lru_cache
def _cosines(n: int, n_frequencies: int, first: int) -> NDArray[np.float64]:
    """cos(π k (2 x + 1) / 2 n) of frequencies k from `first` on: [n_frequencies, n]."""
    frequencies = np.arange(first, first + n_frequencies)[:, None]
    return np.cos(np.pi * frequencies * (2 * np.arange(n) + 1) / (2 * n))


def _phash_bits(coefficients: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Coefficients above their median, the first bit first."""
    values = _rounded(coefficients)
    low, high = np.sort(values)[values.size // 2 - 1 : values.size // 2 + 1]
    return values > (low + high) / 2


def _rounded(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.rint(coefficients / GRAIN).ravel()


def _hex(bits: NDArray[np.bool_]) -> str:
    return np.packbits(bits).tobytes().hex()
