"""Searches of a batch of questions in lock-step, with each distinct call made once.

Every round collects what all searches wait for, takes from the records what is known, has the expert answer the rest
in order of call id, and remembers it for the whole batch; where that takes too many images at once, in several goes. A
search is sent what was *recorded* of its own calls and nothing else, so neither the batch it runs in nor when a call
was made matters. Nothing here reads or writes a store, retries, or answers for an expert that failed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.core.admission import admit
from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem, hunt
from pipeline.core.walks import Reply
from schemas.errors import ExpertError
from schemas.experts import NOT_RECORDED, Ask, Candidate, Drill, Expert, Failure, Query, Seen, as_asked, call_id
from schemas.records import ExpertCall, Reject, Trajectory

STAGE = "trajectories"
PIXELS_AT_ONCE = 1 << 26  # of distinct images that an expert is handed in one go: 64 MB of grey, 256 MB of colour


class Records(Protocol):
    """Where calls outlive a search."""

    def known(self, names: Sequence[str]) -> Mapping[str, ExpertCall]:
        """What is recorded of these call ids."""

    def keep(self, calls: Sequence[ExpertCall]) -> None:
        """Told of every batch as soon as it is answered, failures among it."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Trajectories in the order of the items (GRN, CVS by variant, ablations); calls by (question, call id)."""

    trajectories: tuple[Trajectory, ...]
    calls: tuple[ExpertCall, ...]
    rejects: tuple[Reject, ...]
    n_asked: int = 0  # calls that the expert was asked
    n_known: int = 0  # calls that were recorded before


def search(
    items: Sequence[SearchItem],
    expert: Expert,
    config: SearchConfig,
    *,
    source: str,
    seed: int,
    shard: str = "",
    stage: str = STAGE,
    records: Records | None = None,
) -> SearchResult:
    """Every item becomes trajectories or one reject: one failed call rejects its question only, with its reason."""
    desk = _Desk(expert, records)
    asked = [as_asked(item.question, privileged=expert.identity.privileged) for item in items]
    hunts = [hunt(item, expert.identity, config, source, seed) for item in items]
    wanted = {index: next(each) for index, each in enumerate(hunts)}  # every search begins with scans
    found: dict[int, tuple[Trajectory, ...]] = {}
    rejects: dict[int, Reject] = {}
    while wanted:
        waiting = {index: desk.named(items[index], asked[index], queries) for index, queries in wanted.items()}
        desk.ask(call for calls in waiting.values() for call in calls.values())
        wanted = {}
        for index, calls in waiting.items():
            if reason := desk.failure(calls.values()):
                rejects[index] = Reject(stage, source, shard, items[index].question.question_id, *reason)
                continue
            try:
                wanted[index] = hunts[index].send({query: desk.reply(call) for query, call in calls.items()})
            except StopIteration as end:
                found[index] = end.value
    trajectories = (each for index in sorted(found) for each in found[index])
    told = tuple(rejects[index] for index in sorted(rejects))
    return SearchResult(tuple(trajectories), desk.recorded(), told, desk.n_asked, desk.n_known)


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    item: SearchItem
    query: Query

    @property
    def image(self) -> SearchImage:
        return self.item.images[self.query.image]


@dataclass
class _Desk:
    """Where calls are made, once each, and remembered; `missing` are those that a replay has no record of."""

    expert: Expert
    records: Records | None
    calls: dict[str, ExpertCall] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    n_asked: int = 0
    n_known: int = 0
    who: str = field(init=False)

    def __post_init__(self) -> None:
        self.who = self.expert.identity.id  # a hash each time, and every call names it

    def named(self, item: SearchItem, asked: str, queries: Iterable[Query]) -> Mapping[Query, _Call]:
        ids = [image.image_id for image in item.images]
        names = {query: call_id(self.who, asked, ids[query.image], query) for query in queries}
        return {query: _Call(name, item, query) for query, name in names.items()}

    def ask(self, calls: Iterable[_Call]) -> None:
        """Has the expert answer what is not known yet; of an image that a question has twice, the first is shown."""
        new: dict[str, _Call] = {}
        for call in sorted(calls, key=lambda call: (call.name, call.query.image)):
            if call.name not in self.calls:
                new.setdefault(call.name, call)
        if self.records is not None and new:
            known = self.records.known(list(new))
            self.calls |= known
            self.n_known += len(known)
            new = {name: call for name, call in new.items() if name not in known}
        for batch in _batches(new.values()):
            self._ask(batch)

    def _ask(self, order: Sequence[_Call]) -> None:
        asks = [Ask(call.item.question, call.image.image_id, self._shown(call.image), call.query) for call in order]
        answers = self.expert.answer(asks)
        if len(answers) != len(asks):
            what = f"expert {self.who} gave {len(answers)} answers to {len(asks)} asks"
            raise ExpertError(what, fix="an expert answers every ask, in order; a Failure is an answer")
        answered = [self._made(call, answer) for call, answer in zip(order, answers, strict=True)]
        calls = {call.call_id: call for call in answered if call.error_class != NOT_RECORDED}
        self.calls |= calls
        self.missing |= {call.call_id for call in answered} - calls.keys()
        self.n_asked += len(calls)
        if self.records is not None:
            self.records.keep(list(calls.values()))

    def _shown(self, image: SearchImage) -> Any:
        """Pixels, or None for an expert with `is_blind`: a replay looks at no image."""
        return None if getattr(self.expert, "is_blind", False) else image.decoded()

    def _made(self, call: _Call, answer: Seen | Failure) -> ExpertCall:
        is_drill, failed = isinstance(call.query, Drill), isinstance(answer, Failure)
        told = () if failed else admit(call.query, answer, call.image.size)
        return ExpertCall(
            call_id=call.name,
            question_id=call.item.question.question_id,
            image_id=call.image.image_id,
            expert=self.who,
            mode="drill" if is_drill else "scan",
            round=call.query.round if is_drill else 0,
            box_xyxy_px=call.query.box_xyxy_px if is_drill else None,
            look_xyxy_px=call.query.look_xyxy_px if is_drill else None,
            raw=answer.raw,
            text="" if failed else answer.text,
            candidates=tuple((each.box_xyxy_px, each.label, each.confidence) for each in told),
            error_class=answer.error_class if failed else None,
            message=answer.message if failed else None,
        )

    def failure(self, calls: Iterable[_Call]) -> tuple[str, str] | None:
        """Class and words of the smallest call id that failed, which no other question and no order of asking change.

        Where calls are missing, that is the reason, whatever the others were.
        """
        names = sorted(call.name for call in calls)
        if n_missing := len(self.missing.intersection(names)):
            return NOT_RECORDED, f"{n_missing} of the calls it needs next are not recorded"
        failed = [call for name in names if (call := self.calls[name]).error_class is not None]
        return (failed[0].error_class or "", failed[0].message or "") if failed else None

    def reply(self, call: _Call) -> Reply:
        recorded = self.calls[call.name]
        candidates = tuple(Candidate(*candidate) for candidate in recorded.candidates)
        return Reply(call.name, Seen(candidates, recorded.text, recorded.raw))

    def recorded(self) -> tuple[ExpertCall, ...]:
        return tuple(sorted(self.calls.values(), key=lambda call: (call.question_id, call.call_id)))


def _batches(calls: Iterable[_Call]) -> Iterator[list[_Call]]:
    """The calls by name, all at once unless their images are too many; then by image, as many as there is room for."""
    of_image: dict[str, list[_Call]] = {}
    for call in calls:
        of_image.setdefault(call.image.image_id, []).append(call)
    batch: list[_Call] = []
    n_pixels = 0
    for image_id in sorted(of_image):
        width, height = of_image[image_id][0].image.size
        if batch and n_pixels + width * height > PIXELS_AT_ONCE:
            yield sorted(batch, key=lambda call: call.name)
            batch, n_pixels = [], 0
        batch += of_image[image_id]
        n_pixels += width * height
    if batch:
        yield sorted(batch, key=lambda call: call.name)
