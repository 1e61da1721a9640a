"""A search as a coroutine: it yields what it wants to know, is sent what was recorded, and returns where it went.

Whoever drives a walk decides how questions are batched and remembered; a walk sees its own answers only, so
nothing else in a batch can change it.
"""

from collections.abc import Generator, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

from pipeline.core.cvs import Choose
from pipeline.core.grn import Aim, Fork, State, Stop, advance, ahead, aimed
from schemas.experts import Query, Scan, Seen
from schemas.records import KnownRegion, Rule, Step

K = TypeVar("K", bound=Hashable)


class Reply(NamedTuple):
    """A recorded answer and the name it is recorded under."""

    call_id: str
    seen: Seen


@dataclass(frozen=True)
class Walked:
    """A finished search."""

    regions: tuple[KnownRegion, ...]
    steps: tuple[Step, ...]
    stop_reason: str
    fallback: str | None = None

    @cached_property
    def path(self) -> tuple[tuple[int | None, str], ...]:
        """(region, mode) of every step: two variants with one path are duplicates."""
        return tuple([(step.region, step.mode) for step in self.steps])

    @cached_property
    def is_certain(self) -> bool:
        """Whether every nucleus held one region, so that no draw could have changed the path."""
        return all(len(step.nucleus) <= 1 for step in self.steps)


Walk = Generator[Query | None, Reply | None, Walked]
"""None is a move whose reply is known: it takes a round as any other, so that no round depends on what is known."""


class Place:
    """A state of the machine, with the moves that walks have made from it and the places these have led to.

    Walks of one search that come the same way meet in one place, so that nothing is worked out twice. All that begin
    at a place follow its rule and are sent one and the same reply to a query.
    """

    __slots__ = ("_after", "_ahead", "_aims", "_end", "rule", "state")

    def __init__(self, state: State, rule: Rule) -> None:
        self.state, self.rule = state, rule
        self._ahead = ahead(state, rule)
        self._aims: dict[int, Aim] = {}
        self._after: dict[int | None, Place] = {}
        self._end: Walked | None = None

    def move(self, choose: Choose) -> Scan | Aim | Stop:
        """As `next_query`; a choice of one region here is always the same choice."""
        if not isinstance(self._ahead, Fork):
            return self._ahead
        choice = choose(*self._ahead)
        if (aim := self._aims.get(choice.region)) is None:
            aim = self._aims[choice.region] = aimed(self.state, choice)
        return aim

    def knows(self, move: Scan | Aim) -> bool:
        return _key(move) in self._after

    def after(self, move: Scan | Aim, reply: Reply | None) -> "Place":
        """Where the move leads; the reply counts the first time only."""
        key = _key(move)
        if (place := self._after.get(key)) is None:
            assert reply is not None
            state = advance(self.state, move, reply.seen, self.rule, reply.call_id)
            place = self._after[key] = Place(state, self.rule)
        return place

    def end(self, stop: Stop) -> Walked:
        if self._end is None:
            self._end = ended(self.state, stop)
        return self._end


def _key(move: Scan | Aim) -> int | None:
    """A place has at most one scan ahead, or looks at different regions."""
    return move.region if isinstance(move, Aim) else None


def navigate(place: Place, choose: Choose) -> Walk:
    """The GRN machine, driven from `place` to its stop."""
    while not isinstance(move := place.move(choose), Stop):
        query = move.drill if isinstance(move, Aim) else move
        place = place.after(move, (yield None if place.knows(move) else query))
    return place.end(move)


def ended(state: State, stop: Stop) -> Walked:
    return Walked(state.regions, state.steps, stop.reason, state.fallback)


def together(
    walks: Mapping[K, Walk], known: dict[Query, Reply]
) -> Generator[frozenset[Query], Mapping[Query, Reply], dict[K, Walked]]:
    """All walks in lock-step: each round yields the distinct queries they wait for and is sent a reply to each.

    What is `known` is not yielded again, and a round that needs nothing else is not yielded at all. `known` grows.
    """
    wanted: dict[K, Query | None] = {}
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
        asked = {query for query in wanted.values() if query is not None}
        if new := frozenset(asked - known.keys()):
            known.update((yield new))
        for key, query in list(wanted.items()):
            step(key, None if query is None else known[query])
    return done
