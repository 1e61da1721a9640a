"""Charts put values where they belong, leave out what is no number, and say in words what they show."""

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.charts import (
    BOTTOM,
    DOTS_MAX,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Bar,
    Mark,
    Series,
    bar_chart,
    histogram,
    line_chart,
    running_mean,
    ticks,
)
from pipeline.core.markup import Markup

FOOT, END = HEIGHT - BOTTOM, WIDTH - RIGHT
finite = st.floats(-1e9, 1e9)


def svg_of(chart: Markup) -> ET.Element:
    found = ET.fromstring(chart).find("svg")
    assert found is not None
    return found


def lines_of(svg: ET.Element, classes: str) -> list[list[tuple[float, ...]]]:
    drawn = [one.get("points", "") for one in svg.iter("polyline") if one.get("class") == classes]
    return [[tuple(map(float, point.split(","))) for point in points.split()] for points in drawn]


def texts_of(svg: ET.Element) -> list[str]:
    return ["".join(one.itertext()) for one in svg.iter("text")]


def chart(*points: tuple[float, float], **how: object) -> Markup:
    return line_chart([Series("one", points)], title="Title", x_label="step", y_label="loss (nats)", **how)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (0, 6.07, (0, 2, 4, 6)),
        (500, 539, (500, 510, 520, 530)),
        (-0.93, -0.73, (-0.9, -0.85, -0.8, -0.75)),
        (0, 3e-4, (0, 0.0001, 0.0002, 0.0003)),
        (0, 250, (0, 50, 100, 150, 200, 250)),
    ],
)
def test_ticks(low: float, high: float, expected: tuple[float, ...]):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (math.nan, 1)])
def test_no_ticks_in_no_range(low: float, high: float):
    with pytest.raises(ValueError, match="no ticks"):
        ticks(low, high)


@settings(max_examples=200, deadline=None)
@given(low=finite, width=st.floats(1e-3, 1e9), n_max=st.integers(4, 10))
def test_ticks_are_few_even_and_inside(low: float, width: float, n_max: int):
    found = ticks(low, low + width, n_max)
    slack = 1e-6 * max(abs(low), width)
    assert 1 <= len(found) <= n_max
    assert all(low - slack <= one <= low + width + slack for one in found)
    gaps = [after - before for before, after in pairwise(found)]
    assert gaps == pytest.approx(gaps[:1] * len(gaps), rel=1e-3, abs=slack)


def test_running_mean_looks_back():
    points = ((0, 4.0), (1, 0.0), (2, 2.0), (5, 4.0))
    assert running_mean(points, 2) == ((0, 4.0), (1, 2.0), (2, 1.0), (5, 3.0))
    assert running_mean(points, 1) == points


def test_a_line_goes_from_corner_to_corner():
    svg = svg_of(chart((10, 0.0), (15, 1.0), (20, 2.0)))
    middle = ((LEFT + END) / 2, (TOP + FOOT) / 2)
    assert lines_of(svg, "line line-0") == [[(LEFT, FOOT), middle, (END, TOP)]]
    assert {"step", "loss (nats)", "10", "20", "0", "2"} <= set(texts_of(svg))


def test_fixed_ends_widen_and_never_cut():
    svg = svg_of(chart((0, 0.5), (1, 1.5), low=0.0, high=1.0))
    [[first, last]] = lines_of(svg, "line line-0")
    assert last == (END, TOP)
    assert first == (LEFT, pytest.approx(FOOT - (FOOT - TOP) / 3, abs=0.01))


def test_one_value_and_equal_values_can_be_drawn():
    for points in (((3, 2.0),), ((3, 2.0), (4, 2.0))):
        [line] = lines_of(svg_of(chart(*points)), "line line-0")
        assert all(LEFT <= x <= END and TOP <= y <= FOOT for x, y in line)


def test_what_is_no_number_is_left_out():
    drawn = chart((0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0))
    [line] = lines_of(svg_of(drawn), "line line-0")
    assert len(line) == 2
    assert "nan" not in drawn
    assert "No values were recorded." in chart((0, math.nan))


def test_series_share_axes_and_are_named_once_each():
    drawn = line_chart(
        [Series("policy", ((0, 0.0), (1, 1.0))), Series("expert", ((0, 2.0), (1, 4.0))), Series("none", ())],
        title="Reward",
        x_label="step",
        y_label="reward",
    )
    svg = svg_of(drawn)
    assert lines_of(svg, "line line-0") == [[(LEFT, FOOT), (END, FOOT - (FOOT - TOP) / 4)]]
    assert lines_of(svg, "line line-1") == [[(LEFT, (TOP + FOOT) / 2), (END, TOP)]]
    keys = [(one.text, one.get("class")) for one in ET.fromstring(drawn).iter("span")]
    assert keys == [("policy", "key line-0"), ("expert", "key line-1")]
    assert svg.get("aria-label") == (
        "Reward: policy 0 at 0, 1 at 1, lowest 0, highest 1; expert 2 at 0, 4 at 1, lowest 2, highest 4."
    )


def test_a_mean_stands_over_the_values():
    svg = svg_of(chart(*((step, float(step % 2)) for step in range(40)), mean_over=2))
    assert len(lines_of(svg, "line faint line-0")) == 1
    [bold] = lines_of(svg, "line line-0")
    assert {y for _, y in bold[1:]} == {(TOP + FOOT) / 2}


@pytest.mark.parametrize(("n", "n_dots"), [(DOTS_MAX, DOTS_MAX), (DOTS_MAX + 1, 0)])
def test_few_points_have_dots(n: int, n_dots: int):
    svg = svg_of(chart(*((step, float(step)) for step in range(n))))
    assert len(list(svg.iter("circle"))) == n_dots


def test_bars_have_heights_whiskers_and_a_mark():
    bars = [Bar("before", 0.25, (0.0, 0.5)), Bar("after", 1.0)]
    svg = svg_of(bar_chart(bars, title="T", y_label="share", high=1.0, mark=Mark("majority", 0.5)))
    heights = [float(one.get("height", "nan")) for one in svg.iter("rect")]
    assert heights == pytest.approx([(FOOT - TOP) / 4, FOOT - TOP], abs=0.02)
    whiskers = [(one.get("y1"), one.get("y2")) for one in svg.iter("line") if one.get("class") == "whisker"]
    assert whiskers[0] == (str(float(FOOT)), str((TOP + FOOT) / 2))
    [mark] = [one for one in svg.iter("line") if one.get("class") == "mark"]
    assert (mark.get("y1"), mark.get("y2")) == (str((TOP + FOOT) / 2),) * 2
    assert svg.get("aria-label") == "T: before 0.25 (0 to 0.5); after 1; majority 0.5."


def test_no_bars_and_only_zeros_can_be_drawn():
    for bars in ([], [Bar("a", 0.0, (0.0, 0.0))]):
        svg_of(bar_chart(bars, title="T", y_label="share"))


def test_a_histogram_has_a_bar_per_bin_where_the_bin_is():
    drawn = histogram([(0.0, 4), (0.5, 1)], 0.25, title="T", x_label="x", y_label="n", mark=Mark("δ", 0.375))
    svg = svg_of(drawn)
    bars = [tuple(float(one.get(key, "nan")) for key in ("x", "width", "height")) for one in svg.iter("rect")]
    third = (END - LEFT) / 3
    assert bars[0] == pytest.approx((LEFT, third, FOOT - TOP), abs=0.02)
    assert bars[1] == pytest.approx((LEFT + 2 * third, third, (FOOT - TOP) / 4), abs=0.02)
    [mark] = [one for one in svg.iter("line") if one.get("class") == "mark"]
    assert float(mark.get("x1", "nan")) == pytest.approx((LEFT + END) / 2)
    assert "Nothing to count." in histogram([], 0.1, title="T", x_label="x", y_label="n")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=40))
def test_every_point_lies_inside_the_plot(points: list[tuple[float, float]]):
    [line] = lines_of(svg_of(chart(*sorted(points))), "line line-0")
    assert all(LEFT <= x <= END and TOP <= y <= FOOT for x, y in line)


def test_names_are_text():
    name = '<b onclick="x">&'
    for drawn in (
        line_chart([Series(name, ((0, 1),))], title=name, x_label=name, y_label=name),
        bar_chart([Bar(name, 1)], title=name, y_label=name, mark=Mark(name, 1)),
        histogram([(0, 1)], 1, title=name, x_label=name, y_label=name, mark=Mark(name, 0)),
    ):
        svg = svg_of(drawn)
        assert name in svg.get("aria-label", "")
        assert not re.search(r"<b[ >]", drawn.replace("<b>", "", 1))
