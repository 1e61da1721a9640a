"""Which slice is repeated from its recorded calls, and whether that gives the slice itself again.

Where rule, seed, code and questions are those of the slice, the replay is the slice: same config, same work shards,
same bytes. Any other names the slice it was made from, so that a shard that lacks calls is never taken for one that an
expert has made.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.core.search import STAGE
from schemas.errors import UsageError
from schemas.manifest import Manifest, Slice, sha256_of
from schemas.reader import Snapshot, Store
from schemas.storage import Folder

CALLS_OF = "calls_of"  # in the config: digest of the slice whose calls were repeated


@lru_cache(maxsize=4)
def manifest_of(where: Folder | Path, version: int) -> Manifest:
    """A version never changes."""
    return Store(where).load(version)


def replayed_slice(snapshot: Snapshot, source: str, wanted: str) -> Slice:
    """The slice of trajectories of `source` that `wanted` names, by name or in full; UsageError unless it is one."""
    found = snapshot.slice(wanted if "/" in wanted else f"{STAGE}/{source}/{wanted}")
    if (found.stage, found.source) != (STAGE, source):
        raise UsageError(f"{found.key} holds no trajectories of {source}", fix=f"--from-calls {STAGE}/{source}/NAME")
    return found


def replay_config(old: Slice, revision: int, inputs: Mapping[str, str], config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` as the replay of `old` is recorded."""
    is_same = (revision, dict(inputs)) == (old.revision, dict(old.inputs)) and not is_changed(old, config)
    return dict(old.config) if is_same else {**config, CALLS_OF: old.digest}


def is_changed(old: Slice, config: Mapping[str, Any]) -> bool:
    """Whether rule, seed or expert are others than in the slice."""
    return sha256_of(dict(config)) != sha256_of({name: old.config[name] for name in old.config if name != CALLS_OF})
