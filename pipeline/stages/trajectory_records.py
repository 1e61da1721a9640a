"""What the completion records of a search build say: which of its shards hold rejects, and what calls a run made.

A record is a promise that its shard is done. One that is put aside leaves its rows where they are, in the published
version too; only the next build does the shard again.
"""

import json
from collections.abc import Sequence

from pipeline.adapters.files import remove
from pipeline.adapters.work import Shard, Stage, fingerprint
from schemas.storage import Folder

Records = dict[str, bytes]


def records_of(store: Folder, stage: Stage, shards: Sequence[Shard]) -> Records:
    """The completion records there are of these shards, whose inputs must be known without the stage's state."""
    marks = (fingerprint(stage, stage.digest(None, shard), shard) for shard in shards)
    return store.read_all(f"work/{stage.name}/{mark}.json" for mark in marks)


def put_rejected_aside(store: Folder, records: Records) -> list[str]:
    """Drop the records of shards with rejects, so that they are done again; which ones."""
    rejected = [name for name, data in records.items() if _tables(data) & {"rejects"}]
    for name in rejected:
        remove(store, store.root / name)
    return rejected


def calls_made(before: Records, after: Records) -> dict[str, int]:
    """Calls asked of the expert, and calls known before, in the shards that were done in between."""
    fresh = [data for path, data in after.items() if before.get(path) != data]
    spent = [json.loads(data).get("usage", {}) for data in fresh]
    return {name: sum(each.get(name, 0) for each in spent) for name in ("calls_asked", "calls_cached")}


def _tables(record: bytes) -> set[str]:
    try:
        return {file["table"] for file in json.loads(record)["files"]}
    except (ValueError, KeyError, TypeError):
        return set()  # it promises nothing, and its shard is done again anyway
