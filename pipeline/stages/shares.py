"""A share of a build's shards: what one task of an array job does, and how a build knows that it is one.

Inside `only(share)` a build runs its share and ends with `ShareDone` instead of packing and committing. Shares are
taken of the plan, which depends on the data alone, so that tasks need not know of each other.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from pipeline.adapters.work import Receipt, Shard
from schemas.errors import UsageError

TEXT = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Share:
    """Shards `index`, `index` + `count`, … of a plan; an index counts modulo `count`, so that arrays may begin at 1."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError("there are no shares of none", fix="INDEX/COUNT, for example 0/8")

    def of(self, shards: Sequence[Shard]) -> Sequence[Shard]:
        return shards[self.index % self.count :: self.count]

    def __str__(self) -> str:
        return f"{self.index % self.count}/{self.count}"


class ShareDone(Exception):
    """How a build ends that was asked for a share only: no error, and only inside `only`."""

    def __init__(self, receipts: Sequence[Receipt]) -> None:
        self.n_shards, self.n_reused = len(receipts), sum(receipt.is_reused for receipt in receipts)
        super().__init__(f"{self.n_shards} shards")


_asked: ContextVar[Share | None] = ContextVar("share", default=None)


def asked_share() -> Share | None:
    """What the build is asked for; None is all, packed and committed."""
    return _asked.get()


@contextmanager
def only(share: Share) -> Iterator[None]:
    token = _asked.set(share)
    try:
        yield
    finally:
        _asked.reset(token)


def share_from_text(text: str) -> Share:
    """INDEX/COUNT."""
    if (found := TEXT.fullmatch(text)) is None:
        raise UsageError(f"{text!a} is not INDEX/COUNT", fix="for example 0/8, or leave it out in an array job")
    return Share(int(found[1]), int(found[2]))


def share_from_environment(environ: Mapping[str, str] = os.environ) -> Share:
    """What Slurm or AWS Batch says of this task of an array; UsageError where neither does."""
    if slurm := _numbers(environ, "SLURM_ARRAY_TASK_", ("ID", "MIN", "STEP", "COUNT")):
        task, first, step, count = slurm
        index, rest = divmod(task - first, step or 1)
        if rest or index >= count:
            what = "the task ids of this Slurm array have gaps, so that shares would be missing"
            raise UsageError(what, fix="name the share: INDEX/COUNT before --")
        return Share(index, count)
    if batch := _numbers(environ, "AWS_BATCH_JOB_ARRAY_", ("INDEX", "SIZE")):
        return Share(*batch)
    raise UsageError("which share? this is no task of a Slurm or AWS Batch array", fix="INDEX/COUNT before --, as 0/8")


def _numbers(environ: Mapping[str, str], prefix: str, names: Sequence[str]) -> list[int] | None:
    """All of these variables, or None; a Slurm array that gives no step has step 1."""
    words = [environ.get(prefix + name, "1" if name == "STEP" else "") for name in names]
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else None
