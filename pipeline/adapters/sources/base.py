"""What a source data set gives: a plan of shards, a digest of each, and its records.

A source never repairs in silence: a row is read, or it becomes a `Reject` with its reason, so that
rows in = questions kept + rejects. Images nobody asks about are kept too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from schemas.records import Finding, Image, Question, Reject

T = TypeVar("T")
SHARD_IMAGES = 64  # images per work shard: seconds of work, a few megabytes


@dataclass(frozen=True, slots=True)
class SourceShard:
    """A run of images with all their rows; `payload` is whatever the source needs to read them again.

    `moved` are (question id, split) of rows that go to another split than their source's.
    """

    key: str
    payload: tuple[Any, ...]
    moved: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SourceRows:
    images: list[Image] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


class Source(Protocol):
    """Sources are small frozen records: they cross process borders and their `config` enters fingerprints."""

    name: str
    revision: int
    licence: str

    def config(self) -> dict[str, Any]:
        """All settings that change the records; never a path."""

    def plan(self) -> list[SourceShard]:
        """All shards, in an order that depends on the data alone; growth appends."""

    def digest(self, shard: SourceShard) -> str:
        """sha256 over everything `read` would use of this shard."""

    def read(self, shard: SourceShard) -> SourceRows: ...


def runs(items: Sequence[T], size: int = SHARD_IMAGES) -> Iterator[Sequence[T]]:
    """Consecutive runs of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
