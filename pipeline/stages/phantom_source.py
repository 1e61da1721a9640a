"""The phantom generator as a source: as many images and questions as asked for, from nothing but numbers.

Each split draws from its own range of indices, so more images of one split never change or move another's. It reads
no file; `revision` must be raised whenever the generator or the PNG writer gives other bytes.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.adapters.patients import patient_key
from pipeline.adapters.pixels import stored_image
from pipeline.adapters.png import write_png
from pipeline.adapters.sources.base import SHARD_IMAGES, SourceRows, SourceShard
from pipeline.core.phantom import LEVELS, SIDE_PX_MIN, Phantom, phantom
from schemas.errors import UsageError
from schemas.records import Image, Question, Region

INDICES_PER_SPLIT = 1_000_000_000
BASES = {"train": 0, "validation": INDICES_PER_SPLIT, "test": 2 * INDICES_PER_SPLIT}  # first index of each split


@dataclass(frozen=True, slots=True)
class PhantomSource:
    """`offset` skips that many images of each split: two sources that must not share images get ranges apart."""

    seed: int = 0
    level: str = "L1"
    n_train: int = 0
    n_validation: int = 0
    n_test: int = 0
    side_px: int = 448
    offset: int = 0
    name: ClassVar[str] = "phantom"
    revision: ClassVar[int] = 2
    licence: ClassVar[str] = "CC0-1.0"

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise UsageError(f"phantom levels are {', '.join(LEVELS)}, not {self.level!r}")
        if self.side_px < SIDE_PX_MIN:
            raise UsageError(f"a phantom has a side of at least {SIDE_PX_MIN} pixels, not {self.side_px}")
        for split, n_images in self._sizes().items():
            if n_images < 0 or self.offset < 0 or self.offset + n_images > INDICES_PER_SPLIT:
                what = f"phantom {split}: {n_images} images from offset {self.offset} do not fit"
                raise UsageError(
                    what, fix=f"offset and size must be at least 0 and together at most {INDICES_PER_SPLIT}"
                )

    def _sizes(self) -> dict[str, int]:
        return {"train": self.n_train, "validation": self.n_validation, "test": self.n_test}

    def config(self) -> dict[str, Any]:
        """Sizes and offset are left out: they say which images, and a shard says that itself."""
        return {"seed": self.seed, "level": self.level, "side_px": self.side_px}

    def plan(self) -> list[SourceShard]:
        """Ordered by the place in the split, then by split, so that growth adds shards at the end."""
        found = [
            (start, split, min(n_images - start, SHARD_IMAGES))
            for split, n_images in self._sizes().items()
            for start in range(0, n_images, SHARD_IMAGES)
        ]
        order = list(BASES)
        found.sort(key=lambda item: (item[0], order.index(item[1])))
        return [self._shard(split, BASES[split] + self.offset + start, n_images) for start, split, n_images in found]

    def _shard(self, split: str, first: int, n_images: int) -> SourceShard:
        indices = range(first, first + n_images)
        return SourceShard(f"{split}-{first:010d}", tuple((split, index) for index in indices))

    def digest(self, shard: SourceShard) -> str:
        what = [self.revision, self.config(), shard.payload]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def read(self, shard: SourceShard) -> SourceRows:
        rows = SourceRows()
        for split, index in shard.payload:
            drawn = phantom(self.seed, index, self.level, self.side_px)
            image = self._image(drawn, index)
            rows.images.append(image)
            rows.questions.extend(self._questions(drawn, image.image_id, split, index))
        return rows

    def _key(self, index: int) -> str:
        return f"{self.level}/{self.seed}/{index}"

    def _image(self, drawn: Phantom, index: int) -> Image:
        path = f"{self.name}/{self._key(index)}.png"
        data = write_png(drawn.pixels)
        return stored_image(data, path, source=self.name, licence=self.licence, modality="synthetic X-ray")

    def _questions(self, drawn: Phantom, image_id: str, split: str, index: int) -> list[Question]:
        regions = tuple(Region(region.box_xyxy_px, region.label, region.provenance) for region in drawn.regions)
        patient = patient_key(self.name, self._key(index), None, restricted=False)
        return [
            Question(
                question_id=f"{self.name}/{self._key(index)}/{number}",
                source=self.name,
                split=split,
                image_ids=(image_id,),
                question=asked.text,
                answer=asked.answer,
                answer_kind=asked.answer_kind,
                options=asked.options,
                question_type=asked.question_type,
                regions=regions,
                patient_key=patient,
            )
            for number, asked in enumerate(drawn.questions)
        ]
