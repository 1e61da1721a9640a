"""Centre-surround contrast of many windows at once, from integral images of grey levels.

z = (mean inside − mean of the ring of equal area) / (deviation of the ring + 1), signed. All sums are integers and
all roots and quotients are IEEE, so the same pixels give the same bits everywhere. Windows are whole pixels
[n, 4] = x0, y0, x1, y1, half open. (Ours; centre-surround after Itti, Koch and Niebur, 1998.)
"""

import math
from dataclasses import dataclass

import numpy as np

SIDE_PX_MIN = 4  # smaller windows see noise
RING = (math.sqrt(2) - 1) / 2  # growth at each edge that doubles the area
RING_SHARE_MIN = 0.5  # of the window's area that must remain of its ring at the border
NESTED = 0.5  # windows that share more than this part of the smaller one show one thing


@dataclass(frozen=True, slots=True)
class Sums:
    """Integral images of grey levels and of their squares, int64 [height + 1, width + 1]."""

    plain: np.ndarray
    squared: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray) -> "Sums":
        """`pixels` uint8 [height, width], sides up to 2048: n · Σ x² then fits 63 bits."""
        values = pixels.astype(np.int64)
        return cls(_integral(values), _integral(values * values))

    @property
    def shape(self) -> tuple[int, int]:
        """Height, width."""
        return self.plain.shape[0] - 1, self.plain.shape[1] - 1


def windows(
    shape: tuple[int, int],
    width: int,
    height: int,
    stride: int,
    centres: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """All windows of one size on a grid, row by row; with `centres`, only those centred in that box.

    An empty array when the size is below `SIDE_PX_MIN` or does not fit.
    """
    if min(width, height) < SIDE_PX_MIN or height > shape[0] or width > shape[1]:
        return np.zeros((0, 4), dtype=np.int64)
    x0, y0, x1, y1 = centres or (0, 0, shape[1], shape[0])
    xs = _starts(x0 - width / 2, x1 - width / 2, shape[1] - width, stride)
    ys = _starts(y0 - height / 2, y1 - height / 2, shape[0] - height, stride)
    y, x = (grid.ravel() for grid in np.meshgrid(ys, xs, indexing="ij"))
    return np.stack([x, y, x + width, y + height], axis=1)


def contrast(sums: Sums, inner: np.ndarray) -> np.ndarray:
    """Signed z of each window, float64 [n]; 0 where the border leaves too little of the ring."""
    outer = _grown(inner, sums.shape)
    n_inner, n_outer = _area(inner), _area(outer)
    n_ring = n_outer - n_inner
    usable = n_ring >= np.maximum(1, RING_SHARE_MIN * n_inner)
    n = np.where(usable, n_ring, 1)
    total = _sum(sums.plain, inner)
    ring, ring_squared = _sum(sums.plain, outer) - total, _sum(sums.squared, outer) - _sum(sums.squared, inner)
    deviation = np.sqrt(np.maximum(0, n * ring_squared - ring * ring)) / n
    return np.where(usable, (total / n_inner - ring / n) / (deviation + 1), 0.0)


def suppressed(boxes: np.ndarray, strengths: np.ndarray, at_least: float, limit: int) -> list[int]:
    """Indices of the strongest windows that show different things, strongest first; of equals the first."""
    kept: list[int] = []
    alive = strengths >= at_least
    for index in np.argsort(-strengths, kind="stable"):
        if len(kept) == limit or not alive.any():
            break
        if alive[index]:
            kept.append(int(index))
            alive &= _shared(boxes, boxes[index]) <= NESTED
    return kept


def _integral(values: np.ndarray) -> np.ndarray:
    return np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))


def _starts(low: float, high: float, last: int, stride: int) -> np.ndarray:
    first, final = max(0, math.ceil(low)), min(last, math.floor(high))
    return np.arange(first, final + 1, stride, dtype=np.int64)


def _grown(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    sides = boxes[:, 2:] - boxes[:, :2]
    margin = np.maximum(1, np.rint(RING * sides).astype(np.int64))
    low = np.maximum(0, boxes[:, :2] - margin)
    return np.concatenate([low, np.minimum(boxes[:, 2:] + margin, (shape[1], shape[0]))], axis=1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _sum(table: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = boxes.T
    return table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0]


def _shared(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Common area with `box`, as a part of the smaller of the two."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    common = np.maximum(0, sides).prod(axis=1)
    return common / np.minimum(_area(boxes), _area(box[None]))
