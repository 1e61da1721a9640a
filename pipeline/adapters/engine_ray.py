"""The Ray engine: one actor per worker with the stage's state in it, fed by our own loop.

An actor that dies is replaced. What it had in flight is tried again one shard at a time, as in the local engine.
Ray never retries by itself and moves neither rows nor API keys: actors read and write the store, which every machine
must reach, with the fovea, the packages and the environment variables that are there.
"""

import logging
import os
import re
import socket
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import exceptions

from pipeline.adapters import engine_job
from pipeline.adapters.engine_job import Job, shards_at_once, stillborn
from pipeline.adapters.files import temporary
from pipeline.adapters.ray_worker import SAME, Builder, RayWorker, code_digest
from schemas.errors import FoveaError, UsageError
from schemas.storage import Folder

PLACED_S = 900  # a cluster that grows on demand may take minutes to give the first worker a place
KNOCK_S = 10
OBJECTS_BYTES = 80 << 20  # of a Ray of our own: shards and receipts are small
DEATHS = (
    exceptions.RayActorError,
    exceptions.NodeDiedError,
    exceptions.WorkerCrashedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
)


def run(job: Job, workers: int, address: str | None, gpus_per_worker: float) -> None:
    n_workers = min(workers, len(job.shards))
    with cluster(address, n_workers, gpus_per_worker), temporary(job.root) as mark:
        mark.touch()
        crew = _Crew(job, mark, gpus_per_worker)
        crew.run(n_workers)
    if crew.errors:
        raise crew.errors[0]


@contextmanager
def cluster(address: str | None, n_workers: int, gpus_per_worker: float) -> Iterator[None]:
    """Ray is up: the one there is, the cluster at `address`, or one that is gone afterwards."""
    with redirect_stdout(sys.stderr):  # where Ray tells of workers that died
        if ray.is_initialized():
            yield
            return
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
        ours: dict[str, Any] = {"num_cpus": n_workers, "object_store_memory": OBJECTS_BYTES, "include_dashboard": False}
        try:
            _connect(address, ours if address == "local" else {})
            if address == "local" and ray.cluster_resources().get("GPU", 0) < gpus_per_worker:
                raise UsageError("this machine has too few GPUs for a worker", fix="change --gpus-per-worker")
            yield
        finally:
            ray.shutdown()


def _connect(address: str, ours: dict[str, Any]) -> None:
    try:
        if found := re.fullmatch(r"([^/]+):([0-9]+)", address):  # Ray itself would look for minutes
            socket.create_connection((found[1], int(found[2])), KNOCK_S).close()
        ray.init(address, log_to_driver=True, logging_level=logging.ERROR, **ours)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        told = " ".join(str(error).split())[:300]
        fix = "see that `ray status` works here, with the cluster's token where it has one; or leave out --ray-address"
        raise FoveaError(f"no Ray cluster to work with: {told}", where=address, fix=fix) from error


@dataclass
class _Actor:
    handle: Any
    is_ready: bool = False
    is_dead: bool = False
    suspect: int | None = None  # a shard it is alone with
    calls: dict[Any, int | None] = field(default_factory=dict)  # ObjectRef -> shard, None while setting up


class _Crew:
    """The loop: at most two calls per slot in flight, suspects alone in an actor, no new call after an error."""

    def __init__(self, job: Job, mark: Path, gpus_per_worker: float) -> None:
        self.job, self.n_slots = job, shards_at_once(job.stage)
        self.kind = ray.remote(num_cpus=1, num_gpus=gpus_per_worker, max_concurrency=self.n_slots)(RayWorker)
        shared = mark if Folder.of(job.root).url is None else None
        builder = Builder(socket.gethostname(), str(Path.cwd()), shared, code_digest())
        self.setting = (builder, ray.put(job.stage))
        self.root, self.mark = ray.put(job.root), mark
        self.actors: list[_Actor] = []
        self.waiting, self.suspects = deque(job.remaining), deque[int]()
        self.kills, self.n_stillborn = Counter[int](), 0
        self.errors: list[Exception] = []

    def run(self, n_workers: int) -> None:
        try:
            self._place(n_workers)
            while not self._is_over:
                refs = {ref: actor for actor in self.actors for ref in actor.calls}
                for ref in ray.wait(list(refs), num_returns=1)[0]:
                    self._take(refs[ref], ref)
                for actor in self.actors:
                    self._feed(actor)
        finally:
            for actor in self.actors:
                ray.kill(actor.handle)

    def _place(self, n_workers: int) -> None:
        """Hire all; FoveaError when none of them finds a place."""
        placed = [self._hire() for _ in range(n_workers)]
        if not ray.wait(placed, timeout=PLACED_S)[0]:
            raise FoveaError(
                f"no worker found a place in the Ray cluster within {PLACED_S} s",
                where=str(ray.cluster_resources()),
                fix="a worker needs one free CPU and the GPUs of --gpus-per-worker",
            )

    def _hire(self) -> Any:
        """Ask for one more actor; what is ready when it has its place."""
        self.mark.touch()  # a long build may have outlived it
        actor = _Actor(self.kind.remote())
        self.actors.append(actor)
        placed = actor.handle.is_placed.remote()
        actor.calls[actor.handle.set_up.remote(*self.setting)] = None
        return placed

    @property
    def _is_over(self) -> bool:
        is_running = any(index is not None for actor in self.actors for index in actor.calls.values())
        return not is_running and (self._is_stopping or not (self.waiting or self.suspects))

    @property
    def _is_stopping(self) -> bool:
        return bool(self.errors) or self.job.is_hopeless

    def _take(self, actor: _Actor, ref: Any) -> None:
        index = actor.calls.pop(ref)
        try:
            result = ray.get(ref)
        except DEATHS as death:
            self._bury(actor, index, death)
        except Exception as error:  # a bug: raised with its traceback when the others are done
            self.errors.append(error)
        else:
            if isinstance(result, FoveaError):
                self.errors.append(result)
            elif index is None:
                actor.is_ready, self.n_stillborn = True, 0
            else:
                self.job.finish(index, result)
            actor.suspect = None

    def _bury(self, actor: _Actor, index: int | None, death: Exception) -> None:
        """Replace a dead actor; each of its calls comes here by itself, and its shard becomes a suspect."""
        if index is None:
            self._mourn(death)
        elif actor.suspect != index:
            self.suspects.append(index)
        else:
            self.kills[index] += 1
            (self.job.poisoned if self.kills[index] >= engine_job.ATTEMPTS else self.suspects).append(index)
        if not actor.is_dead:
            actor.is_dead = True
            ray.kill(actor.handle)  # it may be only out of sight
            if not self._is_stopping:
                self._hire()
        self.actors = [one for one in self.actors if one.calls or not one.is_dead]

    def _mourn(self, death: Exception) -> None:
        """An actor died before its first shard: no shard is to blame."""
        self.n_stillborn += 1
        if isinstance(death, exceptions.ActorDiedError) and death.actor_init_failed:
            self.errors.append(FoveaError("a worker cannot start", where=str(death).strip()[-300:], fix=SAME))
        elif self.n_stillborn >= engine_job.ATTEMPTS:
            self.errors.append(stillborn(self.job.stage, self.n_stillborn))

    def _feed(self, actor: _Actor) -> None:
        """Suspects first and each alone, then whatever waits, up to two calls per slot."""
        if not actor.is_ready or actor.is_dead or self._is_stopping or actor.suspect is not None:
            return
        if self.suspects and not actor.calls:
            actor.suspect = self.suspects.popleft()
            self._begin(actor, actor.suspect)
            return
        while self.waiting and len(actor.calls) < 2 * self.n_slots:
            self._begin(actor, self.waiting.popleft())

    def _begin(self, actor: _Actor, index: int) -> None:
        actor.calls[actor.handle.run.remote(self.root, self.job.shards[index])] = index
