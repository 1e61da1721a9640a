"""What an audit asks of rows: the checks in `pipeline/sql/checks`, one file each, and the few that SQL cannot say.

A check whose answer would mean nothing without a table that lost a part (its `needs`) is skipped, by name.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.adapters.catalog import SQL, identifier, quoted
from pipeline.core.recheck import Drawn, wrong_draws
from pipeline.stages.audit_storage import Offence
from schemas.manifest import Manifest
from schemas.tables import TABLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

HEADER = re.compile(r"^-- (id|severity|needs|explain): (.+)$", re.MULTILINE)
ERROR, FINDING = "error", "finding"
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Check:
    """One rule: `severity` error or finding; `needs` are tables whose every part it must see."""

    id: str
    severity: str
    explain: str
    needs: frozenset[str]
    sql: str


@dataclass(frozen=True, slots=True)
class Result:
    """How often a rule is broken, and the first offences by key."""

    check: Check
    n: int
    shown: tuple[Offence, ...]


def load_checks() -> list[Check]:
    """All SQL checks, by id."""
    return [parse_check(path.read_text(encoding="utf-8")) for path in sorted((SQL / "checks").glob("*.sql"))]


def parse_check(text: str) -> Check:
    head = dict(HEADER.findall(text))
    needs = frozenset(filter(None, head.get("needs", "").split(", ")))
    return Check(head["id"], head["severity"], head["explain"], needs, text)


def run_check(con: "DuckDBPyConnection", check: Check) -> Result:
    """All offences are counted, the first `SHOWN` kept; a row of a finding says in column `n` what it stands for."""
    n = "n" if check.severity == FINDING else "1"
    rows = con.execute(
        f"SELECT key, detail, {n}, sum({n}) OVER () FROM (\n{check.sql}\n) ORDER BY key, detail LIMIT {SHOWN}"
    ).fetchall()
    shown = tuple(Offence(key, detail or "", int(count)) for key, detail, count, _ in rows)
    return Result(check, int(rows[0][3]) if rows else 0, shown)


def missing_values(con: "DuckDBPyConnection") -> Iterator[Offence]:
    """Nulls in columns that must not have any."""
    for table in TABLES.values():
        names = [column.name for column in table.columns if not column.nullable]
        counts = ", ".join(f"count(*) - count({identifier(name)})" for name in names)
        for slice_, *n_nulls in con.execute(
            f"SELECT slice, {counts} FROM {identifier(table.name)} GROUP BY slice"
        ).fetchall():
            for name, n in zip(names, n_nulls, strict=True):
                if n:
                    yield Offence(f"{slice_} {table.name}.{name}", f"{n} nulls", n)


def unaccounted_questions(con: "DuckDBPyConnection", manifest: Manifest) -> Iterator[Offence]:
    """Questions of a slice's input that became neither trajectories nor a reject; stale inputs are another rule's."""
    for key, one in sorted(manifest.slices.items()):
        for upstream, digest in sorted(one.inputs.items()):
            if one.stage != "trajectories" or upstream not in manifest.slices:
                continue
            if manifest.slices[upstream].digest == digest:
                rows = con.execute(
                    f"SELECT question_id FROM questions WHERE slice = {quoted(upstream)}"
                    f" EXCEPT SELECT question_id FROM trajectories WHERE slice = {quoted(key)}"
                    f" EXCEPT SELECT row_key FROM rejects WHERE slice = {quoted(key)} ORDER BY ALL"
                ).fetchall()
                yield from (Offence(f"{key} {row[0]}", "neither a trajectory nor a reject") for row in rows)


def stale_inputs(manifest: Manifest) -> Iterator[Offence]:
    """Slices made from a version of their input that is not the present one."""
    for key, one in sorted(manifest.slices.items()):
        for upstream, digest in sorted(one.inputs.items()):
            if upstream not in manifest.slices:
                yield Offence(key, f"was made from {upstream}, which is gone")
            elif manifest.slices[upstream].digest != digest:
                yield Offence(key, f"was made from an older {upstream}; build it again")


def wrong_variants(con: "DuckDBPyConnection") -> Iterator[Offence]:
    """CVS choices that the seeded draw does not give."""
    con.execute(CHOICES)
    while found := con.fetchmany(2_000):
        for slice_, question_id, variant, seed, n_redraws, temperature, *lists in found:
            key = f"{slice_} {question_id} cvs variant {variant}"
            if temperature is None or not temperature > 0:
                yield Offence(key, f"nothing can be drawn at temperature {temperature}")
                continue
            choices = [Drawn(*values) for values in zip(*lists, strict=True)]
            named = {"seed": seed, "question_id": question_id, "variant": variant, "n_redraws": n_redraws}
            for step, wrong in wrong_draws(choices, **named, temperature=temperature):
                yield Offence(f"{key} step {step}", wrong)


CHOICES = """
SELECT
    slice, question_id, variant, seed, n_redraws, temperature,
    made, [step_region[i + 1] FOR i IN made], [step_candidates[i + 1] FOR i IN made],
    [coalesce(step_candidate_conf[i + 1], []) FOR i IN made], [coalesce(step_nucleus[i + 1], []) FOR i IN made]
FROM (
    SELECT *, [i - 1 FOR i IN generate_series(1, len(step_mode)) IF len(step_candidates[i]) > 0] AS made
    FROM trajectories
    WHERE origin = 'cvs' AND step_mode IS NOT NULL
)
"""
