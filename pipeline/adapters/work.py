"""Work shards: the unit of work, of resuming and of retrying; private to the store, never published.

A shard's fingerprint names everything that could change its rows. Its completion record is put only if absent:
whoever comes second adopts the first one's bytes, so an expert that answers differently each time cannot fork a store.
"""

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from pipeline.adapters.files import name_of, put_if_absent, refuse_unsafe, remove, write_parquet
from schemas.errors import FoveaError
from schemas.manifest import canonical, sha256_of
from schemas.storage import Folder
from schemas.tables import TABLES

Output = Mapping[tuple[str, str], pa.Table]  # (table, split) -> rows


@dataclass(frozen=True, slots=True)
class Shard:
    """One call of a stage; `payload` must cross process borders, `key` names it to people."""

    key: str
    n_rows: int
    payload: Any


class Stage(Protocol):
    """`setup` once per worker, then a pure `process` per shard."""

    name: str
    revision: int
    tables: tuple[str, ...]  # what it writes; their schema ids enter the fingerprint

    def identity(self) -> Mapping[str, Any]:
        """Everything beside the shard's inputs that changes its rows: config, expert, seed."""

    def setup(self) -> Any: ...

    def digest(self, state: Any, shard: Shard) -> str:
        """sha256 of the shard's inputs."""

    def process(self, state: Any, shard: Shard) -> Output: ...


@dataclass(frozen=True, slots=True)
class WorkFile:
    path: str
    table: str
    split: str
    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a finished shard left; `is_reused` when nothing had to be done."""

    fingerprint: str
    shard: str
    files: tuple[WorkFile, ...]
    is_reused: bool


def fingerprint(stage: Stage, digest: str, shard: Shard) -> str:
    schemas = {name: TABLES[name].schema_id for name in stage.tables}
    return sha256_of([stage.name, stage.revision, dict(stage.identity()), shard.key, digest, schemas])


def run_shard(where: Folder | Path, stage: Stage, state: Any, shard: Shard) -> Receipt:
    """Do the shard's work unless a complete record of it exists; either way its receipt."""
    store = Folder.of(where)
    mark = fingerprint(stage, stage.digest(state, shard), shard)
    record = store.root / "work" / stage.name / f"{mark}.json"
    if (done := _recorded(store, record, mark, shard)) is not None:
        return done
    refuse_unsafe(store)  # before anything is paid for
    started_s = time.perf_counter()
    files = _write(store, stage, mark, _processed(stage, state, shard))
    seconds = round(time.perf_counter() - started_s, 4)
    plain = {"shard": shard.key, "files": [asdict(file) for file in files], "seconds": seconds, **_spent(stage, state)}
    while not put_if_absent(store, record, canonical(plain)):
        if (adopted := _recorded(store, record, mark, shard)) is not None:
            return replace(adopted, is_reused=False)
        remove(store, record)  # its files are gone or short: it promises nothing
    return Receipt(mark, shard.key, tuple(files), False)


def _processed(stage: Stage, state: Any, shard: Shard) -> Output:
    try:
        return stage.process(state, shard)
    except MemoryError as error:
        fix = "fewer --workers, or a machine with more of it; finished shards are kept"
        raise FoveaError("memory ran out", where=f"stage {stage.name}, shard {shard.key}", fix=fix) from error


def _spent(stage: Stage, state: Any) -> dict[str, Any]:
    """What a shard has cost, where the stage counts it: kept here, since it differs from run to run."""
    usage = getattr(stage, "usage", None)
    return {"usage": spent} if usage is not None and (spent := usage(state)) else {}


def _recorded(store: Folder, record: Path, mark: str, shard: Shard) -> Receipt | None:
    """The receipt of a finished shard, or None when it is not finished or a file of it is missing or short."""
    try:
        plain = json.loads(store.read(name_of(store, record)))
        files = tuple(WorkFile(**file) for file in plain["files"])
        if store.has(files):
            return Receipt(mark, shard.key, files, True)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    return None


def _write(store: Folder, stage: Stage, mark: str, output: Output) -> list[WorkFile]:
    """At a URL all at once, since putting a small file is waiting."""

    def write(one: tuple[tuple[str, str], pa.Table]) -> WorkFile:
        (table, split), data = one
        folder, stem = store.root / "work" / stage.name, f"{mark[:32]}-{table}-{split}"
        path, digest = write_parquet(store, folder, stem, TABLES[table], [data], is_published=False)
        return WorkFile(name_of(store, path), table, split, digest, path.stat().st_size, data.num_rows)

    tables = [one for one in sorted(output.items(), key=lambda one: one[0]) if one[1].num_rows]
    if store.url is None or len(tables) < 2:
        return [write(one) for one in tables]
    with ThreadPoolExecutor(len(tables)) as pool:
        return list(pool.map(write, tables))
