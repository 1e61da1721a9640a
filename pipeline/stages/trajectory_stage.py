"""The stage behind `build-trajectories`: runs of questions, the expert or records that answer, rows that come of it.

A new build asks an expert, and keeps the answers of a costly one as they come. A replay asks nobody: it repeats what a
slice recorded (`calls_of`), and rejects the questions for which that is not enough.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock, local
from typing import Any

from PIL import Image

from pipeline.adapters.call_cache import CallCache
from pipeline.adapters.decoding import Decoder
from pipeline.adapters.experts.recorded import RecordedExpert, recorded_identity
from pipeline.adapters.experts.registry import make_expert
from pipeline.adapters.image_sizes import ImageSizes
from pipeline.adapters.part_rows import PartRows
from pipeline.adapters.work import Output, Shard
from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem
from pipeline.core.search import STAGE, Records, SearchResult, search
from pipeline.stages.building import schemas_of
from pipeline.stages.progress import note
from pipeline.stages.replays import CALLS_OF, manifest_of, replay_config
from schemas.errors import StoreError
from schemas.experts import NOT_RECORDED, Expert, ExpertIdentity
from schemas.manifest import Part, Slice, sha256_of
from schemas.reader import Store
from schemas.records import POOL, Question
from schemas.rows import from_table, to_table
from schemas.storage import Folder

REVISION = 3
TABLES = ("trajectories", "expert_calls", "rejects")
SHARD_QUESTIONS = 64


@dataclass(frozen=True, slots=True)
class QuestionRun:
    """Questions [first, last) of one part: never across parts, so that growth leaves old shards alone."""

    part: Part
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Worker:
    """What the shards of one process share, in any number of threads; `spent` is of the calling one."""

    questions: PartRows
    sizes: ImageSizes
    decoder: Decoder
    expert: Expert
    records: Records | None
    lock: Any = field(default_factory=Lock)  # of decoder and questions
    spent: Any = field(default_factory=local)

    def image(self, image_id: str) -> Image.Image:
        with self.lock:
            return self.decoder.image(image_id)

    def items(self, run: QuestionRun) -> list[SearchItem]:
        with self.lock:
            rows = self.questions.read(run.part, run.first, run.last)
        return [self._item(question) for question in from_table("questions", rows)]

    def _item(self, question: Question) -> SearchItem:
        """Sizes are known, pixels are read when an expert is to see them."""
        ids = question.image_ids
        return SearchItem(
            question, tuple(SearchImage(each, self.sizes.size(each), partial(self.image, each)) for each in ids)
        )


@dataclass(frozen=True)
class BuildTrajectories:
    """One expert over one ingest slice into one slice of trajectories."""

    root: Folder | Path  # of the store
    version: int
    upstream: str  # key of the ingest slice
    expert_name: str
    expert_settings: tuple[tuple[str, Any], ...]
    search: SearchConfig
    seed: int
    slice_name: str | None = None
    calls_of: str | None = None  # key of the slice to repeat, in place of the expert
    name: str = STAGE
    revision: int = REVISION
    tables: tuple[str, ...] = TABLES

    @property
    def source(self) -> str:
        return self.upstream.split("/")[1]

    @property
    def expert(self) -> Expert:
        if self.calls_of is not None:
            return RecordedExpert(Store(self.root).snapshot(self.version), self.calls_of)
        return make_expert(self.expert_name, dict(self.expert_settings))

    @property
    def shards_at_once(self) -> int:
        return _traits(self).shards_at_once

    @property
    def is_costly(self) -> bool:
        """Whether answers are kept one by one."""
        return _traits(self).is_costly

    @property
    def inputs(self) -> Mapping[str, str]:
        return {self.upstream: manifest_of(self.root, self.version).slices[self.upstream].digest}

    def config(self) -> dict[str, Any]:
        """Who answers and by which rule: all that changes rows, beside the rows they are made from."""
        who = _traits(self).identity
        return {
            "expert": who.id,
            "expert_settings": dict(who.settings),
            "privileged": who.privileged,
            "rescans": who.rescans,
            "navigator": asdict(self.search.navigator),
            "sampler": asdict(self.search.sampler),
            "origins": list(self.search.origins),
            "seed": self.seed,
        }

    def identity(self) -> Mapping[str, Any]:
        return _identity(self)

    def describe(self) -> Slice:
        upstream = manifest_of(self.root, self.version).slices[self.upstream]
        return Slice(
            stage=self.name,
            source=self.source,
            name=self.slice_name or self.expert_name,
            revision=self.revision,
            config=self.identity(),
            expert=_traits(self).identity.id,
            seed=self.seed,
            inputs=self.inputs,
            schemas=schemas_of(TABLES),
            licences=upstream.licences,
        )

    def setup(self) -> Worker:
        snapshot, expert = Store(self.root).snapshot(self.version), self.expert
        records = expert if isinstance(expert, RecordedExpert) else None
        if self.is_costly:
            records = CallCache(Store(self.root).snapshot(), expert.identity.id, note)

        def read(image_id: str) -> bytes:
            return snapshot.images.data(image_id)  # looked for when one is wanted: a replay wants none

        return Worker(PartRows(snapshot), ImageSizes.of(snapshot), Decoder(read), expert, records)

    def digest(self, state: Worker | None, shard: Shard) -> str:
        """The part's bytes name the questions and, through image ids, the pixels."""
        run: QuestionRun = shard.payload
        return sha256_of([run.part.sha256, run.first, run.last])

    def usage(self, state: Worker) -> dict[str, Any]:
        """What the calling thread's shard took: calls, and what an expert counts of requests, tokens and price."""
        take = getattr(state.expert, "take_usage", dict)
        return {**take(), **state.spent.calls}

    def process(self, state: Worker, shard: Shard) -> Output:
        run: QuestionRun = shard.payload
        found = search(
            state.items(run),
            state.expert,
            self.search,
            source=self.source,
            seed=self.seed,
            shard=shard.key,
            records=state.records,
        )
        state.spent.calls = {"calls_asked": found.n_asked, "calls_cached": found.n_known}
        if self.calls_of is not None and CALLS_OF not in self.identity():
            _check_complete(found, self.calls_of)
        return _output(found, run.part.split)


@dataclass(frozen=True, slots=True)
class _Traits:
    """What a build wants to know of an expert without keeping one."""

    identity: ExpertIdentity
    is_costly: bool = False
    shards_at_once: int = 1


@lru_cache(maxsize=4)
def _traits(stage: BuildTrajectories) -> _Traits:
    if stage.calls_of is not None:
        return _Traits(recorded_identity(manifest_of(stage.root, stage.version).slices[stage.calls_of]))
    expert = stage.expert
    return _Traits(expert.identity, getattr(expert, "is_costly", False), getattr(expert, "shards_at_once", 1))


@lru_cache(maxsize=4)
def _identity(stage: BuildTrajectories) -> Mapping[str, Any]:
    if stage.calls_of is None:
        return stage.config()
    old = manifest_of(stage.root, stage.version).slices[stage.calls_of]
    return replay_config(old, stage.revision, stage.inputs, stage.config())


def _check_complete(found: SearchResult, key: str) -> None:
    """StoreError for a slice that does not hold the calls it was built from: its replay would be another slice."""
    if n := sum(reject.error_class == NOT_RECORDED for reject in found.rejects):
        what = f"{key} lacks calls it was built from, for {n} questions"
        raise StoreError(what, fix="build it again with its expert")


def _output(found: SearchResult, split: str) -> Output:
    return {
        ("trajectories", split): to_table("trajectories", found.trajectories),
        ("expert_calls", POOL): to_table("expert_calls", found.calls),
        ("rejects", POOL): to_table("rejects", found.rejects),
    }


def shards_of(parts: Sequence[Part]) -> Iterator[Shard]:
    """Runs of at most SHARD_QUESTIONS questions inside each part."""
    for part in sorted(parts):
        for first in range(0, part.rows, SHARD_QUESTIONS):
            last = min(part.rows, first + SHARD_QUESTIONS)
            yield Shard(f"{part.split}/{part.sha256[:12]}/{first}", last - first, QuestionRun(part, first, last))
