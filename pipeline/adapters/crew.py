"""Many waits at once: a function over items by daemon threads, results in order, the first error at once.

For work that waits on a network. One crew may work for several callers: each is served in turn, and all together have
no more threads than the crew. Threads end when nothing waits; those that still work when an error ends the rest are
left behind and die with the process, which a pool of the standard library would wait for.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any, Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


@dataclass(slots=True, eq=False)
class _Job:
    """What one caller wants done; it is woken once, by the last result or the first error."""

    work: Callable[[Any], Any]
    waiting: deque[tuple[int, Any]]
    n_left: int
    results: dict[int, Any] = field(default_factory=dict)
    error: BaseException | None = None
    over: Event = field(default_factory=Event)

    def end(self, error: BaseException) -> None:
        self.error = self.error or error
        self.waiting.clear()
        self.over.set()


class Crew:
    """At most `n_threads` threads at work, whoever asks."""

    def __init__(self, n_threads: int) -> None:
        self._n_threads, self._n_working = n_threads, 0
        self._lock, self._in_turn, self._open = Lock(), deque[_Job](), set[_Job]()

    def in_order(self, work: Callable[[A], B], items: Sequence[A]) -> list[B]:
        """`work` of every item, begun in order; an error ends what this caller has not begun."""
        if not items:
            return []
        job = _Job(work, deque(enumerate(items)), len(items))
        with self._lock:
            self._in_turn.append(job)
            self._open.add(job)
        try:
            self._call_up(len(items))
            job.over.wait()
        finally:
            with self._lock:
                job.waiting.clear()
                self._open.discard(job)
        if job.error is not None:
            raise job.error
        return [job.results[index] for index in range(len(items))]

    def stop(self, error: BaseException) -> None:
        """Every caller gets the error at once, whatever is still being done for it."""
        with self._lock:
            for job in self._open:
                job.end(error)

    def _call_up(self, n_wanted: int) -> None:
        with self._lock:
            for _ in range(min(n_wanted, self._n_threads - self._n_working)):
                Thread(target=self._labour, daemon=True).start()
                self._n_working += 1

    def _labour(self) -> None:
        while (taken := self._next()) is not None:
            self._do(*taken)
            del taken  # an idle thread keeps nothing

    def _do(self, job: _Job, index: int, item: Any) -> None:
        try:
            result = job.work(item)
        except BaseException as error:  # handed to the caller, whatever it is
            with self._lock:
                job.end(error)
            return
        with self._lock:
            job.results[index] = result
            job.n_left -= 1
            if not job.n_left:
                job.over.set()

    def _next(self) -> tuple[_Job, int, Any] | None:
        """The next item of the caller whose turn it is; None, and one thread fewer, when nothing waits."""
        with self._lock:
            while self._in_turn:
                job = self._in_turn.popleft()
                if job.waiting:
                    self._in_turn.append(job)
                    return job, *job.waiting.popleft()
            self._n_working -= 1
            return None


def in_order(work: Callable[[A], B], items: Sequence[A], n_threads: int) -> list[B]:
    """`work` of every item by a crew of its own."""
    return Crew(n_threads).in_order(work, items)


class Once(Generic[B]):
    """A value that the first thread to want it makes, while the others wait; an error is theirs too.

    After `n_uses` calls it is forgotten: what is shared by so many need not be kept for the others to end.
    """

    def __init__(self, make: Callable[[], B], n_uses: int | None = None) -> None:
        self._make, self._lock, self._left = make, Lock(), n_uses
        self._made: list[B] = []
        self._error: BaseException | None = None

    def __call__(self) -> B:
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._made:
                self._made.append(self._try())
            made = self._made[0]
            if self._left is not None:
                self._left -= 1
                if self._left <= 0:
                    self._made.clear()
        return made

    def _try(self) -> B:
        try:
            return self._make()
        except BaseException as error:
            self._error = error
            raise
