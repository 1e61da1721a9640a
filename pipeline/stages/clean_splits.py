"""Splits that share no picture, or no patient: what hangs together goes to one split, and says where it came from.

Rows hang together through one stored picture under any name, equal pixels, hashes that certainly belong to one picture
(its mirror and its negative too), or one `origin`; with `by="patient"` also through one patient, article or volume.
What lies in one split already stays there. What straddles is drawn as a whole into one of its own splits, with the
odds of the rows that all that straddles the same splits has in each: splits keep about their sizes. (Ours.)
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.adapters.sources.base import Source, SourceRows, SourceShard
from pipeline.core.near_duplicates import TIERS, near_pairs, prints
from schemas.errors import InputError, UsageError
from schemas.records import SPLITS, Hashes, Image
from schemas.seeds import uniform

KEYS = ("image", "patient")
REVISION = 2


@dataclass(frozen=True, slots=True)
class CleanSplits:
    """A source with its splits mended; every row and every image of `source` is there."""

    source: Source
    by: str

    def __post_init__(self) -> None:
        if self.by not in KEYS:
            raise UsageError(f"splits can be made by {' or '.join(KEYS)}, not by {self.by!r}")

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def revision(self) -> int:
        return self.source.revision

    @property
    def licence(self) -> str:
        return self.source.licence

    def config(self) -> dict[str, Any]:
        return {**self.source.config(), "split_by": self.by, "split_revision": REVISION}

    def plan(self) -> list[SourceShard]:
        """Reads everything once to see what hangs together; keeps names and hashes only."""
        shards = self.source.plan()
        survey = _Survey(self.by)
        asked = [survey.add(self.source.read(shard)) for shard in shards]
        if self.by == "patient" and not survey.has_groups:
            fix = "use --split-by image, or give a restricted source its key: --patient-key-file FILE"
            raise InputError(f"source {self.name} tells of no patient, article or volume", fix=fix)
        moved = survey.moved(self.name)
        return [
            replace(shard, moved=tuple((one, moved[one]) for one in ids if one in moved))
            for shard, ids in zip(shards, asked, strict=True)
        ]

    def digest(self, shard: SourceShard) -> str:
        inner = self.source.digest(replace(shard, moved=()))
        return hashlib.sha256(json.dumps([inner, shard.moved]).encode()).hexdigest()

    def read(self, shard: SourceShard) -> SourceRows:
        rows, moved = self.source.read(replace(shard, moved=())), dict(shard.moved)
        questions = [
            replace(one, split=moved[one.question_id], source_split=one.split) if one.question_id in moved else one
            for one in rows.questions
        ]
        return replace(rows, questions=questions)


@dataclass
class _Survey:
    """Which questions hang together, found as shards pass by; nodes are questions, pictures and what they share."""

    by: str
    parents: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)  # of each question
    hashes: dict[str, Hashes] = field(default_factory=dict)  # of each picture asked about
    has_groups: bool = False

    def add(self, rows: SourceRows) -> list[str]:
        """The ids of the questions of a shard."""
        images = {image.image_id: image for image in rows.images}
        for question in rows.questions:
            node = f"question {question.question_id}"
            self.splits[question.question_id] = question.split
            for image_id in question.image_ids:
                self.hashes[image_id] = images[image_id].hashes
                self._join(node, f"image {image_id}")
                for shared in self._shared(images[image_id]):
                    self._join(f"image {image_id}", shared)
        return [question.question_id for question in rows.questions]

    def _shared(self, image: Image) -> Iterator[str]:
        yield f"pixels {image.pixel_sha256}"
        if image.origin:
            yield f"origin {image.origin}"
        groups = [f"{key} {value}" for key in ("patient_key", "group_key") if (value := getattr(image, key))]
        self.has_groups = self.has_groups or bool(groups)
        if self.by == "patient":
            yield from groups

    def moved(self, source: str) -> dict[str, str]:
        """New split of each question that must leave its own."""
        ids = sorted(self.hashes)
        for pairs in near_pairs(prints([self.hashes[image_id] for image_id in ids])):
            for first, second, tier in zip(pairs.first, pairs.second, pairs.tier, strict=True):
                if TIERS[tier] == "certain":
                    self._join(f"image {ids[first]}", f"image {ids[second]}")
        together: dict[str, list[str]] = defaultdict(list)
        for question_id in self.splits:
            together[self._root(f"question {question_id}")].append(question_id)
        sizes: dict[frozenset[str], Counter[str]] = defaultdict(Counter)
        for members in together.values():
            own = [self.splits[one] for one in members]
            sizes[frozenset(own)].update(own)
        moved = {}
        for members in together.values():
            home = _home(min(members), sizes[frozenset(self.splits[one] for one in members)], source)
            moved |= {one: home for one in members if self.splits[one] != home}
        return moved

    def _root(self, node: str) -> str:
        self.parents.setdefault(node, node)
        while self.parents[node] != node:
            self.parents[node] = self.parents[self.parents[node]]
            node = self.parents[node]
        return node

    def _join(self, first: str, second: str) -> None:
        self.parents[self._root(first)] = self._root(second)


def _home(first: str, sizes: Counter[str], source: str) -> str:
    """One of the splits of `sizes`, drawn by a question id with their odds."""
    own = [split for split in SPLITS if split in sizes]
    draw = uniform("split_by", source, first) * sizes.total()
    for split in own:
        draw -= sizes[split]
        if draw < 0:
            return split
    return own[-1]
