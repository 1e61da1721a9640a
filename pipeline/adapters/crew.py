"""Many waits at once: a function over items by daemon threads, results in order, the first error at once.

For work that waits on a network; threads that still wait when an error ends the rest are left behind and die with the
process, which a pool of the standard library would wait for.
"""

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


def in_order(work: Callable[[A], B], items: Sequence[A], n_threads: int) -> list[B]:
    """`work` of every item, begun in order, at most `n_threads` at a time; an error ends what has not begun."""
    waiting: SimpleQueue[tuple[int, A]] = SimpleQueue()
    done: SimpleQueue[tuple[int, B | None, BaseException | None]] = SimpleQueue()
    for numbered in enumerate(items):
        waiting.put(numbered)

    def labour() -> None:
        while True:
            try:
                index, item = waiting.get_nowait()
            except Empty:
                return
            try:
                done.put((index, work(item), None))
            except BaseException as error:  # handed to the caller, whatever it is
                done.put((index, None, error))

    for _ in range(min(n_threads, len(items))):
        Thread(target=labour, daemon=True).start()
    results: dict[int, B | None] = {}
    try:
        while len(results) < len(items):
            index, result, error = done.get()
            if error is not None:
                raise error
            results[index] = result
    finally:
        _drain(waiting)
    return [results[index] for index in range(len(items))]  # type: ignore[misc]


class Once(Generic[B]):
    """A value that the first thread to want it makes, while the others wait."""

    def __init__(self, make: Callable[[], B]) -> None:
        self._make, self._lock, self._made = make, Lock(), list[B]()

    def __call__(self) -> B:
        with self._lock:
            if not self._made:
                self._made.append(self._make())
        return self._made[0]


def _drain(waiting: SimpleQueue[tuple[int, A]]) -> None:
    while True:
        try:
            waiting.get_nowait()
        except Empty:
            return
