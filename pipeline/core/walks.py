"""A search as a coroutine: it yields what it wants to know, is sent what was recorded, and returns where it went.

Whoever drives a walk decides how questions are batched and remembered; a walk sees its own answers only, so
nothing else in a batch can change it.
"""

from collections.abc import Generator, Hashable, Mapping
from typing import NamedTuple, TypeVar

from pipeline.core.cvs import Choose
from pipeline.core.grn import Aim, State, Stop, advance, next_query
from schemas.experts import Query, Seen
from schemas.records import KnownRegion, Rule, Step

K = TypeVar("K", bound=Hashable)


class Reply(NamedTuple):
    """A recorded answer and the name it is recorded under."""

    call_id: str
    seen: Seen


class Walked(NamedTuple):
    """A finished search."""

    regions: tuple[KnownRegion, ...]
    steps: tuple[Step, ...]
    stop_reason: str
    fallback: str | None = None

    @property
    def path(self) -> tuple[tuple[int | None, str], ...]:
        """(region, mode) of every step: two variants with one path are duplicates."""
        return tuple((step.region, step.mode) for step in self.steps)


Walk = Generator[Query, Reply, Walked]


def navigate(state: State, choose: Choose, rule: Rule) -> Walk:
    """The GRN machine, driven from `state` to its stop."""
    while not isinstance(move := next_query(state, choose, rule), Stop):
        reply = yield move.drill if isinstance(move, Aim) else move
        state = advance(state, move, reply.seen, rule, reply.call_id)
    return ended(state, move)


def ended(state: State, stop: Stop) -> Walked:
    return Walked(state.regions, state.steps, stop.reason, state.fallback)


def together(
    walks: Mapping[K, Walk],
) -> Generator[frozenset[Query], Mapping[Query, Reply], dict[K, Walked]]:
    """All walks in lock-step: each round yields the distinct queries they wait for and is sent a reply to each."""
    wanted: dict[K, Query] = {}
    done: dict[K, Walked] = {}

    def step(key: K, reply: Reply | None) -> None:
        try:
            wanted[key] = walks[key].send(reply)
        except StopIteration as end:
            wanted.pop(key, None)
            done[key] = end.value

    for key in walks:
        step(key, None)
    while wanted:
        replies = yield frozenset(wanted.values())
        for key, query in list(wanted.items()):
            step(key, replies[query])
    return done
