"""The local engine: maps a stage over shards, in this process or in a supervised pool of spawned ones.

A worker that dies breaks a process pool for everybody, so the pool is rebuilt and what was in flight is tried
again, one shard at a time, until the shard that kills its worker is known; it is named in the error.
`multiprocessing.Pool` would hang instead.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pipeline.adapters.work import Receipt, Shard, Stage, run_shard
from schemas.errors import FoveaError

ATTEMPTS = 3
Progress = Callable[[Receipt, Shard], None]


def run(root: Path, stage: Stage, shards: Sequence[Shard], *, workers: int, done: Progress) -> list[Receipt]:
    """Receipts in the order of `shards`; FoveaError when a shard keeps killing its worker (what is finished stays)."""
    job = _Job(root, stage, shards, done)
    if workers <= 1 or len(shards) <= 1:
        for index, shard in enumerate(shards):
            job.finish(index, run_shard(root, stage, _state(stage), shard))
    else:
        job.supervise(workers)
    return [job.receipts[index] for index in range(len(shards))]


@dataclass
class _Job:
    root: Path
    stage: Stage
    shards: Sequence[Shard]
    done: Progress
    receipts: dict[int, Receipt] = field(default_factory=dict)

    def finish(self, index: int, receipt: Receipt) -> None:
        self.receipts[index] = receipt
        self.done(receipt, self.shards[index])

    def supervise(self, workers: int) -> None:
        while remaining := [index for index in range(len(self.shards)) if index not in self.receipts]:
            for suspect in self.pool(remaining, workers):
                self.alone(suspect)

    def alone(self, index: int) -> None:
        for _ in range(ATTEMPTS):
            if not self.pool([index], 1):
                return
        raise FoveaError(
            f"shard {self.shards[index].key} killed its worker {ATTEMPTS} times",
            where=f"stage {self.stage.name}",
            fix="look for an out-of-memory kill or a crashing image in this shard; all other finished shards are kept",
        )

    def pool(self, indices: list[int], workers: int) -> list[int]:
        """Run shards in one pool, at most two in flight per worker; what was in flight when a worker died."""
        waiting = list(reversed(indices))
        running: dict[Future[Receipt], int] = {}
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < 2 * workers:
                        index = waiting.pop()
                        running[pool.submit(_work, self.root, self.stage, self.shards[index])] = index
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        self.finish(running[future], future.result())
                        del running[future]
            except BrokenProcessPool:
                return list(running.values()) or indices
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return []


def _work(root: Path, stage: Stage, shard: Shard) -> Receipt:
    return run_shard(root, stage, _state(stage), shard)


@lru_cache(maxsize=1)
def _state(stage: Stage) -> Any:
    return stage.setup()
