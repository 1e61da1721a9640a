"""The page at the end of the demo: one HTML file with everything in it, the verdict first.

It loads nothing from anywhere, runs no script, and every text from data is escaped. It reads what the commands left
behind and computes no figure of its own but counts of paired answers.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.charts import Bar, Mark, bar_chart, histogram
from pipeline.core.markup import Markup, joined, tag
from pipeline.stages.demo_cases import Cases
from pipeline.stages.demo_curves import CURVES, curve
from pipeline.stages.demo_plan import Demo, Step, steps
from pipeline.stages.demo_plays import played_cards
from pipeline.stages.demo_results import Results, read_results
from pipeline.stages.demo_searches import search_cards
from pipeline.stages.demo_tables import Asked, Questions, asking, sql_of, table, with_sql
from pipeline.stages.demo_verdict import claims, crop_only

TITLE = "fovea demo: learning where to look"
NOTICE = (
    "Not for clinical use. Every image here is a synthetic phantom drawn by a program; nothing on this page says "
    "anything about clinical performance."
)
STYLE = Path(__file__).with_suffix(".css")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # a browser then loads nothing from anywhere
STORE_TABLES = (
    "report/rows",
    "summaries/questions",
    "summaries/question_only",
    "summaries/trajectories",
    "summaries/calls",
    "summaries/gains",
)
LOOK, FOCUS = ("look", "a look: the crop that was shown"), ("focus", "the region that a look is about")
KNOWN, ANNOTATED = (
    ("region", "regions known to the expert"),
    ("region", "annotated regions, which the policy is not told"),
)


def write_report(demo: Demo, seconds: Mapping[str, float]) -> Results:
    """Write the page of a finished demo; `seconds` by name of step. Returns the results that it shows."""
    results = read_results(demo)
    with asking(demo, results.store_digest) as questions:
        body = _body(demo, results, questions, seconds)
    fresh = demo.page.with_name(f".{demo.page.name}.new")
    fresh.write_text(_document(body), encoding="utf-8")
    os.replace(fresh, demo.page)
    return results


def _document(body: Markup) -> str:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", TITLE),
        tag("style", Markup(STYLE.read_text(encoding="utf-8"))),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', body), lang='en')}\n"


def _body(demo: Demo, results: Results, questions: Questions, seconds: Mapping[str, float]) -> Markup:
    cases = Cases(questions, demo.sizes.view_px)
    return joined(
        tag("header", tag("h1", TITLE), tag("p", NOTICE, class_="notice")),
        tag(
            "main",
            _section("Verdict", _verdict(demo, results, questions)),
            _section("How this page was made", _making(demo, results, seconds)),
            _section("How an expert searches", _searches(cases, questions)),
            _section("How the trained policy looks", _plays(cases, results)),
            _section("Training", _training(results, questions)),
            _section("The store", _store(questions)),
            _section("Audit", _audit(results)),
        ),
    )


def _section(title: str, content: Sequence[Markup]) -> Markup:
    return tag("section", tag("h2", title), *content)


def _verdict(demo: Demo, results: Results, questions: Questions) -> list[Markup]:
    first, *others = claims(results, demo.sizes.form)
    charts = [_accuracies("Accuracy on all test questions", {one.label: one.overall for one in results.evaluations})]
    if found := crop_only(results.trained):
        kind = found[0]
        scores = {one.label: one.by_type[kind] for one in results.evaluations if kind in one.by_type}
        charts.append(_accuracies(f"Accuracy on crop-only questions ({kind})", scores))
    return [
        tag("p", tag("strong", first)),
        *(tag("p", other) for other in others),
        tag("div", *charts, class_="charts"),
        with_sql(questions.of_run("report/evaluations")),
        with_sql(questions.of_run("report/behaviour")),
    ]


def _accuracies(title: str, scores: Mapping[str, Any]) -> Markup:
    bars = [Bar(label, score.accuracy, score.interval) for label, score in scores.items()]
    majority = next(reversed(scores.values())).majority
    mark = None if majority is None else Mark("question-only majority", majority)
    return bar_chart(bars, title=title, y_label="share right, 95 % interval", high=1.0, mark=mark)


def _making(demo: Demo, results: Results, seconds: Mapping[str, float]) -> list[Markup]:
    rows = [(number, _command(step), seconds.get(step.name)) for number, step in enumerate(steps(demo), 1)]
    run, audit = results.run, results.audit
    versions = run.get("versions")
    facts = {
        "store": f"{audit.version}, sha256:{results.store_digest}",
        "slice trained on": run.get("slice"),
        "recipe": f"{demo.sizes.recipe}, sha256:{run.get('recipe_sha256')}",
        "machine": f"{run.get('machine')}, {run.get('device')}, {run.get('threads')} thread(s)",
        "packages": ", ".join(f"{name} {v}" for name, v in versions.items()) if isinstance(versions, dict) else None,
    }
    listed = [part for name, value in facts.items() if value for part in (tag("dt", name), tag("dd", value))]
    return [table("The commands, and how long each took", ("", "command", "seconds"), rows), tag("dl", *listed)]


def _command(step: Step) -> Markup:
    """Each word stays whole where a line is too long."""
    words = (part for word in step.command.split(" ") for part in (" ", tag("span", word)))
    return tag("code", *words, class_="command")


def _searches(cases: Cases, questions: Questions) -> list[Markup]:
    shown = questions.of_store("report/shown_trajectories")
    about = (
        "The expert knows the annotated regions (it is privileged, and labelled so). A scan names regions with a "
        "confidence, a drill looks at one of them in a crop; Δc is the relative gain of confidence. Each look is "
        f"shown twice: cut from the whole image at the {cases.view_px} × {cases.view_px} pixels that the policy sees, "
        "and cut from the stored image, at no more pixels than that. What only the second shows has to be looked for."
    )
    chosen = tag("p", f"How these were chosen: {shown.about}", class_="facts")
    cards = search_cards(cases, shown.records())
    return [tag("p", about), _legend(LOOK, FOCUS, KNOWN), *cards, chosen, sql_of(shown)]


def _legend(*keys: tuple[str, str]) -> Markup:
    return tag("p", *(tag("span", text, class_=f"box-key {name}") for name, text in keys), class_="legend")


def _plays(cases: Cases, results: Results) -> list[Markup]:
    about = (
        "Greedy episodes on the test split: the first of every question type and verdict. The policy sees the image "
        "and its own crops, never the regions."
    )
    return [tag("p", about), _legend(LOOK, ANNOTATED), *played_cards(cases, results)]


def _training(results: Results, questions: Questions) -> list[Markup]:
    charts = [curve(one, results.steps) for one in CURVES]
    return [tag("div", *charts, class_="charts"), with_sql(questions.of_run("report/training"))]


def _store(questions: Questions) -> list[Markup]:
    how = "Each query runs as it stands: fovea sql QUERY --store STORE, or plain duckdb after catalog/init.sql."
    variants, gains = questions.of_store("summaries/variants"), questions.of_store("report/gains_by_size")
    charts = tag("div", _variants_chart(variants), _gains_chart(gains), class_="charts")
    tables = [with_sql(questions.of_store(name)) for name in STORE_TABLES]
    return [tag("p", how), *tables, with_sql(variants), with_sql(gains), charts]


def _variants_chart(asked: Asked) -> Markup:
    counts: dict[int, int] = {}
    for row in asked.records():
        counts[row["n_paths"]] = counts.get(row["n_paths"], 0) + row["n_questions"]
    bars = [Bar(str(n_paths), n_questions) for n_paths, n_questions in sorted(counts.items())]
    return bar_chart(bars, title="Different ways per question (plain GRN and CVS)", y_label="questions")


def _gains_chart(asked: Asked) -> Markup:
    rows = asked.records()
    counts = [(row["gain_at_least"], row["n_drills"]) for row in rows]
    mark = Mark(f"δ = {rows[0]['gain_min']:g}: a smaller gain ends the drilling", rows[0]["gain_min"]) if rows else None
    labels = {"title": "Gain of confidence per drill", "x_label": "Δc (relative)", "y_label": "drills"}
    return histogram(counts, 0.1, mark=mark, **labels)


def _audit(results: Results) -> list[Markup]:
    audit = results.audit
    if audit.problems:
        verdict = f"{len(audit.problems)} problems: {', '.join(str(one['id']) for one in audit.problems)}."
    else:
        verdict = "No problems: every file, reference, box and decision of the store was checked or recomputed."
    if audit.skipped:
        verdict += f" Not checked: {', '.join(audit.skipped)}."
    said = [tag("p", verdict)]
    if audit.findings:
        rows = [(one["id"], one["explain"], one["n"]) for one in audit.findings]
        said.append(table("Findings: true facts that users should know", ("finding", "what it says", "n"), rows))
    return said
