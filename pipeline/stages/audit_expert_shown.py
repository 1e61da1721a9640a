"""The report on an expert as rows of words and numbers: printed on stderr here, and the tables of its page."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.core.calibration import Calibration
from pipeline.core.expert_measures import SURE_AT, AtIou
from pipeline.core.intervals import Share
from pipeline.stages.audit_expert import COUNTED, PRIVILEGED, ExpertReport
from pipeline.stages.progress import note

Row = tuple[str, ...]
WHERE = ("IoU ≥", "what", "expert", "95 % interval", "of", "random", "gain")
SURE = ("confidence", "n", "right", "ECE", "Brier", "AUROC", "mean where right", "where wrong")


def show(report: ExpertReport) -> None:
    note(f"{report.expert} on {report.slice}, {report.how} ({report.version} sha256:{report.digest[:12]})")
    for line in (*([PRIVILEGED] if report.privileged else []), *counted(report), *failed(report)):
        note(f"  {line}")
    for head, rows in ((WHERE, where_rows(report)), (SURE, sure_rows(report))):
        for line in _aligned([head, *rows]) if rows else ():
            note(f"  {line}")
    for line in (*drill_lines(report), *clear_lines(report), *cost_lines(report)):
        note(f"  {line}")
    for rule in report.rules:
        if rule != PRIVILEGED:
            note(f"  · {rule}")


def counted(report: ExpertReport) -> Iterator[str]:
    n = report.questions
    drawn = ", ".join(f"{who} {many:,}" for who, many in report.provenances.items())
    yield (
        f"measured on {n['measured']:,} of {n['annotated']:,} questions with a region for them, "
        f"{n['images']:,} images, {report.worth.n_regions:,} regions asked for; boxes by {drawn or 'nobody'}"
    )
    yield (
        f"left out {n['left_out_no_regions']:,} questions without any region and "
        f"{n['left_out_other_regions']:,} whose image has only others"
    )


def failed(report: ExpertReport) -> Iterator[str]:
    n = report.questions
    if n["failed"] or n["unasked"]:
        yield f"not measured: {n['failed']:,} questions whose scan failed, {n['unasked']:,} never asked"
    if report.failures:
        yield "calls that failed: " + ", ".join(f"{name} {many:,}" for name, many in report.failures.items())


def where_rows(report: ExpertReport) -> list[Row]:
    """Recall, precision and the surest box at each IoU."""
    worth = report.worth
    named = (("regions found", worth.recall), ("boxes right", worth.precision), ("surest box right", worth.surest))
    return [_where(name, one) for name, each in named for one in each]


def _where(name: str, one: AtIou) -> Row:
    more = f"{100 * one.gain:+.1f}{error(one.gain_se, 100, '.1f')}"
    share = one.share
    return (f"{one.iou:g}", name, percent(share.value), interval(share), f"{share.n:,}", percent(one.random), more)


def sure_rows(report: ExpertReport) -> list[Row]:
    """Calibration and discrimination of all scanned boxes, and of the drilled ones before and after."""
    worth = report.worth
    rows = [] if worth.scan is None else [_sure("scan, all boxes", worth.scan)]
    if worth.drill is not None:
        rows += [_sure("scan, drilled boxes", worth.drill.scanned), _sure("first drill", worth.drill.drilled)]
    return rows


def _sure(name: str, one: Calibration) -> Row:
    numbers = (one.ece, one.brier, one.auroc, one.confidence_true, one.confidence_false)
    return (name, f"{one.n:,}", percent(one.n_true / one.n), *map(number, numbers))


def drill_lines(report: ExpertReport) -> Iterator[str]:
    n, drill = report.questions, report.worth.drill
    if drill is not None:
        auroc = number(drill.auroc_gain, "+.3f") + error(drill.auroc_gain_se)
        brier = number(drill.brier_gain, "+.3f") + error(drill.brier_gain_se)
        yield f"a drill over its scan: AUROC {auroc}, Brier {brier}, ECE {number(drill.ece_gain, '+.3f')}"
        for which, change, delta_c in (
            ("overlap a region", drill.change_true, drill.delta_c_true),
            ("overlap none", drill.change_false, drill.delta_c_false),
        ):
            yield f"  of boxes that {which}: mean c' − c {number(change, '+.3f')}, mean Δc {number(delta_c, '+.3f')}"
    if n["drills_mute"] or n["drills_unscanned"]:
        yield f"drills without an answer {n['drills_mute']:,}, at boxes that no scan named {n['drills_unscanned']:,}"


def clear_lines(report: ExpertReport) -> Iterator[str]:
    clear, n = report.worth.clear, report.questions
    if clear is None:
        yield "false alarms: not measured, since no image here is stated to be without finding"
        return
    sure = f"{percent(clear.sure_box.value)} ({interval(clear.sure_box)}) with one of c ≥ {SURE_AT:g}"
    yield (
        f"on clear images, {n['measured_clear']:,} of {n['clear']:,} questions: {percent(clear.any_box.value)} with a "
        f"box, {sure}, {clear.boxes_per_scan:.2f} boxes a scan"
    )


def cost_lines(report: ExpertReport) -> Iterator[str]:
    """What is counted here, and apart from it what the expert counts itself."""
    cost = report.cost
    yield from _costs("per question", cost["per_question"])
    if "per_call_asked" in cost:
        yield f"{cost['calls_cached']:,} of {cost['calls']:,} calls were known, {cost['calls_asked']:,} were asked"
        yield from _costs("per call that was asked", cost["per_call_asked"])


def _costs(of_what: str, each: Mapping[str, float]) -> Iterator[str]:
    ours = {name: value for name, value in each.items() if not name.startswith(COUNTED)}
    theirs = {name.removeprefix(COUNTED): value for name, value in each.items() if name not in ours}
    for whose, costs in ((f"cost {of_what}", ours), ("the same by the expert's own count", theirs)):
        if costs:
            yield f"{whose}: " + ", ".join(f"{name} {value:.4g}" for name, value in costs.items())


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def interval(share: Share) -> str:
    return f"{100 * share.low:.1f}–{100 * share.high:.1f}"


def number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)


def error(se: float | None, scale: float = 1, form: str = ".3f") -> str:
    return "" if se is None else f" ± {format(scale * se, form)}"


def _aligned(rows: Sequence[Row]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
