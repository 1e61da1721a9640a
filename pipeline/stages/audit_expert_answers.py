"""An expert's answers to some questions: asked for now, or taken from the recorded calls of a slice.

Asking goes through the search itself, so that answers are admitted, batched and kept as in a build: each image is
scanned, and each of the surest regions drilled once. What is known of a costly expert is not asked again. No answer is
made up: a question with a failed scan is counted and measured nowhere.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.adapters.call_cache import CallCache
from pipeline.adapters.decoding import Decoder
from pipeline.core.cvs import SamplerConfig
from pipeline.core.detection import Found, Scanned
from pipeline.core.expert_measures import TRUE_IOU, Drilled
from pipeline.core.grn import NavigatorConfig
from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem
from pipeline.core.search import search
from pipeline.stages.audit_expert_targets import Sizes, Target
from pipeline.stages.progress import note, progress
from schemas.errors import StoreError
from schemas.experts import Ask, Expert, ExpertIdentity, Failure, Seen
from schemas.manifest import Slice
from schemas.reader import Snapshot, Store
from schemas.records import ExpertCall
from schemas.rows import from_table

QUESTIONS_AT_ONCE = 64
NEVER = 1e9  # no gain is as large: one drill a region


@dataclass(frozen=True, slots=True)
class Answers:
    """`usage` is what the expert counts (requests, tokens, cost), `seconds` the time spent in it; None if not known.

    Both are of the calls that were asked now: all but `n_known`.
    """

    expert: str
    privileged: bool
    calls: tuple[ExpertCall, ...]
    seconds: float | None = None
    usage: Mapping[str, Any] | None = None
    n_known: int = 0


@dataclass
class _Timed:
    """The expert, and how long it took."""

    expert: Expert
    seconds: float = 0.0

    @property
    def identity(self) -> ExpertIdentity:
        return self.expert.identity

    def answer(self, asks: Sequence[Ask]) -> list[Seen | Failure]:
        start = time.perf_counter()
        try:
            return self.expert.answer(asks)
        finally:
            self.seconds += time.perf_counter() - start


@dataclass
class _Kept:
    """Answers kept in a store, as a search wants them; of one that cannot be written, what it knows is used."""

    cache: CallCache
    may_keep: bool = True

    def known(self, names: Sequence[str]) -> Mapping[str, ExpertCall]:
        return self.cache.known(names)

    def keep(self, calls: Sequence[ExpertCall]) -> None:
        if not self.may_keep:
            return
        try:
            self.cache.keep(calls)
        except StoreError as error:
            self.may_keep = False
            note(f"answers are not kept for another run: {error.what}")


def ask(snapshot: Snapshot, chosen: Sequence[Target], sizes: Sizes, expert: Expert, looks_max: int) -> Answers:
    """One scan of each image and one drill at each of its surest regions, at most `looks_max` a question."""
    config = SearchConfig(
        NavigatorConfig(gain_min=NEVER, confident_at=1.0, looks_max=looks_max), SamplerConfig(variants=0)
    )
    timed, decoder = _Timed(expert), Decoder(snapshot.images.data)
    records = _Kept(CallCache(_newest(snapshot), expert.identity.id, note)) if _is_costly(expert) else None
    calls: list[ExpertCall] = []
    n_known = 0
    with progress("ask the expert", len(chosen)) as advance:
        for first in range(0, len(chosen), QUESTIONS_AT_ONCE):
            some = chosen[first : first + QUESTIONS_AT_ONCE]
            items = [_item(one, sizes, decoder) for one in some]
            found = search(items, timed, config, source=some[0].question.source, seed=0, records=records)
            calls += map(_bare, found.calls)
            n_known += found.n_known
            advance(len(some), False)
    take = getattr(expert, "take_usage", None)
    identity = expert.identity
    usage = take() if take else None
    return Answers(identity.id, identity.privileged, tuple(calls), timed.seconds, usage, n_known)


def _is_costly(expert: Expert) -> bool:
    return getattr(expert, "is_costly", False)


def _newest(snapshot: Snapshot) -> Snapshot:
    """Whichever version is measured: a call is known by what was asked."""
    return Store(snapshot.folder).snapshot()


def _bare(call: ExpertCall) -> ExpertCall:
    """Without its words, which nobody measures and which may be long."""
    return replace(call, raw="", text="", message=None)


def _item(one: Target, sizes: Sizes, decoder: Decoder) -> SearchItem:
    ids = one.question.image_ids
    return SearchItem(one.question, tuple(SearchImage(each, sizes[each], partial(decoder.image, each)) for each in ids))


def recorded(snapshot: Snapshot, one: Slice, chosen: Sequence[Target]) -> Answers:
    """All calls of a slice about these questions."""
    wanted = pa.array([each.question.question_id for each in chosen], pa.string())
    calls: list[ExpertCall] = []
    for part in snapshot.parts("expert_calls", slices=[one.key]):
        rows = snapshot.read_part(part)
        calls += map(_bare, from_table("expert_calls", rows.filter(pc.is_in(rows["question_id"], wanted))))
    return Answers(one.expert or "", _is_privileged(snapshot, one), tuple(calls))


def _is_privileged(snapshot: Snapshot, one: Slice) -> bool:
    """As the build has it, also where every question was rejected and no row can say so."""
    flags = snapshot.read("trajectories", slices=[one.key], columns=["privileged"]).column("privileged")
    return bool(one.config.get("privileged")) or any(flags.unique().to_pylist())


@dataclass(frozen=True, slots=True)
class Met:
    """Answers beside what is annotated. `failed` and `unasked` are question ids; the rest was measured."""

    scanned: tuple[Scanned, ...]
    drilled: tuple[Drilled, ...]
    failed: tuple[str, ...]
    unasked: tuple[str, ...]
    n_mute: int  # first drills that failed or gave no confidence
    n_unscanned: int  # first drills at a box that no scan had named


def meet(chosen: Iterable[Target], sizes: Sizes, calls: Iterable[ExpertCall]) -> Met:
    """Scans and first drills of each question; of an image that was scanned again, all boxes together.

    An image without a region of its question is left out where another image of that question has one.
    """
    of_question: dict[str, list[ExpertCall]] = {}
    for call in calls:
        of_question.setdefault(call.question_id, []).append(call)
    scanned: list[Scanned] = []
    drilled: list[Drilled] = []
    failed, unasked = [], []
    counts: Counter[str] = Counter()
    for one in chosen:
        question_id = one.question.question_id
        own = of_question.get(question_id, [])
        scans = [call for call in own if call.mode == "scan"]
        if {call.image_id for call in scans} != set(one.question.image_ids):
            unasked.append(question_id)
        elif any(call.error_class for call in scans):
            failed.append(question_id)
        else:
            for image_id in one.truths or dict.fromkeys(one.question.image_ids):
                mine = [call for call in own if call.image_id == image_id]
                image = Scanned(question_id, image_id, sizes[image_id], one.truths.get(image_id, ()), _found(mine))
                scanned.append(image)
                drilled += _drilled(image, mine, counts)
    return Met(tuple(scanned), tuple(drilled), tuple(failed), tuple(unasked), counts["mute"], counts["unscanned"])


def _found(calls: Iterable[ExpertCall]) -> tuple[Found, ...]:
    return tuple(Found(box, c) for call in calls if call.mode == "scan" for box, _, c in call.candidates)


def _drilled(image: Scanned, calls: Iterable[ExpertCall], counts: Counter[str]) -> Iterable[Drilled]:
    """First drills; of two boxes that are one, the surer has been asked about."""
    for call in calls:
        if call.mode != "drill" or call.round != 1:
            continue
        box = call.box_xyxy_px
        before = max((each.confidence for each in image.found if each.box_xyxy_px == box), default=None)
        if before is None or box is None:
            counts["unscanned"] += 1
        elif not call.candidates:
            counts["mute"] += 1
        else:
            yield Drilled(image.image_id, before, call.candidates[0][2], image.overlap(box) >= TRUE_IOU)
