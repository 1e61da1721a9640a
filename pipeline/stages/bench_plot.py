"""Cost against size as a picture: measured points and the straight line that fits them best, both axes logarithmic.

A file of its own, in SVG: nothing to load, colours that are seen on light and on dark.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.markup import Markup, joined, tag

WIDTH, HEIGHT = 440, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 36, 34, 46
CURVE_POINTS = 40
INK, LINE, GRID = "#808080", "#2a78d6", "#80808055"
WORDS = {"font_family": "sans-serif", "font_size": 12, "fill": INK}


@dataclass(frozen=True, slots=True)
class Panel:
    """`points` are (size, cost), both above 0."""

    title: str
    points: tuple[tuple[float, float], ...]


def straight(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(fixed, per unit): the line of least squares of the relative errors, so that small sizes count as large ones."""
    sizes, costs = np.array(points, float).T
    fixed, each = np.linalg.lstsq(np.stack([1 / costs, sizes / costs], 1), np.ones(len(costs)), rcond=None)[0]
    return float(fixed), float(each)


def plot(panels: Sequence[Panel], x_label: str) -> str:
    """The panels beside each other."""
    drawn = [
        tag("g", _panel(panel, x_label), transform=f"translate({number * WIDTH} 0)")
        for number, panel in enumerate(panels)
    ]
    size = {"width": WIDTH * len(panels), "height": HEIGHT, "viewBox": f"0 0 {WIDTH * len(panels)} {HEIGHT}"}
    said = "; ".join(_said(panel) for panel in panels)
    return tag("svg", *drawn, xmlns="http://www.w3.org/2000/svg", role="img", aria_label=said, **size) + "\n"


def _panel(panel: Panel, x_label: str) -> Markup:
    (low_x, high_x), (low_y, high_y) = (_decades([point[axis] for point in panel.points]) for axis in (0, 1))

    def x(value: float) -> float:
        return round(LEFT + (math.log10(value) - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (math.log10(value) - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM), 1)

    parts = [tag("text", panel.title, x=LEFT, y=20, **WORDS)]
    for at in (10.0**power for power in range(low_x, high_x + 1)):
        parts.append(tag("line", x1=x(at), x2=x(at), y1=TOP, y2=HEIGHT - BOTTOM, stroke=GRID))
        parts.append(tag("text", f"{at:,g}", x=x(at), y=HEIGHT - BOTTOM + 18, text_anchor="middle", **WORDS))
    for at in (10.0**power for power in range(low_y, high_y + 1)):
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(at), y2=y(at), stroke=GRID))
        parts.append(tag("text", f"{at:,g}", x=LEFT - 8, y=y(at) + 4, text_anchor="end", **WORDS))
    parts.append(tag("text", x_label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle", **WORDS))
    fixed, each = straight(panel.points)
    first, last = panel.points[0][0], panel.points[-1][0]
    sizes = (float(size) for size in np.geomspace(first, last, CURVE_POINTS))
    fit = [(size, fixed + each * size) for size in sizes if fixed + each * size >= 10.0**low_y]
    line = " ".join(f"{x(size)},{min(max(y(cost), TOP), HEIGHT - BOTTOM)}" for size, cost in fit)
    dots = [tag("circle", cx=x(size), cy=y(cost), r=4, fill=LINE) for size, cost in panel.points]
    return joined(*parts, tag("polyline", points=line, fill="none", stroke=LINE, stroke_dasharray="5 4"), *dots)


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _said(panel: Panel) -> str:
    return f"{panel.title}: " + ", ".join(f"{cost:.4g} at {size:,g}" for size, cost in panel.points)
