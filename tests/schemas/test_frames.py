import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from schemas.frames import (
    crop,
    crop_box,
    from_thousandths,
    from_wire,
    to_thousandths,
    to_wire,
    wire_problem,
)

sides = st.integers(1, 5000)
sizes = st.tuples(sides, sides)
shares = st.floats(0, 1)
promised = settings(max_examples=200, deadline=None)


def box_in(size, a, b):
    """A box with corners at two points given as shares of the sides; None when it is empty."""
    (x0, x1), (y0, y1) = sorted((a[0] * size[0], b[0] * size[0])), sorted((a[1] * size[1], b[1] * size[1]))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


points = st.tuples(shares, shares)


@st.composite
def boxes_in_sizes(draw):
    size = draw(sizes)
    box = box_in(size, draw(points), draw(points))
    return (box or (0.0, 0.0, float(size[0]), float(size[1]))), size


@pytest.mark.parametrize(
    ("box", "size", "resized", "wire"),
    [
        ((0, 0, 448, 448), (448, 448), (112, 112), (0, 0, 112, 112)),
        ((100, 50, 200, 146), (448, 448), (112, 112), (25, 13, 50, 37)),  # 12.5 and 36.5: halves go up
        ((10, 10, 20, 20), (1000, 500), (500, 500), (5, 10, 10, 20)),  # each axis has its own scale
        ((2, 2, 3, 3), (448, 448), (112, 112), (0, 0, 1, 1)),  # less than a pixel: the pixel of its centre
        ((447, 447, 448, 448), (448, 448), (112, 112), (111, 111, 112, 112)),  # 111.75 … 112 would collapse at 112
        ((-50, -50, 600, 20), (448, 448), (112, 112), (0, 0, 112, 5)),
        ((500, 500, 600, 600), (448, 448), (112, 112), (111, 111, 112, 112)),  # off the image: its nearest pixel
        ((0, 0, 1, 1), (3, 3), (3000, 3000), (0, 0, 1000, 1000)),
    ],
)
def test_to_wire(box, size, resized, wire):
    assert to_wire(box, size, resized) == wire


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (9, 5, 5, 9), (float("nan"), 0, 1, 1), (0, 0, float("inf"), 1)])
def test_a_box_that_is_none_has_no_wire(box):
    with pytest.raises(ValueError, match="box"):
        to_wire(box, (448, 448), (112, 112))


def test_thousandths_are_the_wire_of_an_image_of_1000_by_1000():
    assert to_thousandths((224, 112, 448, 448), (448, 448)) == (500, 250, 1000, 1000)
    assert from_thousandths((500, 250, 1000, 1000), (448, 896)) == (224.0, 224.0, 448.0, 896.0)


@promised
@given(known=boxes_in_sizes(), resized=sizes)
@example(known=((0.5, 0.5, 1.5, 1.5), (10, 10)), resized=(10, 10))  # half to even would make it empty
def test_the_wire_is_always_inside_and_never_empty(known, resized):
    box, size = known
    assert wire_problem(to_wire(box, size, resized), resized, min_side_px=1) is None


@promised
@given(known=boxes_in_sizes(), resized=sizes)
def test_a_round_trip_moves_an_edge_by_at_most_half_a_resized_pixel(known, resized):
    box, size = known
    back = from_wire(to_wire(box, size, resized), size, resized)
    for axis in (0, 1):
        scale = resized[axis] / size[axis]
        side = (box[axis + 2] - box[axis]) * scale
        allowed = 0.5 if side >= 1 else 1.0  # thinner than a pixel: moved onto one
        for edge in (axis, axis + 2):
            assert abs(back[edge] - box[edge]) * scale <= allowed + 1e-6


@promised
@given(known=boxes_in_sizes(), resized=sizes, shift=st.tuples(*[st.floats(0, 50)] * 4))
def test_to_wire_is_monotone_in_every_edge(known, resized, shift):
    box, size = known
    later = tuple(edge + more for edge, more in zip(box, shift, strict=True))
    if not (later[0] < later[2] and later[1] < later[3]):
        return
    pairs = zip(to_wire(box, size, resized), to_wire(later, size, resized), strict=True)
    assert all(before <= after for before, after in pairs)


@st.composite
def wires(draw):
    resized = draw(sizes)
    x0, y0 = draw(st.integers(0, resized[0] - 1)), draw(st.integers(0, resized[1] - 1))
    return (x0, y0, draw(st.integers(x0 + 1, resized[0])), draw(st.integers(y0 + 1, resized[1]))), resized


@promised
@given(written=wires(), size=sizes)
def test_a_wire_box_survives_the_stored_frame(written, size):
    wire, resized = written
    box = from_wire(wire, size, resized)
    assert to_wire(box, size, resized) == wire
    assert 0 <= box[0] < box[2] <= size[0]
    assert 0 <= box[1] < box[3] <= size[1]


@promised
@given(written=wires())
def test_integers_are_themselves_when_nothing_is_resized(written):
    wire, size = written
    assert to_wire(wire, size, size) == wire
    assert from_wire(wire, size, size) == wire


def test_from_wire_refuses_what_wire_problem_names():
    with pytest.raises(ValueError, match="inverted"):
        from_wire((9, 0, 3, 5), (448, 448), (112, 112))


@pytest.mark.parametrize(
    ("wire", "problem"),
    [
        ((0, 0, 112, 84), None),
        ((10, 10, 24, 24), None),  # exactly the minimum
        ((10, 10, 23, 60), "too small"),
        ((10, 10, 60, 23), "too small"),
        ((20, 10, 20, 60), "inverted"),
        ((30, 10, 20, 60), "inverted"),
        ((10, 60, 30, 10), "inverted"),
        ((-1, 0, 50, 50), "leaves the image"),
        ((0, -1, 50, 50), "leaves the image"),
        ((0, 0, 113, 50), "leaves the image"),
        ((0, 0, 50, 85), "leaves the image"),
    ],
)
def test_wire_problem(wire, problem):
    said = wire_problem(wire, (112, 84), min_side_px=14)
    assert said is None if problem is None else problem in said


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((0, 0, 30, 20), (0, 0, 30, 20)),
        ((1.9, 2.0, 3.1, 4.0), (1, 2, 4, 4)),
        ((2.2, 2.2, 2.3, 2.3), (2, 2, 3, 3)),
        ((-5.5, -1, 99, 99), (0, 0, 30, 20)),
    ],
)
def test_crop_box(box, pixels):
    assert crop_box(box, (30, 20)) == pixels


@pytest.mark.parametrize("box", [(30, 0, 40, 20), (5, 5, 5, 6), (float("nan"), 0, 1, 1)])
def test_nothing_to_crop(box):
    with pytest.raises(ValueError, match="box"):
        crop_box(box, (30, 20))


@promised
@given(known=boxes_in_sizes())
def test_a_crop_covers_its_box_within_the_image_and_less_than_a_pixel_more(known):
    box, size = known
    x0, y0, x1, y1 = crop_box(box, size)
    assert 0 <= x0 <= box[0] < x0 + 1
    assert 0 <= y0 <= box[1] < y0 + 1
    assert x1 - 1 < box[2] <= x1 <= size[0]
    assert y1 - 1 < box[3] <= y1 <= size[1]


def test_crop_takes_the_stored_pixels():
    image = Image.new("L", (8, 6))
    image.putpixel((5, 4), 200)
    taken = crop(image, (4.5, 3.0, 6.2, 5.0))
    assert taken.size == (3, 2)
    assert list(taken.tobytes()) == [0, 0, 0, 0, 200, 0]
