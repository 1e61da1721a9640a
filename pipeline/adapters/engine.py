"""The local engine: maps a stage over shards, in this process or in a supervised pool of spawned ones.

A worker that dies breaks a process pool for everybody, so the pool is rebuilt and what was in flight is tried
again, one shard at a time, until the shard that kills its worker is known. It is set aside, the others are finished,
and then the error names it. `multiprocessing.Pool` would hang instead.
"""

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from pipeline.adapters.work import Receipt, Shard, Stage, run_shard
from schemas.errors import FoveaError

ATTEMPTS = 3
POISONED_MAX = 3  # when more shards than this kill their worker, it is the machine
Progress = Callable[[Receipt, Shard], None]


def run(root: Path, stage: Stage, shards: Sequence[Shard], *, workers: int, done: Progress) -> list[Receipt]:
    """Receipts in the order of `shards`; FoveaError, after all others are done, when one keeps killing its worker."""
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
    poisoned: list[int] = field(default_factory=list)

    def finish(self, index: int, receipt: Receipt) -> None:
        self.receipts[index] = receipt
        self.done(receipt, self.shards[index])

    def supervise(self, workers: int) -> None:
        while len(self.poisoned) <= POISONED_MAX and (remaining := self.remaining()):
            for suspect in self.pool(remaining, workers):
                if all(self.pool([suspect], 1) for _ in range(ATTEMPTS)):
                    self.poisoned.append(suspect)
        if self.poisoned:
            names = ", ".join(self.shards[index].key for index in self.poisoned)
            raise FoveaError(
                f"shard {names} killed its worker {ATTEMPTS} times",
                where=f"stage {self.stage.name}",
                fix=f"look for lack of memory or a crashing image; the {len(self.receipts)} finished shards are kept",
            )

    def remaining(self) -> list[int]:
        return [index for index in range(len(self.shards)) if index not in self.receipts and index not in self.poisoned]

    def pool(self, indices: list[int], workers: int) -> list[int]:
        """Run shards in one pool, at most two in flight per worker; what was in flight when a worker died."""
        waiting = list(reversed(indices))
        running: dict[Future[Receipt], int] = {}
        with ProcessPoolExecutor(workers, get_context("spawn"), _obey_builder) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < 2 * workers:
                        index = waiting.pop()
                        running[pool.submit(_work, self.root, self.stage, self.shards[index])] = index
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        self.finish(running[future], future.result())
                        del running[future]
            except BrokenProcessPool:
                return list(running.values()) or indices[:1]
            except BaseException:
                pool.shutdown(cancel_futures=True)  # what runs is finished and kept, what waits is not begun
                raise
        return []


def _obey_builder() -> None:
    """A worker leaves Ctrl-C to the builder, and dies with it: an orphan would keep its memory and its device."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_die_with_builder, daemon=True).start()


def _die_with_builder() -> None:
    if (builder := parent_process()) is not None:
        builder.join()
        os._exit(1)


def _work(root: Path, stage: Stage, shard: Shard) -> Receipt:
    return run_shard(root, stage, _state(stage), shard)


@lru_cache(maxsize=1)
def _state(stage: Stage) -> Any:
    return stage.setup()
