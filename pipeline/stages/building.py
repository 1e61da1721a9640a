"""From a stage and its shards to a committed slice: run what is missing, pack, commit; one way for every build."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.adapters import engine
from pipeline.adapters.catalog import write_catalog
from pipeline.adapters.commits import commit
from pipeline.adapters.pack import pack
from pipeline.adapters.work import Shard, Stage
from pipeline.stages.progress import progress
from schemas.errors import InputError, UsageError
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


def schemas_of(tables: Sequence[str]) -> Mapping[str, str]:
    return {name: TABLES[name].schema_id for name in tables}


def build(store: Store, stage: SliceStage, shards: Sequence[Shard], *, workers: int) -> Built:
    """Run, pack and commit; finished shards are never run again, and an unchanged build makes no version."""
    slice_ = stage.describe()
    if not NAME.fullmatch(slice_.name):
        raise UsageError(f"a slice cannot be called {slice_.name!a}", fix="a name without / * ? [ ] and control marks")
    if not shards:
        raise InputError(f"no rows to make {slice_.key} from", fix="ask for more, or look at what the input holds")
    with progress(slice_.key, sum(shard.n_rows for shard in shards)) as advance:
        receipts = engine.run(
            store.root,
            stage,
            shards,
            workers=workers,
            done=lambda receipt, shard: advance(shard.n_rows, receipt.is_reused),
        )

    def packed(before: Slice | None) -> Slice:
        parts = pack(store.root, receipts, before)
        return Slice(**{name: getattr(slice_, name) for name in Slice.__dataclass_fields__} | {"parts": parts})

    manifest, is_new = commit(store, packed, slice_.key)
    write_catalog(store)
    n_reused = sum(receipt.is_reused for receipt in receipts)
    return Built(manifest, manifest.slices[slice_.key], is_new, len(shards), n_reused)
