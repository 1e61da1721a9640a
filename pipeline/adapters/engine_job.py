"""What a build still has to run: the receipts so far, the shards set aside as poison, and the verdict at the end.

The engines share this bookkeeping and nothing else. A shard that takes its worker with it is tried again alone; after
`ATTEMPTS` such deaths it is set aside, the others are finished, and then the error names it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from pipeline.adapters.work import Receipt, Shard, Stage
from schemas.errors import FoveaError

ATTEMPTS = 3
POISONED_MAX = 3  # when more shards than this kill their worker, it is the machine
Progress = Callable[[Receipt, Shard], None]


@dataclass
class Job:
    """`root` is the store as `run_shard` takes it; engines hand it on unread. `finish` may be called by any thread."""

    root: Any
    stage: Stage
    shards: Sequence[Shard]
    done: Progress
    receipts: dict[int, Receipt] = field(default_factory=dict)
    poisoned: list[int] = field(default_factory=list)
    _lock: Any = field(default_factory=Lock)

    def finish(self, index: int, receipt: Receipt) -> None:
        with self._lock:
            self.receipts[index] = receipt
            self.done(receipt, self.shards[index])

    @property
    def remaining(self) -> list[int]:
        return [index for index in range(len(self.shards)) if index not in self.receipts and index not in self.poisoned]

    @property
    def is_hopeless(self) -> bool:
        return len(self.poisoned) > POISONED_MAX

    def verdict(self) -> list[Receipt]:
        """Receipts in the order of the plan; FoveaError when a shard was set aside."""
        if self.poisoned:
            names = ", ".join(self.shards[index].key for index in sorted(self.poisoned))
            raise FoveaError(
                f"shard {names} killed its worker {ATTEMPTS} times",
                where=f"stage {self.stage.name}",
                fix=f"look for lack of memory or a crashing image; the {len(self.receipts)} finished shards are kept",
            )
        return [self.receipts[index] for index in range(len(self.shards))]


def stillborn(stage: Stage, n: int) -> FoveaError:
    """No shard is to blame."""
    return FoveaError(
        f"a worker died {n} times before its first shard",
        where=f"stage {stage.name}",
        fix="look for lack of memory, of the machine or its GPU, while the expert is loaded",
    )


def shards_at_once(stage: Stage) -> int:
    """How many shards a worker runs at a time, in threads that share its state; for stages that mostly wait."""
    return max(1, getattr(stage, "shards_at_once", 1))
