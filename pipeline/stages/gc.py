"""`fovea gc`: find what no manifest names and, when told to, delete it.

Whatever is younger than the grace period stays: a builder writes parts before the manifest that names them. Manifests
and the parts they name are never touched, and nothing is when one of them cannot be read: what it names is unknown.
What was fetched from the Hub stays: a unit there is taken for whole while its folder stands. Of a store at a URL the
storage is swept, by its own clock, and then the mirror of what is gone there.
"""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from pipeline.adapters.ages import AT_ONCE, Aged, Ages, ages_of, trim_mirror
from pipeline.adapters.files import remove
from pipeline.stages.progress import note
from pipeline.stages.reports import JsonOption, StoreOption, print_json
from schemas.reader import Store

KINDS = {
    "part": "data that no manifest names",
    "temporary": "left by killed builds",
    "work": "private work shards",
    "calls": "answers of experts",
}
CALLS = "calls"  # the folder in work/ that the answers of costly experts are kept in
NO_STAGES = ("tmp", "hub", CALLS)  # folders in work/ that hold no work shards
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that may go; `path` is relative to the store."""

    path: str
    kind: str  # a key of KINDS
    bytes: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """`found` is older than the grace period, `kept` is not."""

    found: tuple[Leftover, ...]
    kept: tuple[Leftover, ...]
    is_deleted: bool

    def to_json(self, store: object, grace_h: float) -> dict[str, Any]:
        return {
            "store": str(store),
            "deleted": self.is_deleted,
            "grace_h": grace_h,
            "files": len(self.found),
            "bytes": sum(one.bytes for one in self.found),
            "kept_files": len(self.kept),
            "kept_bytes": sum(one.bytes for one in self.kept),
            "found": [{"path": one.path, "kind": one.kind, "bytes": one.bytes} for one in self.found],
        }


def sweep(
    store: Store, *, grace_s: float, delete: bool = False, with_work: bool = False, with_calls: bool = False
) -> Sweep:
    """What may go and what is too young. With `delete`, what may go is gone afterwards."""
    store.manifest()  # a folder without manifests is no store, and its `data/` may be anybody's
    ages = ages_of(store.folder, is_exact=delete)
    leftovers = sorted(_leftovers(store, ages, with_work, with_calls), key=lambda one: one.path)
    found = tuple(one for one in leftovers if one.age_s >= grace_s)

    def drop(one: Leftover) -> None:
        if ages.age_s(one.path) >= grace_s:  # not written again in the meantime
            remove(store.folder, store.root / one.path)

    if delete:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(drop, found))
        trim_mirror(store.folder, grace_s)
    return Sweep(found, tuple(one for one in leftovers if one.age_s < grace_s), delete)


def _leftovers(store: Store, ages: Ages, with_work: bool, with_calls: bool) -> Iterator[Leftover]:
    """Files are listed before the manifests are read: a part that is named in between is never taken for a leftover."""
    files = [Leftover(one.path, "part", one.bytes, one.age_s) for one in ages.below("data")]
    named = {os.path.normpath(part.path) for number in store.versions() for _, part in store.load(number).parts()}
    yield from (one for one in files if one.path not in named)
    yield from (Leftover(one.path, "temporary", one.bytes, one.age_s) for one in ages.below("work/tmp"))
    stages: dict[str, list[Aged]] = {}
    for one in ages.below("work") if with_work or with_calls else ():
        _, stage, *inside = one.path.split("/")
        if inside and (with_calls if stage == CALLS else with_work and stage not in NO_STAGES):
            stages.setdefault(stage, []).append(one)
    for stage, found in stages.items():
        yield from _of_stage(found, "calls" if stage == CALLS else "work")


def _of_stage(files: list[Aged], kind: str) -> Iterator[Leftover]:
    """All files of a stage are as old as its youngest: a stage that wrote lately may still be running."""
    age_s = min(one.age_s for one in files)
    yield from (Leftover(one.path, kind, one.bytes, age_s) for one in files)


def show(result: Sweep, grace_h: float) -> None:
    """The sweep for people, on stderr."""
    n_files, n_bytes = Counter(one.kind for one in result.found), Counter()
    for one in result.found:
        n_bytes[one.kind] += one.bytes
    verb = "removed" if result.is_deleted else "would remove"
    for kind, about in KINDS.items():
        if n_files[kind]:
            note(f"{verb} {n_files[kind]:,} files, {n_bytes[kind]:,} bytes: {about}")
    for one in result.found[:SHOWN]:
        note(f"  {one.path}  {one.bytes:,}")
    if len(result.found) > SHOWN:
        note(f"  … {len(result.found) - SHOWN:,} more with --json")
    if not result.found:
        note("nothing to remove")
    if result.kept:
        note(f"kept {len(result.kept):,} files younger than {grace_h:g} h: a builder may be running")
    if result.found and not result.is_deleted:
        note("nothing was touched; to remove them, add --delete")


def command(
    store: StoreOption,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the files; else they are only listed.")] = False,
    grace_h: Annotated[float, typer.Option(min=0.0, help="Keep what is younger than this many hours.")] = 24.0,
    work: Annotated[
        bool, typer.Option("--work", help="Also records and work shards of finished builds; a rebuild then runs again.")
    ] = False,
    calls: Annotated[
        bool, typer.Option("--calls", help="Also kept answers of experts; those in no slice are then asked for again.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """List what no manifest names, or remove it.

    Example: fovea gc --store store --delete
    """
    result = sweep(Store(store), grace_s=3600 * grace_h, delete=delete, with_work=work, with_calls=calls)
    if json:
        print_json(result.to_json(store, grace_h))
    else:
        show(result, grace_h)
