"""The report on an expert as a page and a picture: recall against chance, and the reliability curve.

`report.html` holds everything in one file, loads nothing and runs no script; `reliability.svg` is its curve alone. No
figure is computed here.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.calibration import BINS, Calibration
from pipeline.core.charts import HEIGHT, LEFT, WIDTH, Bar, Series, bar_chart, line_chart
from pipeline.core.markup import Markup, joined, tag
from pipeline.stages import audit_expert_shown as shown
from pipeline.stages.audit_expert import PRIVILEGED, ExpertReport
from pipeline.stages.demo_report import POLICY, STYLE
from pipeline.stages.demo_tables import table
from schemas.errors import StoreError

PAGE, PICTURE = "report.html", "reliability.svg"
NOTICE = "Not for clinical use. These figures hold for these images and these annotations only."
BIN_HEAD = ("confidence", "confidences of", "n", "mean confidence", "right", "95 % interval")
CALIBRATED = "calibrated"  # the diagonal
LEGEND_HEIGHT, KEY_WIDTH = 26, 110


def write_page(report: ExpertReport, out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in ((PAGE, page(report)), (PICTURE, picture(report))):
            fresh = out / f".{name}.new"
            fresh.write_text(text, encoding="utf-8")
            os.replace(fresh, out / name)
    except OSError as error:
        raise StoreError(f"cannot write: {error.strerror or error}", where=out, fix="give another --out") from error


def page(report: ExpertReport) -> str:
    title = f"What {report.expert} is worth on {report.slice}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", _style()),
    )
    notice = f"{NOTICE} {PRIVILEGED}" if report.privileged else NOTICE
    header = tag("header", tag("h1", title), tag("p", notice, class_="notice"))
    return f"<!doctype html>\n{tag('html', head, tag('body', header, tag('main', *_sections(report))), lang='en')}\n"


def _sections(report: ExpertReport) -> list[Markup]:
    charts = tag("div", _found(report), reliability(report), class_="charts")
    said = [*shown.counted(report), *shown.failed(report)]
    return [
        _section("Where it looks, and what its confidences mean", charts, *_told(said)),
        _section("Figures", _table("Regions and boxes", shown.WHERE, shown.where_rows(report))),
        _section(
            "Confidence",
            _table("Calibration and discrimination", shown.SURE, shown.sure_rows(report)),
            *_told(shown.drill_lines(report)),
            *_told(shown.clear_lines(report)),
            _table("The reliability curve", BIN_HEAD, _bins(report)),
        ),
        _section("Cost", *_told(shown.cost_lines(report))),
        _section("What the figures mean", tag("ul", *(tag("li", rule) for rule in report.rules))),
    ]


def _section(title: str, *content: Markup) -> Markup:
    return tag("section", tag("h2", title), *content)


def _told(lines: Sequence[str]) -> list[Markup]:
    return [tag("p", line.strip()) for line in lines]


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    return table(caption, head, rows) if rows else tag("p", f"{caption}: there was nothing to measure.")


def _curves(report: ExpertReport) -> list[tuple[str, Calibration]]:
    worth = report.worth
    found = [] if worth.scan is None else [("scan", worth.scan)]
    return found if worth.drill is None else [*found, ("first drill", worth.drill.drilled)]


def _bins(report: ExpertReport) -> list[tuple[str, ...]]:
    return [
        (
            f"{each.low:.1f}–{each.high:.1f}",
            name,
            f"{each.n:,}",
            f"{each.confidence:.3f}",
            shown.percent(each.share.value),
            shown.interval(each.share),
        )
        for name, curve in _curves(report)
        for each in curve.bins
    ]


def _found(report: ExpertReport) -> Markup:
    """Recall beside that of random boxes, at each IoU."""
    bars = []
    for one in report.worth.recall:
        bars.append(Bar(f"IoU {one.iou:g}", one.share.value, (one.share.low, one.share.high)))
        bars.append(Bar("random", one.random))
    return bar_chart(bars, title="Annotated regions found", y_label="share found, 95 % interval", high=1.0)


def reliability(report: ExpertReport) -> Markup:
    """Share right against mean confidence, by bin; on the diagonal a confidence says how often it is right."""
    series = [
        Series(name, tuple((each.confidence, each.share.value) for each in curve.bins))
        for name, curve in _curves(report)
    ]
    return line_chart(
        [*series, Series(CALIBRATED, ((0.0, 0.0), (1.0, 1.0)))],
        title=f"Reliability, {BINS} bins",
        x_label="mean confidence of the bin",
        y_label="share right",
        low=0.0,
        high=1.0,
    )


def picture(report: ExpertReport) -> str:
    """The curve as a file of its own, with its legend inside."""
    figure = reliability(report)
    inner = figure[figure.index("<svg") : figure.rindex("</figure>")]
    inner = Markup(inner.replace(f' viewBox="0 0 {WIDTH} {HEIGHT}"', "", 1))  # or it is fitted to its room, and cut off
    names = [name for name, _ in _curves(report)] + [CALIBRATED]
    keys = [part for number, name in enumerate(names) for part in _key(number, name)]
    content = joined(
        tag("style", _style()),
        tag("rect", width="100%", height="100%", style="fill: var(--page)"),
        tag("g", tag("svg", *keys, width=WIDTH, height=LEGEND_HEIGHT), class_="chart"),
    )
    drawing = tag("g", inner, transform=f"translate(0 {LEGEND_HEIGHT})", class_="chart")
    size = {"width": 2 * WIDTH, "height": 2 * (HEIGHT + LEGEND_HEIGHT)}
    box = f"0 0 {WIDTH} {HEIGHT + LEGEND_HEIGHT}"
    return str(tag("svg", content, drawing, xmlns="http://www.w3.org/2000/svg", viewBox=box, **size)) + "\n"


def _key(number: int, name: str) -> list[Markup]:
    x = LEFT + KEY_WIDTH * number
    line = tag("polyline", points=f"{x},14 {x + 24},14", class_=f"line line-{number}")
    return [line, tag("text", name, x=x + 30, y=18)]


def _style() -> Markup:
    return Markup(STYLE.read_text(encoding="utf-8"))
