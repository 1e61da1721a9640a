"""The patch grid: the merged vision tokens of one image, numbered in raster order, as the language model sees them.

A grid is (columns, rows) and comes from the image processor, never from a formula here; a point or box is in pixels
of an image of `size`, whichever image that is. Cells are half open: x = width lies outside.
"""

import math

from schemas.boxes import Box, Size, as_box, clamp

Grid = tuple[int, int]  # columns, rows

_EPS_CELLS = 1e-9  # an edge this near to a cell border is on it: x·gw/W is not exact


def cell_of(x_px: float, y_px: float, size: Size, grid: Grid) -> tuple[int, int] | None:
    """(column, row), column = min(gw − 1, ⌊x·gw/W⌋); None outside [0, W) × [0, H) and for NaN."""
    (width, height), (columns, rows) = size, grid
    if not (0 <= x_px < width and 0 <= y_px < height):
        return None
    return min(columns - 1, math.floor(x_px * columns / width)), min(rows - 1, math.floor(y_px * rows / height))


def patch_id(column: int, row: int, grid: Grid) -> int:
    """row·gw + column."""
    if not (0 <= column < grid[0] and 0 <= row < grid[1]):
        raise ValueError(f"cell {(column, row)} is not on a grid of {grid[0]} x {grid[1]}")
    return row * grid[0] + column


def patch_of(x_px: float, y_px: float, size: Size, grid: Grid) -> int | None:
    """The patch that holds a point; None off the image."""
    cell = cell_of(x_px, y_px, size, grid)
    return None if cell is None else patch_id(*cell, grid)


def box_of(patch: int, size: Size, grid: Grid) -> Box:
    """The pixels a patch covers; its centre is always in the patch."""
    (width, height), (columns, rows) = size, grid
    if not 0 <= patch < columns * rows:
        raise ValueError(f"patch {patch} is not on a grid of {columns} x {rows}")
    row, column = divmod(patch, columns)
    return (
        column * width / columns,
        row * height / rows,
        (column + 1) * width / columns,
        (row + 1) * height / rows,
    )


def patches_in(box_xyxy_px: Box, size: Size, grid: Grid) -> tuple[int, ...]:
    """Every patch that shares area with the box, in raster order; none for a box outside the image."""
    inside = clamp(as_box(box_xyxy_px), size)
    if inside is None:
        return ()
    columns = _cells(inside[0], inside[2], size[0], grid[0])
    rows = _cells(inside[1], inside[3], size[1], grid[1])
    return tuple(patch_id(column, row, grid) for row in rows for column in columns)


def _cells(low_px: float, high_px: float, length_px: int, n_cells: int) -> range:
    first = min(n_cells - 1, math.floor(low_px * n_cells / length_px + _EPS_CELLS))
    last = math.ceil(high_px * n_cells / length_px - _EPS_CELLS) - 1
    return range(first, max(first, last) + 1)
