"""What runs inside a Ray actor: it sees that its machine is fit for the build, loads the stage, and does shards.

It knows nothing of Ray. Known errors are returned, not raised, so that they arrive as themselves.
"""

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.adapters.work import Receipt, Shard, Stage, run_shard
from schemas.errors import FoveaError, StoreError
from schemas.manifest import sha256_of
from schemas.storage import sha256_file

SAME = "install the same fovea, with the same packages, on all machines of the cluster"


@dataclass(frozen=True, slots=True)
class Builder:
    """Where the builder runs. `mark` is a file in its store, None for a store at a URL; `code` its `code_digest`."""

    host: str
    folder: str
    mark: Path | None
    code: str


class RayWorker:
    def is_placed(self) -> bool:
        return True

    def set_up(self, builder: Builder, stage: Stage) -> FoveaError | None:
        """See that this machine has the builder's store and its fovea; then load the expert, once."""
        with suppress(OSError):
            os.chdir(builder.folder)  # for relative paths
        host = socket.gethostname()
        if builder.mark is not None and not builder.mark.exists():
            fix = f"keep it in a folder that all machines of the cluster share; looked for {builder.mark}"
            return StoreError("the store is not to be seen from there", where=f"worker on {host}", fix=fix)
        if host != builder.host and builder.code != code_digest():
            return FoveaError("another fovea is installed there", where=f"worker on {host}", fix=SAME)
        try:
            self.stage, self.state = stage, stage.setup()
        except FoveaError as error:
            return error
        return None

    def run(self, root: Any, shard: Shard) -> Receipt | FoveaError:
        try:
            return run_shard(root, self.stage, self.state, shard)
        except FoveaError as error:
            return error


def code_digest() -> str:
    """Of all that could run in a worker: two versions in one build would mix their rows."""
    root = Path(__file__).parents[2]
    files = [path for folder in ("pipeline", "schemas") for path in sorted((root / folder).rglob("*.py"))]
    return sha256_of([[path.relative_to(root).as_posix(), sha256_file(path)] for path in files])
