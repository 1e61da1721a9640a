"""Stages for tests that cross process borders: each shard is a few rejects, some shards misbehave."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
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
    """Takes its worker with it on negative numbers, for ever, or once where `once` names a file it can make."""

    once: Path | None = None

    def process(self, state: None, shard: Shard) -> Output:
        if min(shard.payload) < 0 and (self.once is None or not self.once.exists()):
            if self.once is not None:
                self.once.touch()
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


def shards(n: int, each: int = 3) -> list[Shard]:
    """n shards of `each` numbers."""
    return [Shard(f"s{index}", each, tuple(range(index * each, (index + 1) * each))) for index in range(n)]
