"""Stages for tests that cross process borders: each shard is a few rejects, some shards misbehave."""

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

from pipeline.adapters.work import Output, Shard
from schemas.errors import InputError
from schemas.manifest import sha256_of
from schemas.records import Reject
from schemas.rows import to_table

SPLIT = "pool"


@dataclass(frozen=True, slots=True)
class Numbers:
    """One reject per number of the payload; `salt` stands for the config."""

    salt: str = ""
    name: str = "numbers"
    revision: int = 1
    tables: tuple[str, ...] = ("rejects",)

    def identity(self) -> Mapping[str, Any]:
        return {"salt": self.salt}

    def setup(self) -> None:
        return None

    def digest(self, state: None, shard: Shard) -> str:
        return sha256_of(list(shard.payload))

    def process(self, state: None, shard: Shard) -> Output:
        rows = [Reject(self.name, "test", shard.key, str(number), "Number", self.salt) for number in shard.payload]
        return {("rejects", SPLIT): to_table("rejects", rows)}


@dataclass(frozen=True, slots=True)
class Deadly(Numbers):
    """Takes its worker with it on negative numbers for ever, but on -100 only until there is the file `once`."""

    once: Path | None = None

    def process(self, state: None, shard: Shard) -> Output:
        if min(shard.payload) == -100 and self.once is not None and not self.once.exists():
            self.once.touch()
            os._exit(9)
        if -100 < min(shard.payload) < 0:
            os._exit(9)
        return Numbers.process(self, state, shard)


@dataclass(frozen=True, slots=True)
class Refusing(Numbers):
    """Takes its time over zero, and cannot read negative numbers."""

    def process(self, state: None, shard: Shard) -> Output:
        if 0 in shard.payload:
            time.sleep(1)
        if min(shard.payload) < 0:
            raise InputError("number is negative", where=shard.key, fix="count up")
        return Numbers.process(self, state, shard)


@dataclass(frozen=True, slots=True)
class Waiting(Numbers):
    """Says so in a pipe and then waits: who reads the pipe learns when the worker is gone."""

    pipe: Path = Path()

    def process(self, state: None, shard: Shard) -> Output:
        with self.pipe.open("wb", buffering=0) as told:
            told.write(b"x")
            time.sleep(300)
        return Numbers.process(self, state, shard)


@dataclass(frozen=True, slots=True)
class Together(Numbers):
    """The first two shards of three numbers are done only while both are under way with the same state."""

    shards_at_once: int = 2

    def setup(self) -> Barrier:
        return Barrier(2, timeout=20)

    def process(self, state: Barrier, shard: Shard) -> Output:
        if max(shard.payload) < 6:
            state.wait()
        return Numbers.process(self, None, shard)


@dataclass(frozen=True, slots=True)
class RefusingInThreads(Refusing):
    shards_at_once: int = 2


@dataclass(frozen=True, slots=True)
class DeadlyInThreads(Deadly):
    shards_at_once: int = 2


@dataclass(frozen=True, slots=True)
class WaitingInThreads(Waiting):
    shards_at_once: int = 2


@dataclass(frozen=True, slots=True)
class Signed(Numbers):
    """Leaves the id of its process before a shard, and waits over zero until somebody kills it for the first time."""

    pids: Path = Path()

    def process(self, state: None, shard: Shard) -> Output:
        is_first = not self.pids.exists()
        if 0 in shard.payload and is_first:
            self.pids.write_text(str(os.getpid()))
            time.sleep(300)
        return Numbers.process(self, state, shard)


@dataclass(frozen=True, slots=True)
class Counting(Numbers):
    """Leaves a mark for every time it is set up."""

    marks: Path = Path()

    def setup(self) -> None:
        with self.marks.open("a") as file:
            file.write("x")


@dataclass(frozen=True, slots=True)
class Broken(Numbers):
    """Has a bug."""

    def process(self, state: None, shard: Shard) -> Output:
        raise ZeroDivisionError("nobody caught this")


class Unsendable(Exception):
    """Pickles, and cannot be made again from that."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} in {where}")


@dataclass(frozen=True, slots=True)
class BrokenAbroad(Numbers):
    """Has a bug whose error cannot cross to another process."""

    def process(self, state: None, shard: Shard) -> Output:
        raise Unsendable("a bug", "a library")


@dataclass(frozen=True, slots=True)
class Stillborn(Numbers):
    """No worker lives long enough for a shard."""

    def setup(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def shards(n: int, each: int = 3) -> list[Shard]:
    """n shards of `each` numbers."""
    return [Shard(f"s{index}", each, tuple(range(index * each, (index + 1) * each))) for index in range(n)]
