import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.boxes import centre, intersection
from schemas.patches import box_of, cell_of, patch_id, patch_of, patches_in

sizes = st.tuples(st.integers(1, 4000), st.integers(1, 4000))
grids = st.tuples(st.integers(1, 40), st.integers(1, 40))
promised = settings(max_examples=150, deadline=None)


@pytest.mark.parametrize(
    ("x", "y", "cell"),
    [
        (0, 0, (0, 0)),
        (111.9, 0, (0, 0)),
        (112, 0, (1, 0)),  # cells are half open
        (447.999, 223.999, (3, 1)),
        (448, 10, None),  # x = W is outside
        (10, 224, None),
        (-0.001, 10, None),
        (math.nan, 10, None),
        (10, math.nan, None),
        (math.inf, 10, None),
        (-math.inf, 10, None),
    ],
)
def test_cell_of(x, y, cell):
    assert cell_of(x, y, (448, 224), (4, 2)) == cell
    assert patch_of(x, y, (448, 224), (4, 2)) == (None if cell is None else cell[1] * 4 + cell[0])


def test_patches_count_in_raster_order():
    cells = [(column, row) for row in range(2) for column in range(3)]
    assert [patch_id(*cell, (3, 2)) for cell in cells] == list(range(6))


def test_patch_14_of_a_pixel_grid_is_not_the_merged_patch():
    # 448 px are 32 columns of 14 px but 16 merged ones; the model sees the merged grid only.
    assert patch_of(200, 30, (448, 448), (16, 16)) == 1 * 16 + 7
    assert patch_of(200, 30, (448, 448), (32, 32)) == 2 * 32 + 14


@pytest.mark.parametrize(("column", "row"), [(3, 0), (0, 2), (-1, 0), (0, -1)])
def test_a_cell_off_the_grid_has_no_patch(column, row):
    with pytest.raises(ValueError, match="grid"):
        patch_id(column, row, (3, 2))


@pytest.mark.parametrize("patch", [-1, 6])
def test_a_patch_off_the_grid_has_no_box(patch):
    with pytest.raises(ValueError, match="grid"):
        box_of(patch, (30, 20), (3, 2))


@promised
@given(size=sizes, grid=grids, data=st.data())
def test_patch_to_box_to_patch(size, grid, data):
    patch = data.draw(st.integers(0, grid[0] * grid[1] - 1))
    box = box_of(patch, size, grid)
    assert patch_of(*centre(box), size, grid) == patch
    assert patches_in(box, size, grid) == (patch,)


@promised
@given(size=sizes, grid=grids, share=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)))
def test_the_box_of_a_points_patch_holds_the_point(size, grid, share):
    x, y = share[0] * size[0], share[1] * size[1]
    patch = patch_of(x, y, size, grid)
    if patch is None:  # a share just under 1 can round to the border
        assert x == size[0] or y == size[1]
        return
    x0, y0, x1, y1 = box_of(patch, size, grid)
    assert x0 - 1e-6 <= x <= x1 + 1e-6
    assert y0 - 1e-6 <= y <= y1 + 1e-6


@pytest.mark.parametrize(
    ("box", "patches"),
    [
        ((0, 0, 448, 224), tuple(range(8))),
        ((112, 0, 224, 112), (1,)),  # a shared border is no shared area
        ((111, 0, 225, 113), (0, 1, 2, 4, 5, 6)),
        ((10, 10, 10.5, 10.5), (0,)),
        ((112, 0, 112.00000001, 1), (1,)),  # thinner than the tolerance
        ((400, 200, 900, 900), (7,)),
        ((448, 0, 500, 10), ()),
        ((-9, -9, 0, 0), ()),
    ],
)
def test_patches_in(box, patches):
    assert patches_in(box, (448, 224), (4, 2)) == patches


@st.composite
def boxes_about_images(draw):
    """An integer box that meets the image but may reach over its edges, so that no area is a rounding error."""
    size = draw(st.tuples(st.integers(1, 300), st.integers(1, 300)))
    x0, y0 = draw(st.integers(-20, size[0] - 1)), draw(st.integers(-20, size[1] - 1))
    return size, (x0, y0, x0 + draw(st.integers(1, 200)), y0 + draw(st.integers(1, 200)))


@promised
@given(known=boxes_about_images(), grid=st.tuples(st.integers(1, 7), st.integers(1, 7)))
def test_patches_in_are_those_that_share_area(known, grid):
    size, box = known
    sharing = [patch for patch in range(grid[0] * grid[1]) if intersection(box, box_of(patch, size, grid)) > 1e-6]
    assert list(patches_in(box, size, grid)) == sharing
