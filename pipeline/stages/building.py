"""From a stage and its shards to a committed slice: run what is missing, pack, commit; one way for every build."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.adapters import engine
from pipeline.adapters.catalog import write_catalog
from pipeline.adapters.commits import commit
from pipeline.adapters.engine import LOCAL, Engine
from pipeline.adapters.pack import pack
from pipeline.adapters.rejected import rejected_by_class
from pipeline.adapters.work import Receipt, Shard, Stage
from pipeline.stages.progress import progress
from pipeline.stages.shares import ShareDone, asked_share
from schemas.errors import FoveaError, InputError, UsageError
from schemas.manifest import Manifest, Slice
from schemas.reader import Store
from schemas.tables import TABLES

NAME = re.compile(r"[^/*?\[\]\x00-\x1f\x7f\ud800-\udfff]+")  # nothing that means something in a key or pattern


class SliceStage(Stage, Protocol):
    """A stage whose rows become one slice of a store."""

    def describe(self) -> Slice:
        """The slice without parts: stage, source, name, config, expert, seed, inputs, schemas, licences."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build left behind, for people and for `--json`."""

    manifest: Manifest
    slice: Slice
    is_new: bool
    n_shards: int
    n_reused: int

    def summary(self) -> dict[str, Any]:
        rows: dict[str, dict[str, int]] = {}
        for part in self.slice.parts:
            counts = rows.setdefault(part.table, {})
            counts[part.split] = counts.get(part.split, 0) + part.rows
        return {
            "slice": self.slice.key,
            "version": f"v{self.manifest.version}",
            "digest": self.manifest.digest,
            "did_work": self.n_reused < self.n_shards,
            "is_new_version": self.is_new,
            "shards": self.n_shards,
            "shards_reused": self.n_reused,
            "rows": rows,
        }


@dataclass(frozen=True, slots=True)
class RejectLimit:
    """Share of rows in that may be rejected, and what to do when more are: the reason is seldom in the rows."""

    rate: float
    fix: str


def schemas_of(tables: Sequence[str]) -> Mapping[str, str]:
    return {name: TABLES[name].schema_id for name in tables}


def build(
    store: Store,
    stage: SliceStage,
    shards: Sequence[Shard],
    *,
    engine: Engine = LOCAL,
    limit: RejectLimit | None = None,
) -> Built:
    """Run, pack and commit; finished shards are never run again, and an unchanged build makes no version."""
    slice_ = stage.describe()
    if not NAME.fullmatch(slice_.name):
        raise UsageError(f"a slice cannot be called {slice_.name!a}", fix="a name without / * ? [ ] and control marks")
    if not shards:
        raise InputError(f"no rows to make {slice_.key} from", fix="ask for more, or look at what the input holds")
    if (share := asked_share()) is not None:
        raise ShareDone(_run(store, stage, slice_.key, share.of(shards), engine))
    receipts = _run(store, stage, slice_.key, shards, engine)
    if limit is not None:
        _check_rejects(store, slice_.key, sum(shard.n_rows for shard in shards), receipts, limit)

    def packed(before: Slice | None) -> Slice:
        parts = pack(store.folder, receipts, before)
        return Slice(**{name: getattr(slice_, name) for name in Slice.__dataclass_fields__} | {"parts": parts})

    manifest, is_new = commit(store, packed, slice_.key)
    if not store.folder.has(manifest.slices[slice_.key].parts):  # somebody swept before the manifest named them
        manifest, is_newer = commit(store, packed, slice_.key)
        is_new = is_new or is_newer
    write_catalog(store)
    n_reused = sum(receipt.is_reused for receipt in receipts)
    return Built(manifest, manifest.slices[slice_.key], is_new, len(shards), n_reused)


def _run(store: Store, stage: Stage, key: str, shards: Sequence[Shard], how: Engine) -> list[Receipt]:
    with progress(key, sum(shard.n_rows for shard in shards)) as advance:

        def done(receipt: Receipt, shard: Shard) -> None:
            advance(shard.n_rows, receipt.is_reused)

        return engine.run(store.folder, stage, shards, engine=how, done=done)


def _check_rejects(store: Store, key: str, n_rows: int, receipts: Sequence[Receipt], limit: RejectLimit) -> None:
    """FoveaError, before anything is committed, when more rows were rejected than `limit` allows."""
    n_rejected = sum(file.rows for receipt in receipts for file in receipt.files if file.table == "rejects")
    if n_rejected / max(n_rows, n_rejected, 1) <= limit.rate:  # a row in may be several rejects
        return
    reasons = rejected_by_class(store.folder, receipts).most_common(3)
    raise FoveaError(
        f"{n_rejected:,} of {n_rows:,} rows were rejected, more than --max-reject-rate {limit.rate:g} allows; "
        f"mostly {', '.join(f'{name} ({n:,})' for name, n in reasons)}",
        where=f"{key}: not committed; its finished shards are kept",
        fix=limit.fix,
    )
