"""A batch that does not fit in memory is halved and tried again, down to a single item, which is then given up.

Nothing is remembered from one call to the next: what a call does depends on its items alone. It moves nothing between
devices and knows no model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from schemas.experts import Failure

A = TypeVar("A")
B = TypeVar("B")

SAID_SO = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")  # of CUDA, CPU and cuBLAS


@dataclass
class Halving:
    """`free` is called after each failure, when what the failed batch held can be let go. `n` counts the halvings."""

    free: Callable[[], object] = lambda: None
    n: int = 0

    def each(self, work: Callable[[Sequence[A]], Sequence[B]], items: Sequence[A], at_once: int) -> list[B | Failure]:
        """`work` on batches of at most `at_once` items; results in order, `out_of_memory` for an item too large alone.

        After a halving the batches stay small, unless it was one item's fault: that says nothing about the others.
        """
        done: list[B | Failure] = []
        size = at_once
        while len(done) < len(items):
            batch = items[len(done) : len(done) + size]
            if (made := self._made(work, batch)) is not None:
                done += made
            elif len(batch) > 1:
                size = len(batch) // 2
                self.n += 1
            else:
                done.append(Failure("out_of_memory", "this alone does not fit in memory"))
                size = at_once
        return done

    def _made(self, work: Callable[[Sequence[A]], Sequence[B]], batch: Sequence[A]) -> Sequence[B] | None:
        """None where memory ran out; by then the error is gone, and with it the frames that held the batch."""
        try:
            return work(batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        self.free()
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """MemoryError, torch's own error, or the words that torch uses where it raises a plain RuntimeError."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"MemoryError", "OutOfMemoryError"}:
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in SAID_SO)
