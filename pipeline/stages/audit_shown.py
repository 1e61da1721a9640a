"""What an audit found, for people: counts, how far the wording alone goes, problems and findings, on stderr."""

from typing import TYPE_CHECKING, Any

from pipeline.stages.progress import note
from schemas.records import STOPS

if TYPE_CHECKING:
    from pipeline.stages.audit import AuditReport, Problem


def show(report: "AuditReport") -> None:
    """The report for people, on stderr."""
    note(f"audit of {report.version} sha256:{report.digest[:12]}")
    note("  " + "  ".join(f"{table} {n:,}" for table, n in report.counts.items()))
    for one in report.summary["trajectories"]:
        stops = "  ".join(f"{stop} {one[stop]:4.0%}" for stop in STOPS)
        note(f"  {one['slice']} {one['origin']:<10} {one['n']:>9,} trajectories  {one['looks']:.2f} looks  {stops}")
    _show_question_only(report.summary["question_only"])
    for one in report.summary["calls"]:
        note(f"  {one['slice']} expert calls: grn {one['n_calls_grn']:,}, with cvs {one['n_calls_grn_cvs']:,}")
    for title, caught in (("problems", report.problems), ("findings", report.findings)):
        note(f"{title}: {len(caught) or 'none'}")
        for one in caught:
            _show_problem(one)
    if report.skipped:
        note(f"not checked, since parts they need are broken: {', '.join(report.skipped)}")


WORDING_ALONE = {  # column of the summary -> what its share means
    "known_accuracy": "have the usual answer to their wording",
    "known_accuracy_as_written": "have it letter by letter",
    "accuracy": "have it, or the usual answer to their kind where the wording is new",
}


def _show_question_only(rows: list[dict[str, Any]]) -> None:
    """How far the wording alone goes in each split and language, in all and by kind of question."""
    for one in rows:
        if one["kind"] == "all":
            same = ("source", "split", "language", "train_rows")
            kinds = [row for row in rows if row["kind"] != "all" and all(row[name] == one[name] for name in same)]
            rows_of = ", without templated train rows" if one["train_rows"] == "own" else ""
            note(f"  {one['source']} {one['split']} {one['language']}, wording alone{rows_of}:")
            for name, what in WORDING_ALONE.items():
                by_kind = ", ".join(f"{row['kind']} {100 * row[name]:.1f} %" for row in kinds)
                note(f"    {100 * one[name]:.1f} % of {one['n_questions']:,} {what} ({by_kind})")


def _show_problem(problem: "Problem") -> None:
    note(f"  {problem.id} ({problem.n:,}): {problem.explain}")
    for key, detail in list(zip(problem.keys, problem.details, strict=True))[:5]:
        note(f"    {key}: {detail}")
    if len(problem.keys) > 5:
        note("    … more with --json")
