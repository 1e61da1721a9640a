"""`fovea audit`: is this version of a store what it claims to be, and what should its users know?

Problems break a promise (exit 1); findings are true facts about the sources and fail only with --strict. Files are
read first; rows of parts that are broken are left out of what follows.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.adapters.catalog import SQL, open_manifest
from pipeline.stages import audit_duplicates as duplicates
from pipeline.stages import audit_expert_command as of_expert
from pipeline.stages import audit_rows as rows
from pipeline.stages import audit_storage as storage
from pipeline.stages.audit_rows import ERROR, FINDING, SHOWN, Check, Result
from pipeline.stages.audit_shown import show
from pipeline.stages.audit_storage import Offence
from pipeline.stages.progress import progress
from pipeline.stages.reports import JsonOption, StoreOption, print_json
from pipeline.stages.sql import plain
from schemas.errors import UsageError
from schemas.manifest import Manifest, Part
from schemas.reader import Store
from schemas.tables import TABLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True, slots=True)
class Problem:
    """One rule and what it caught: `n` in all, `keys` the first of them, `details` beside each."""

    id: str
    explain: str
    n: int
    keys: tuple[str, ...]
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """`problems` must be empty before anything is published; `skipped` are checks that a broken part made void."""

    version: str
    digest: str
    counts: dict[str, int]
    problems: tuple[Problem, ...]
    findings: tuple[Problem, ...]
    skipped: tuple[str, ...]
    summary: dict[str, Any]

    def to_json(self, store: object) -> dict[str, Any]:
        fields = plain(asdict(self))
        return {"store": str(store), **fields.pop("counts"), **fields}


def audit(store: Store, version: str | int | None = None) -> AuditReport:
    """Everything that can be said against one version, from its files to the last decision of its rows."""
    manifest = store.manifest(version)
    counts = {table: sum(part.rows for _, part in manifest.parts(table)) for table in TABLES}
    checks = rows.load_checks()
    n_rows = sum(counts.values()) + counts["images"] + len(checks) * counts["trajectories"]
    with progress("audit", n_rows) as advance:
        run = _Run(store, manifest, lambda n: advance(n, False))
        run.files()
        run.rows(checks, counts["trajectories"])
    return AuditReport(
        version=f"v{manifest.version}",
        digest=manifest.digest,
        counts=counts,
        problems=tuple(run.caught[ERROR]),
        findings=tuple(run.caught[FINDING]),
        skipped=tuple(run.skipped),
        summary=run.summary,
    )


class _Run:
    """One audit under way: what was caught so far, and which parts may still be read."""

    def __init__(self, store: Store, manifest: Manifest, tick: Callable[[int], None]) -> None:
        self.store, self.manifest, self.tick = store, manifest, tick
        self.caught: dict[str, list[Problem]] = defaultdict(list)
        self.skipped: list[str] = []
        self.summary: dict[str, Any] = {}
        self.lost: frozenset[str] = frozenset()  # tables with a broken part

    def files(self) -> None:
        chain = storage.broken_chain(self.store, self.manifest)
        self.add(MANIFEST_CHAIN, chain)
        broken = storage.broken_parts(self.store.folder, self.manifest, self.tick)
        self.add(PART_FILES, broken.values())
        self.lost = frozenset(part.table for part in broken)
        self.manifest = _without(self.manifest, broken.keys())
        images = self.manifest.parts("images")
        wrong = (one for key, part in images for one in storage.broken_images(self.store.root, key, part, self.tick))
        self.add(IMAGE_BYTES, wrong)

    def rows(self, checks: Iterable[Check], n_trajectories: int) -> None:
        con = open_manifest(self.store, self.manifest)
        try:
            self.add(MISSING_VALUES, rows.missing_values(con))
            self.add(UNACCOUNTED, rows.unaccounted_questions(con, self.manifest))
            for check in checks:
                if self.may(check):
                    self.take(rows.run_check(con, check))
                self.tick(n_trajectories)
            self.add(CVS_DRAW, rows.wrong_variants(con))
            self.add(STALE_INPUTS, rows.stale_inputs(self.manifest))
            self.near_copies(con)
            for path in sorted((SQL / "summaries").glob("*.sql")):
                cursor = con.execute(path.read_text(encoding="utf-8"))
                names = [column[0] for column in cursor.description]
                self.summary[path.stem] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        finally:
            con.close()

    def near_copies(self, con: "DuckDBPyConnection") -> None:
        found = duplicates.near_copies(con)
        self.add(NEAR_DUPLICATES, duplicates.within_sources(found))
        self.add(NEAR_LEAKAGE, duplicates.across_splits(found, con.execute(duplicates.SPLIT_ORDER).fetchall()))
        self.add(NEAR_SOURCES, duplicates.across_sources(found))
        self.add(FAMILIES, duplicates.families(con, found))

    def may(self, check: Check) -> bool:
        if not check.needs & self.lost:
            return True
        self.skipped.append(check.id)
        return False

    def add(self, check: Check, offences: Iterable[Offence]) -> None:
        """The result of a check in Python; nothing is asked where it may not run."""
        if self.may(check):
            found = sorted(offences, key=lambda one: one.key)
            self.take(Result(check, sum(one.n for one in found), tuple(found[:SHOWN])))

    def take(self, result: Result) -> None:
        if result.n:
            keys, details = (tuple(getattr(one, name) for one in result.shown) for name in ("key", "detail"))
            problem = Problem(result.check.id, result.check.explain, result.n, keys, details)
            self.caught[result.check.severity].append(problem)


def _without(manifest: Manifest, broken: Iterable[Part]) -> Manifest:
    lost = set(broken)
    slices = {
        key: replace(one, parts=tuple(part for part in one.parts if part not in lost))
        for key, one in manifest.slices.items()
    }
    return replace(manifest, slices=slices)


def _rule(id_: str, explain: str, *needs: str, severity: str = ERROR) -> Check:
    return Check(id_, severity, explain, frozenset(needs), sql="")


MANIFEST_CHAIN = _rule("manifest_chain", "every version can be read and names the digest of the one before")
PART_FILES = _rule("part_files", "every file a manifest names is there, with its size, sha256, rows and schema")
IMAGE_BYTES = _rule("image_bytes", "an image's bytes hash to its id and decode to the stored size, pixels and hashes")
MISSING_VALUES = _rule("missing_values", "no null in a column that must not have one")
UNACCOUNTED = _rule(
    "unaccounted_questions",
    "every question of the input became trajectories or a reject",
    "questions",
    "trajectories",
    "rejects",
)
CVS_DRAW = _rule("cvs_draw", "a CVS variant chose what its seed draws from the nucleus")
STALE_INPUTS = _rule("stale_inputs", "slices that were made from an older version of their input", severity=FINDING)
NEAR_DUPLICATES = _rule(
    "near_duplicates",
    "different pictures of one source that are near copies by PDQ or pHash: as they are, mirrored, inverted or trimmed",
    severity=FINDING,
)
NEAR_LEAKAGE = _rule("near_leakage", "pictures of one split that have a near copy in another", severity=FINDING)
NEAR_SOURCES = _rule("near_sources", "pictures of one source that have a near copy in another", severity=FINDING)
FAMILIES = _rule("families", "sources in the store that are known to share pictures", severity=FINDING)


def command(
    store: StoreOption,
    version: Annotated[str | None, typer.Option(help="v3 or the start of a digest; default the newest.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Findings fail the audit too.")] = False,
    expert: of_expert.ExpertOption = None,
    expert_slice: of_expert.SliceOption = None,
    source: of_expert.SourceOption = None,
    ingest_name: of_expert.IngestOption = None,
    expert_set: of_expert.SetOption = None,
    send_restricted: of_expert.SendOption = False,
    looks_max: of_expert.LooksOption = None,
    split: of_expert.SplitOption = None,
    truth: of_expert.TruthOption = None,
    questions: of_expert.QuestionsOption = None,
    seed: of_expert.SeedOption = None,
    out: of_expert.OutOption = None,
    json: JsonOption = False,
) -> None:
    """Check every file, reference, box and decision of a store, and say what its users should know.

    With --expert and --source, or with --expert-slice: say what an expert is worth before anything is trained on it.

    Example: fovea audit --store store
    """
    given = of_expert.Given(
        expert,
        expert_slice,
        source,
        ingest_name,
        expert_set,
        send_restricted,
        looks_max,
        split,
        truth,
        questions,
        seed,
        out,
    )
    if given.is_of_an_expert:
        if strict:
            raise UsageError("--strict is for a store; an expert passes or fails nothing", fix="leave it out")
        of_expert.measure(Store(store), version, given, json)
        return
    report = audit(Store(store), version)
    if json:
        print_json(report.to_json(store))
    else:
        show(report)
    if report.problems or (strict and report.findings):
        raise typer.Exit(1)
