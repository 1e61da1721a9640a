"""The local engine: shards in this process, or in a supervised pool of spawned ones.

A worker that dies breaks a process pool for everybody, so what was in flight is tried again in a worker of its own, one
shard after the other, until the shard that kills its worker is known. `multiprocessing.Pool` would hang instead.
"""

import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from math import ceil
from multiprocessing import get_context, parent_process
from multiprocessing.reduction import ForkingPickler
from threading import Thread
from traceback import format_exception
from typing import Any

from pipeline.adapters import engine_job
from pipeline.adapters.crew import in_order
from pipeline.adapters.engine_job import Job, shards_at_once, stillborn
from pipeline.adapters.work import Receipt, Shard, Stage, run_shard


def run(job: Job, workers: int) -> None:
    if not job.shards:
        return
    if workers <= 1 or len(job.shards) == 1:
        _work_off(job.root, job.stage, job.stage.setup(), job.shards, job.finish)
        return
    while not job.is_hopeless and (remaining := job.remaining):
        _try_alone(job, _pool(job, remaining, workers))


def _pool(job: Job, indices: list[int], workers: int) -> list[int]:
    """Run shards in one pool, at most two calls in flight per worker; what was in flight when a worker died."""
    waiting = list(reversed(indices))
    running: dict[Future[list[Receipt]], list[int]] = {}
    with _workers(workers) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < 2 * workers:
                    n = min(shards_at_once(job.stage), ceil(len(waiting) / workers))
                    some = [waiting.pop() for _ in range(n)]
                    running[pool.submit(_work, job.root, job.stage, [job.shards[index] for index in some])] = some
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    for index, receipt in zip(running[future], future.result(), strict=True):
                        job.finish(index, receipt)
                    del running[future]
        except BrokenProcessPool:
            return [index for some in running.values() for index in some]
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what runs is finished and kept, what waits is not begun
            raise
    return []


def _try_alone(job: Job, suspects: Sequence[int]) -> None:
    """Set aside those that kill their worker; FoveaError when it dies before it has one, for which none is to blame."""
    waiting, kills, n_stillborn = deque(suspects), Counter[int](), 0
    while waiting and not job.is_hopeless:
        is_loaded = False
        with _workers(1) as pool:
            try:
                pool.submit(_work, job.root, job.stage, []).result()  # loads its state
                is_loaded, n_stillborn = True, 0
                while waiting:
                    (receipt,) = pool.submit(_work, job.root, job.stage, [job.shards[waiting[0]]]).result()
                    job.finish(waiting.popleft(), receipt)
            except BrokenProcessPool:
                if is_loaded:
                    kills[waiting[0]] += 1
                else:
                    n_stillborn += 1
        if n_stillborn >= engine_job.ATTEMPTS:
            raise stillborn(job.stage, n_stillborn)
        if waiting and kills[waiting[0]] >= engine_job.ATTEMPTS:
            job.poisoned.append(waiting.popleft())


def _workers(n: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(n, get_context("spawn"), _obey_builder)


def _work_off(
    root: Any, stage: Stage, state: Any, shards: Sequence[Shard], finish: Callable[[int, Receipt], None]
) -> None:
    """Run shards in this process; after an error those that run are finished and kept, and no other is begun."""
    errors: dict[int, Exception] = {}
    if (n_threads := shards_at_once(stage)) == 1:
        for index, shard in enumerate(shards):
            finish(index, run_shard(root, stage, state, shard))
        return

    def one(index: int) -> None:
        if errors:
            return
        try:
            finish(index, run_shard(root, stage, state, shards[index]))
        except Exception as error:  # raised below, when the other threads are done
            errors[index] = error

    in_order(one, range(len(shards)), n_threads)
    if errors:
        raise errors[min(errors)]


def _obey_builder() -> None:
    """A worker leaves Ctrl-C to the builder, and dies with it: an orphan would keep its memory and its device."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_die_with_builder, daemon=True).start()


def _die_with_builder() -> None:
    if (builder := parent_process()) is not None:
        builder.join()
        os._exit(1)


def _work(root: Any, stage: Stage, shards: Sequence[Shard]) -> list[Receipt]:
    receipts: dict[int, Receipt] = {}
    try:
        _work_off(root, stage, _state(stage), shards, receipts.__setitem__)
    except Exception as error:
        raise _portable(error) from error
    return [receipts[index] for index in range(len(shards))]


def _portable(error: Exception) -> Exception:
    """The error, or its words if it cannot cross to the builder: one that fails there looks like a dead worker."""
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:
        return RuntimeError("".join(format_exception(error)))
    return error


@lru_cache(maxsize=1)
def _state(stage: Stage) -> Any:
    """Of a worker: it lasts as long as the pool."""
    return stage.setup()
