"""Control copies of a split: the same questions over pictures that cannot answer them.

* blank – mid grey of the same size.
* noise – uniform grey noise of the same size.
* shuffled – the pictures of another question of the split: those of the next one, in a shuffled order, that shows none
  of its own, under any id: as stored, by equal pixels, by hashes that certainly belong to one picture, by `origin`.

A policy that keeps its score on them does not look. A copy is a source of its own, `<source>-<kind>`, so that nothing
else changes: it is evaluated with `--slice`. Regions are dropped, for they are true of the real pictures alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.adapters.pixels import stored_image
from pipeline.adapters.png import write_png
from pipeline.adapters.sources.base import SourceRows, SourceShard, runs
from pipeline.adapters.sources.drafts import STAGE
from pipeline.core.near_duplicates import TIERS, near_pairs, prints
from pipeline.stages.sources import check_options, flag
from schemas.errors import InputError, UsageError
from schemas.manifest import Slice, sha256_of
from schemas.reader import Snapshot, Store
from schemas.records import Hashes, Image, Question, Reject
from schemas.seeds import digest_int, shuffled
from schemas.storage import Folder

KINDS = ("blank", "noise", "shuffled")
GREY = 128
Pictures = tuple[str, ...]
HASHES = tuple(Hashes.__dataclass_fields__)
TRUE_OF_COPIES = ("modality", "licence", "origin", "patient_key", "group_key")


@dataclass(frozen=True)
class ControlSource:
    """`of` is an ingest slice of the store in `root` at `version`."""

    root: Folder | Path
    version: int
    of: str
    kind: str
    split: str = "test"

    revision = 2

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"controls are {', '.join(KINDS)}, not {self.kind!r}")

    @property
    def name(self) -> str:
        return f"{self.of.split('/')[1]}-{self.kind}"

    @property
    def licence(self) -> str:
        """That of the source: the questions are its own, and so are shuffled pictures."""
        return self._slice.licences[0]

    def config(self) -> dict[str, Any]:
        return {"of": self.of, "kind": self.kind, "split": self.split}

    def plan(self) -> list[SourceShard]:
        """Questions with the pictures they get, in runs."""
        questions = self._snapshot.records("questions", split=self.split, slices=[self.of])
        if not questions:
            raise InputError(f"{self.of} has no questions in split {self.split}", where=self.root)
        others = self._others({question.image_ids for question in questions}) if self.kind == "shuffled" else {}
        rows = [(question, others.get(question.image_ids)) for question in questions]
        return [SourceShard(f"{number:05d}", tuple(run)) for number, run in enumerate(runs(rows))]

    def digest(self, shard: SourceShard) -> str:
        shown = {one for question, others in shard.payload for one in (*question.image_ids, *(others or ()))}
        facts = {
            image_id: [self._facts[image_id][name] for name in ("width", "height", *TRUE_OF_COPIES)]
            for image_id in shown
        }
        rows = [[asdict(question), others] for question, others in shard.payload]
        return sha256_of([self.config(), rows, facts])

    def read(self, shard: SourceShard) -> SourceRows:
        rows, images = SourceRows(), {}
        for question, others in shard.payload:
            if self.kind == "shuffled" and others is None:
                message = f"no other question of the split has {len(question.image_ids)} images, none of them its own"
                rows.rejects.append(
                    Reject(STAGE, self.name, shard.key, question.question_id, "no_other_images", message)
                )
                continue
            shown = [self._shown(image_id) for image_id in (others if self.kind == "shuffled" else question.image_ids)]
            images |= {image.image_id: image for image in shown}
            rows.questions.append(self._copy(question, tuple(image.image_id for image in shown)))
        rows.images.extend(images.values())
        return rows

    def __getstate__(self) -> dict[str, Any]:
        """A worker opens the store itself."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def _snapshot(self) -> Snapshot:
        """Of the slice alone: finding a picture checks the bytes of every part there is."""
        whole = Store(self.root).snapshot(self.version)
        return replace(whole, manifest=replace(whole.manifest, slices={self.of: whole.slice(self.of)}))

    @property
    def inputs(self) -> dict[str, str]:
        return {self.of: self._slice.digest}

    @cached_property
    def _slice(self) -> Slice:
        return self._snapshot.slice(self.of)

    @cached_property
    def _facts(self) -> dict[str, dict[str, Any]]:
        """All but the bytes of each image of the slice; a copy under another slice will not do."""
        names = ["image_id", "width", "height", "pixel_sha256", *HASHES, *TRUE_OF_COPIES]
        rows = self._snapshot.read("images", slices=[self.of], columns=names).to_pylist()
        return {row["image_id"]: row for row in rows}

    def _others(self, pictures: set[Pictures]) -> dict[Pictures, Pictures | None]:
        marks = _marks({one: self._facts[one] for each in pictures for one in each})
        return dict(
            pair for n in sorted({len(one) for one in pictures}) for pair in _ring(pictures, n, self.name, marks)
        )

    def _shown(self, image_id: str) -> Image:
        facts = self._facts[image_id]
        if self.kind == "shuffled":
            data, true = self._snapshot.images.data(image_id), {name: facts[name] for name in TRUE_OF_COPIES}
            made = stored_image(data, f"{self.kind}/{image_id}", source=self.name, licence="", modality=None)
            return replace(made, **true)
        modality = facts["modality"] if self.kind == "noise" else None  # one blank picture stands for all of its size
        pixels, name = self._pixels(image_id, facts["width"], facts["height"]), f"{self.kind}/{image_id}.png"
        return stored_image(write_png(pixels), name, source=self.name, licence="CC0-1.0", modality=modality)

    def _pixels(self, image_id: str, width: int, height: int) -> np.ndarray:
        if self.kind == "blank":
            return np.full((height, width), GREY, np.uint8)
        generator = np.random.Generator(np.random.Philox(digest_int("noise", image_id)))
        return generator.integers(0, 256, (height, width), np.uint8)

    def _copy(self, question: Question, image_ids: Pictures) -> Question:
        own = question.question_id.split("/", 1)[-1]
        return replace(
            question,
            question_id=f"{self.name}/{own}",
            source=self.name,
            image_ids=image_ids,
            regions=(),
            patient_key=None,
        )


def control_of(store: Store, options: Mapping[str, Any]) -> ControlSource:
    """The control source that `of`, `kind` and `split` describe, over the newest version of the store."""
    given = {key: value for key, value in options.items() if value is not None}
    check_options("control", given, frozenset({"of", "kind", "split"}))
    if missing := sorted({"of", "kind"} - given.keys()):
        raise UsageError(f"a control needs {', '.join(map(flag, missing))}", fix="--of SOURCE --kind blank")
    snapshot = store.snapshot()
    source, _, name = given.pop("of").partition("/")
    copied = snapshot.slice(f"ingest/{source}/{name or 'default'}")
    if copied.inputs:
        what = f"{copied.key} is a control itself; shuffled twice, real pictures may come back"
        raise UsageError(what, fix=f"copy what it was made from: --of {next(iter(copied.inputs)).split('/')[1]}")
    return ControlSource(store.folder, snapshot.manifest.version, copied.key, **given)


def _marks(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str]]:
    """What two ids of one picture have in common."""
    ids = sorted(facts)
    marks = {one: {one, f"pixels {facts[one]['pixel_sha256']}", f"origin {facts[one]['origin'] or one}"} for one in ids}
    for pairs in near_pairs(prints([Hashes(**{name: facts[one][name] for name in HASHES}) for one in ids])):
        for first, second, tier in zip(pairs.first, pairs.second, pairs.tier, strict=True):
            if TIERS[tier] == "certain":
                marks[ids[second]].add(ids[first])
    return marks


def _ring(
    pictures: set[Pictures], n_images: int, key: str, marks: Mapping[str, set[str]]
) -> Iterator[tuple[Pictures, Pictures | None]]:
    """To each tuple of `n_images` the next one in a shuffled ring that has no mark of it, or None."""
    ring = shuffled(sorted(one for one in pictures if len(one) == n_images), "control", key, n_images)
    marked = [set().union(*(marks[one] for one in each)) for each in ring]
    for at, each in enumerate(ring):
        later = chain(range(at + 1, len(ring)), range(at))
        yield each, next((ring[other] for other in later if marked[at].isdisjoint(marked[other])), None)
