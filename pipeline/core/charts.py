"""Line charts, bars and histograms as inline SVG: no script, no colour of their own, readable by a screen reader.

Every chart is a figure with a caption, both axes labelled. Colours come from the page's classes `line-N` and `bar`,
so that light and dark look right; lines also differ by dashes. Numbers that are not finite are left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.markup import Markup, joined, tag

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 40  # margins around the plot, in units of the view box
DOTS_MAX = 30  # a line of more points than that goes without dots

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """One value with its interval, where it has one."""

    name: str
    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A dashed line across a chart, at a value worth comparing with."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values low…high onto start…end in units of the view box."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 2)


def ticks(low: float, high: float, n_max: int = 6) -> tuple[float, ...]:
    """At most `n_max` multiples of 1, 2 or 5 times a power of ten inside [low, high]; ValueError for an empty range."""
    if not low < high:
        raise ValueError(f"no ticks between {low} and {high}")
    magnitude = 10.0 ** math.floor(math.log10((high - low) / n_max))
    for step in (magnitude * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < n_max:
            return tuple(round(place * step, 12) for place in range(first, last + 1))
    raise AssertionError("twenty magnitudes always suffice")


def running_mean(points: Sequence[Point], window: int) -> tuple[Point, ...]:
    """Mean of each value with the `window` − 1 before it, fewer at the beginning."""
    means = []
    for at, (x, _) in enumerate(points):
        taken = [y for _, y in points[max(0, at + 1 - window) : at + 1]]
        means.append((x, sum(taken) / len(taken)))
    return tuple(means)


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    low: float | None = None,
    high: float | None = None,
    mean_over: int = 1,
) -> Markup:
    """One line per series; with `mean_over` > 1 a bold running mean over a faint line of the values themselves."""
    known = [Series(one.name, _finite(one.points)) for one in series]
    known = [one for one in known if one.points]
    if not known:
        return tag("figure", tag("figcaption", title), tag("p", "No values were recorded."), class_="chart")
    x = _x_scale(*_domain([x for one in known for x, _ in one.points]))
    y = _y_scale(*_domain([y for one in known for _, y in one.points], low, high))
    lines = [part for number, one in enumerate(known) for part in _line(one, number, x, y, mean_over)]
    said = "; ".join(_in_words(one) for one in known)
    keys = [tag("span", one.name, class_=f"key line-{number}") for number, one in enumerate(known)]
    if mean_over > 1:
        keys.append(tag("span", f"bold: mean of {mean_over} steps", class_="note"))
    return _figure(title, joined(*keys), said, _axes(x, y, x_label, y_label), *lines)


def bar_chart(
    bars: Sequence[Bar], *, title: str, y_label: str, high: float | None = None, mark: Mark | None = None
) -> Markup:
    """One bar per value from zero up, a whisker for its interval, a dashed line for `mark`."""
    tops = [bar.value for bar in bars] + [bar.interval[1] for bar in bars if bar.interval]
    y = _y_scale(*_domain([0.0, *tops, *_at(mark)], 0.0, high))
    slot = (WIDTH - LEFT - RIGHT) / max(1, len(bars))
    drawn = [part for at, bar in enumerate(bars) for part in _bar(bar, LEFT + at * slot, slot, y)]
    lines = _mark_across(mark, y) if mark else []
    said = "; ".join(f"{bar.name} {_number(bar.value)}{_interval_in_words(bar)}" for bar in bars)
    said += f"; {mark.name} {_number(mark.value)}" if mark else ""
    key = tag("span", mark.name, class_="key mark") if mark else None
    return _figure(title, joined(key), said, _y_axis(y, y_label), *drawn, *lines)


def histogram(
    counts: Sequence[tuple[float, int]],
    width: float,
    *,
    title: str,
    x_label: str,
    y_label: str,
    mark: Mark | None = None,
) -> Markup:
    """Bars over [edge, edge + width) for each (edge, count); `mark` is a dashed line from top to bottom."""
    if not counts:
        return tag("figure", tag("figcaption", title), tag("p", "Nothing to count."), class_="chart")
    edges = [edge for edge, _ in counts]
    x = _x_scale(*_domain([*edges, max(edges) + width, *_at(mark)]))
    y = _y_scale(*_domain([0.0, *(float(count) for _, count in counts)], 0.0))
    bars = [_rect(x(edge), y(count), x(edge + width) - x(edge), y(0) - y(count)) for edge, count in counts]
    lines = [_segment(x(mark.value), TOP, x(mark.value), HEIGHT - BOTTOM, "mark")] if mark else []
    said = "; ".join(f"from {_number(edge)}: {count}" for edge, count in counts)
    key = tag("span", mark.name, class_="key mark") if mark else None
    return _figure(title, joined(key), said, _axes(x, y, x_label, y_label), *bars, *lines)


def _at(mark: Mark | None) -> list[float]:
    return [mark.value] if mark else []


def _finite(points: Sequence[Point]) -> tuple[Point, ...]:
    return tuple((x, y) for x, y in points if math.isfinite(x) and math.isfinite(y))


def _domain(values: Sequence[float], low: float | None = None, high: float | None = None) -> tuple[float, float]:
    """The range to show: the fixed ends where given, never empty."""
    first = min(values) if low is None else min(low, *values, low)
    last = max(values) if high is None else max(high, *values, high)
    if first == last:
        return (first - 0.5, last + 0.5) if low is None else (first, last + 1.0)
    return first, last


def _x_scale(low: float, high: float) -> _Scale:
    return _Scale(low, high, LEFT, WIDTH - RIGHT)


def _y_scale(low: float, high: float) -> _Scale:
    return _Scale(low, high, HEIGHT - BOTTOM, TOP)


def _line(one: Series, number: int, x: _Scale, y: _Scale, mean_over: int) -> list[Markup]:
    bold = running_mean(one.points, mean_over)
    drawn = [_path(one.points, x, y, f"line faint line-{number}")] if mean_over > 1 else []
    drawn.append(_path(bold, x, y, f"line line-{number}"))
    if len(bold) <= DOTS_MAX:
        drawn += [tag("circle", cx=x(at), cy=y(value), r=2.6, class_=f"dot line-{number}") for at, value in bold]
    return drawn


def _path(points: Sequence[Point], x: _Scale, y: _Scale, classes: str) -> Markup:
    return tag("polyline", points=" ".join(f"{x(at)},{y(value)}" for at, value in points), class_=classes)


def _bar(bar: Bar, left: float, slot: float, y: _Scale) -> list[Markup]:
    middle, wide = round(left + slot / 2, 2), round(slot * 0.56, 2)
    parts = [
        _rect(middle - wide / 2, y(bar.value), wide, y(y.low) - y(bar.value)),
        tag("text", bar.name, x=middle, y=HEIGHT - BOTTOM + 16, class_="tick middle"),
        tag("text", _number(bar.value), x=middle, y=HEIGHT - BOTTOM + 31, class_="value middle"),
    ]
    if bar.interval:
        low, high = (y(end) for end in bar.interval)
        parts += [_segment(middle, low, middle, high, "whisker")]
        parts += [_segment(middle - 6, end, middle + 6, end, "whisker") for end in (low, high)]
    return parts


def _mark_across(mark: Mark, y: _Scale) -> list[Markup]:
    return [_segment(LEFT, y(mark.value), WIDTH - RIGHT, y(mark.value), "mark")]


def _rect(x: float, y: float, width: float, height: float) -> Markup:
    return tag("rect", x=round(x, 2), y=y, width=round(max(width, 0), 2), height=round(max(height, 0), 2), class_="bar")


def _segment(x1: float, y1: float, x2: float, y2: float, classes: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=classes)


def _axes(x: _Scale, y: _Scale, x_label: str, y_label: str) -> Markup:
    foot = HEIGHT - BOTTOM
    marks = [tag("text", _number(at), x=x(at), y=foot + 16, class_="tick middle") for at in ticks(x.low, x.high)]
    label = tag("text", x_label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 6, class_="label middle")
    return joined(_y_axis(y, y_label), *marks, label)


def _y_axis(y: _Scale, label: str) -> Markup:
    """Grid lines with their numbers, and the label turned upwards."""
    marks = []
    for at in ticks(y.low, y.high):
        marks.append(_segment(LEFT, y(at), WIDTH - RIGHT, y(at), "grid"))
        marks.append(tag("text", _number(at), x=LEFT - 6, y=y(at) + 4, class_="tick end"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turned = tag("text", label, transform=f"translate(12 {middle}) rotate(-90)", class_="label middle")
    return joined(*marks, turned)


def _figure(title: str, keys: Markup, said: str, *parts: Markup) -> Markup:
    svg = tag("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{title}: {said}.")
    return tag("figure", tag("figcaption", tag("b", title), " ", keys), svg, class_="chart")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _interval_in_words(bar: Bar) -> str:
    return f" ({_number(bar.interval[0])} to {_number(bar.interval[1])})" if bar.interval else ""


def _in_words(one: Series) -> str:
    """What a screen reader says of a line: where it starts, where it ends, and its extremes."""
    (first_x, first), (last_x, last) = one.points[0], one.points[-1]
    lowest, highest = min(y for _, y in one.points), max(y for _, y in one.points)
    ends = f"{_number(first)} at {_number(first_x)}, {_number(last)} at {_number(last_x)}"
    return f"{one.name} {ends}, lowest {_number(lowest)}, highest {_number(highest)}"
