"""Searches of a batch of questions in lock-step, with each distinct call made once.

Every round collects what all searches wait for, has the expert answer it in order of call id, and remembers it for
the whole batch; where that takes too many images at once, in several goes. A search is sent what was *recorded* of
its own calls and nothing else, so the batch it runs in never matters. Nothing here reads or writes a store, retries,
or answers for an expert that failed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.core.admission import admit
from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem, hunt
from pipeline.core.walks import Reply
from schemas.errors import ExpertError
from schemas.experts import Ask, Candidate, Drill, Expert, Failure, Query, Seen, call_id
from schemas.records import ExpertCall, Reject, Trajectory

STAGE = "trajectories"
PIXELS_AT_ONCE = 1 << 26  # of distinct images that an expert is handed in one go: 64 MB of grey, 256 MB of colour


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Trajectories in the order of the items (GRN, CVS by variant, ablations); calls by (question, call id)."""

    trajectories: tuple[Trajectory, ...]
    calls: tuple[ExpertCall, ...]
    rejects: tuple[Reject, ...]


def search(
    items: Sequence[SearchItem],
    expert: Expert,
    config: SearchConfig,
    *,
    source: str,
    seed: int,
    shard: str = "",
    stage: str = STAGE,
) -> SearchResult:
    """Every item becomes trajectories or one reject: one failed call rejects its question only, with its reason."""
    desk = _Desk(expert)
    hunts = [hunt(item, expert.identity, config, source, seed) for item in items]
    wanted = {index: next(each) for index, each in enumerate(hunts)}  # every search begins with scans
    found: dict[int, tuple[Trajectory, ...]] = {}
    rejects: dict[int, Reject] = {}
    while wanted:
        waiting = {index: desk.named(items[index], queries) for index, queries in wanted.items()}
        desk.ask(call for calls in waiting.values() for call in calls.values())
        wanted = {}
        for index, calls in waiting.items():
            if failure := desk.failure(calls.values()):
                row_key = items[index].question.question_id
                rejects[index] = Reject(stage, source, shard, row_key, failure.error_class, failure.message)
                continue
            try:
                wanted[index] = hunts[index].send({query: desk.reply(call) for query, call in calls.items()})
            except StopIteration as end:
                found[index] = end.value
    trajectories = (each for index in sorted(found) for each in found[index])
    return SearchResult(tuple(trajectories), desk.recorded(), tuple(rejects[index] for index in sorted(rejects)))


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
    """Where calls are made, once each, and remembered."""

    expert: Expert
    calls: dict[str, ExpertCall] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)

    def named(self, item: SearchItem, queries: Iterable[Query]) -> Mapping[Query, _Call]:
        identity, question_id = self.expert.identity.id, item.question.question_id
        ids = [image.image_id for image in item.images]
        names = {query: call_id(identity, question_id, ids[query.image], query) for query in queries}
        return {query: _Call(name, item, query) for query, name in names.items()}

    def ask(self, calls: Iterable[_Call]) -> None:
        """Has the expert answer what is not known yet; of an image that a question has twice, the first is shown."""
        new: dict[str, _Call] = {}
        for call in sorted(calls, key=lambda call: (call.name, call.query.image)):
            if call.name not in self.calls:
                new.setdefault(call.name, call)
        for batch in _batches(new.values()):
            self._ask(batch)

    def _ask(self, order: Sequence[_Call]) -> None:
        asks = [Ask(call.item.question, call.image.image_id, call.image.decoded(), call.query) for call in order]
        answers = self.expert.answer(asks)
        if len(answers) != len(asks):
            what = f"expert {self.expert.identity.id} gave {len(answers)} answers to {len(asks)} asks"
            raise ExpertError(what, fix="an expert answers every ask, in order; a Failure is an answer")
        for call, answer in zip(order, answers, strict=True):
            self.record(call, answer)

    def record(self, call: _Call, answer: Seen | Failure) -> None:
        is_drill, failed = isinstance(call.query, Drill), isinstance(answer, Failure)
        if failed:
            self.failures[call.name] = answer
        told = () if failed else admit(call.query, answer, call.image.size)
        self.calls[call.name] = ExpertCall(
            call_id=call.name,
            question_id=call.item.question.question_id,
            image_id=call.image.image_id,
            expert=self.expert.identity.id,
            mode="drill" if is_drill else "scan",
            round=call.query.round if is_drill else 0,
            box_xyxy_px=call.query.box_xyxy_px if is_drill else None,
            look_xyxy_px=call.query.look_xyxy_px if is_drill else None,
            raw=answer.raw,
            text="" if failed else answer.text,
            candidates=tuple((each.box_xyxy_px, each.label, each.confidence) for each in told),
            error_class=answer.error_class if failed else None,
        )

    def failure(self, calls: Iterable[_Call]) -> Failure | None:
        """The failure with the smallest call id, which no other question and no order of asking can change."""
        failed = sorted(call.name for call in calls if call.name in self.failures)
        return self.failures[failed[0]] if failed else None

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
