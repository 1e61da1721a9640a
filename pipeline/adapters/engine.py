"""Where the shards of a build run: on this machine, or in Ray actors. Both leave the same bytes.

Every engine calls the same `run_shard`, so what one has finished another finds done. A FoveaError of a shard arrives
as itself; a shard that kills its worker is set aside and named when all others are finished.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.adapters import engine_local
from pipeline.adapters.engine_job import Job, Progress
from pipeline.adapters.work import Receipt, Shard, Stage
from schemas.errors import UsageError

KINDS = ("local", "ray")


@dataclass(frozen=True, slots=True)
class Engine:
    """`ray_address` None: RAY_ADDRESS, or a Ray of its own on this machine, shut down at the end."""

    workers: int = 1
    kind: str = "local"
    ray_address: str | None = None
    gpus_per_worker: float = 0.0  # Ray hides all GPUs from a worker that asks for none

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"unknown engine {self.kind!r}", fix=f"one of: {', '.join(KINDS)}")
        if self.kind == "local" and (self.ray_address is not None or self.gpus_per_worker):
            raise UsageError("--ray-address and --gpus-per-worker are of Ray", fix="add --engine ray")


LOCAL = Engine()


def run(root: Any, stage: Stage, shards: Sequence[Shard], *, engine: Engine, done: Progress) -> list[Receipt]:
    """Receipts in the order of `shards`; FoveaError, after all others are done, when one keeps killing its worker."""
    job = Job(root, stage, shards, done)
    if engine.kind == "ray" and shards:
        _ray(job, engine)
    else:
        engine_local.run(job, engine.workers)
    return job.verdict()


def _ray(job: Job, engine: Engine) -> None:
    try:
        from pipeline.adapters import engine_ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UsageError("Ray is not installed here", fix="pip install 'fovea[ray]'") from error
    engine_ray.run(job, engine.workers, engine.ray_address, engine.gpus_per_worker)
