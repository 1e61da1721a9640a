"""The picture of cost against size: every point is where it belongs, and the line is the right one."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.bench_plot import HEIGHT, LEFT, TOP, WIDTH, Panel, plot, straight

SVG = "{http://www.w3.org/2000/svg}"


@given(st.floats(0.5, 100), st.floats(1e-4, 1))
def test_a_straight_line_is_found_again(fixed, each):
    points = [(size, fixed + each * size) for size in (100.0, 1000.0, 10_000.0, 100_000.0)]
    assert straight(points) == pytest.approx((fixed, each), rel=1e-6)


def test_small_sizes_count_as_much_as_large_ones():
    fixed, each = straight([(10.0, 11.0), (10.0, 9.0), (1000.0, 1100.0), (1000.0, 900.0)])
    assert fixed + 10 * each == pytest.approx(10, rel=0.02)
    assert fixed + 1000 * each == pytest.approx(1000, rel=0.02)


def test_points_stand_where_their_decades_are():
    drawn = ET.fromstring(plot([Panel("seconds", ((100.0, 2.0), (1000.0, 20.0), (10_000.0, 200.0)))] * 2, "questions"))
    assert drawn.get("width") == str(2 * WIDTH)
    left, right = drawn.findall(f"{SVG}g")
    assert right.get("transform") == f"translate({WIDTH} 0)"
    dots = [(float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in left.iter(f"{SVG}circle")]
    (x0, y0), (x1, y1), (x2, y2) = dots
    assert x0 == LEFT
    assert x2 - x1 == pytest.approx(x1 - x0, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert TOP < y2 < y1 < y0 < HEIGHT
    (line,) = left.iter(f"{SVG}polyline")
    ends = [tuple(map(float, point.split(","))) for point in (line.get("points") or "").split()]
    assert ends[0] == pytest.approx(dots[0], abs=0.5)
    assert ends[-1] == pytest.approx(dots[-1], abs=0.5)
    words = {text.text for text in left.iter(f"{SVG}text")}
    assert {"seconds", "questions", "100", "1,000", "10,000", "1", "10"} <= words
    assert "200 at 10,000" in (drawn.get("aria-label") or "")


def test_equal_costs_are_drawn_too():
    drawn = ET.fromstring(plot([Panel("peak <MB>", ((10.0, 100.0), (100.0, 100.0)))], "questions"))
    assert len(list(drawn.iter(f"{SVG}circle"))) == 2
    assert "peak <MB>" in {text.text for text in drawn.iter(f"{SVG}text")}
