"""Work shards: the unit of work, of resuming and of retrying; private to the store, never published.

A shard's fingerprint names everything that could change its rows. Its completion record is put only if absent:
whoever comes second adopts the first one's bytes, so an expert that answers differently each time cannot fork a store.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from pipeline.adapters.files import put_if_absent, write_parquet
from schemas.manifest import canonical, sha256_of
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


def run_shard(root: Path, stage: Stage, state: Any, shard: Shard) -> Receipt:
    """Do the shard's work unless a complete record of it exists; either way its receipt."""
    mark = fingerprint(stage, stage.digest(state, shard), shard)
    record = root / "work" / stage.name / f"{mark}.json"
    if (done := _recorded(root, record, mark, shard)) is not None:
        return done
    started_s = time.perf_counter()
    files = _write(root, stage, mark, stage.process(state, shard))
    seconds = round(time.perf_counter() - started_s, 4)
    plain = {"shard": shard.key, "files": [asdict(file) for file in files], "seconds": seconds, **_spent(stage, state)}
    while not put_if_absent(root, record, canonical(plain)):
        if (adopted := _recorded(root, record, mark, shard)) is not None:
            return replace(adopted, is_reused=False)
        record.unlink(missing_ok=True)  # its files are gone or short: it promises nothing
    return Receipt(mark, shard.key, tuple(files), False)


def _spent(stage: Stage, state: Any) -> dict[str, Any]:
    """What a shard has cost, where the stage counts it: kept here, since it differs from run to run."""
    usage = getattr(stage, "usage", None)
    return {"usage": spent} if usage is not None and (spent := usage(state)) else {}


def _recorded(root: Path, record: Path, mark: str, shard: Shard) -> Receipt | None:
    """The receipt of a finished shard, or None when it is not finished or a file of it is missing or short."""
    try:
        plain = json.loads(record.read_bytes())
        files = tuple(WorkFile(**file) for file in plain["files"])
        if all((root / file.path).stat().st_size == file.bytes for file in files):
            return Receipt(mark, shard.key, files, True)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    return None


def _write(root: Path, stage: Stage, mark: str, output: Output) -> list[WorkFile]:
    files = []
    for (table, split), data in sorted(output.items()):
        if data.num_rows:
            stem = f"{mark[:32]}-{table}-{split}"
            path, digest = write_parquet(
                root, root / "work" / stage.name, stem, TABLES[table], [data], is_published=False
            )
            size = path.stat().st_size
            files.append(WorkFile(str(path.relative_to(root)), table, split, digest, size, data.num_rows))
    return files
