"""MMMU (Yue et al., CVPR 2024), by default its Health & Medicine subjects; questions on one to seven images.

* parquet – one folder a subject, as on the Hub: `Clinical_Medicine/validation-00000-of-00001.parquet` and so on, of any
  of dev (here `train`), validation and test. Test rows whose answer is withheld ("?") are refused one by one.
* tool – `data.jsonl` and `static/images/` of the authors' MMMU-Pro tool: ten options a question, subject, split and
  number of each question in the name of its image.

Rows of subjects not asked for are left unread. No row tells its modality, so modalities are null.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline.adapters.sources import drafts, mmmu_parquet, mmmu_rows, mmmu_tool
from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.adapters.sources.drafts import Draft, Group, Picture, Problem
from schemas.errors import InputError, UsageError
from schemas.records import Image

HEALTH = (
    "Basic_Medical_Science",
    "Clinical_Medicine",
    "Diagnostics_and_Laboratory_Medicine",
    "Pharmacy",
    "Public_Health",
)
ALL = "all"
FIX = (
    "give a folder with one folder a subject (Clinical_Medicine/validation-*.parquet …) as MMMU/MMMU has on the Hub, "
    "or the MMMU-Pro tool's with data.jsonl and static/images/"
)


@dataclass(frozen=True, slots=True)
class Mmmu:
    """`subjects`: names, as a sequence or joined by commas, or "all" that are there."""

    root: Path
    subjects: tuple[str, ...] = HEALTH
    name: ClassVar[str] = mmmu_rows.SOURCE
    revision: ClassVar[int] = 1
    licence: ClassVar[str] = "Apache-2.0"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        told = self.subjects.split(",") if isinstance(self.subjects, str) else self.subjects
        subjects = tuple(sorted({name.strip() for name in told} - {""}))
        if wrong := [name for name in subjects if not re.fullmatch(r"\w+", name)] or not subjects:
            raise UsageError(
                f"not a subject of MMMU: {wrong or self.subjects!r}", fix=f"names as in {', '.join(HEALTH)}"
            )
        object.__setattr__(self, "subjects", (ALL,) if ALL in subjects else subjects)

    def config(self) -> dict[str, Any]:
        return {"form": self.form(), "subjects": list(self.subjects)}

    def form(self) -> str:
        """parquet or tool; InputError unless the folder is exactly one of them."""
        found = ["tool"] if mmmu_tool.find(self.root) else []
        found += ["parquet"] if mmmu_parquet.find(self.root, mmmu_rows.SPLITS) else []
        if len(found) != 1:
            what = "MMMU in two forms at once" if found else "no MMMU here"
            raise InputError(what, where=self.root, fix=FIX)
        return found[0]

    def plan(self) -> list[SourceShard]:
        if self.form() == "tool":
            return self._tool_plan()
        by_images: dict[tuple[str, ...], list[Draft]] = {}
        for row in drafts.without_repeats(self._parquet_drafts()):
            by_images.setdefault(row.image_names, []).append(row)
        return drafts.numbered([Group(names, tuple(rows)) for names, rows in by_images.items()])

    def digest(self, shard: SourceShard) -> str:
        if self.form() == "parquet":  # image names are sha256 of the bytes: the drafts say it all
            return drafts.digest(shard, self.root, ())
        names = {name for group in shard.payload for name in group.image_names}
        return drafts.digest(shard, self._static(), sorted(names))

    def read(self, shard: SourceShard) -> SourceRows:
        if self.form() == "parquet":
            pictures = self._parquet_pictures(shard)
            return drafts.gather(self.name, shard, lambda group: pictures[group.image_name])
        static = self._static()

        def look(group: Group) -> Picture | Problem:
            path = group.image_name
            return _picture(drafts.image_file(static / path, path, group, source=self.name, licence=self.licence))

        return drafts.gather(self.name, shard, look)

    def _static(self) -> Path:
        return (mmmu_tool.find(self.root) or self.root) / mmmu_tool.STATIC

    def _is_chosen(self, subject: str) -> bool:
        return ALL in self.subjects or subject in self.subjects

    def _parquet_files(self) -> Iterator[tuple[str, Path]]:
        """(split, file) of every chosen subject; InputError where one is missing or they differ in their splits."""
        there = mmmu_parquet.find(self.root, mmmu_rows.SPLITS)
        chosen = sorted(there) if ALL in self.subjects else list(self.subjects)
        if missing := [subject for subject in chosen if subject not in there]:
            fix = f"fetch them, or choose among those there: --subjects {','.join(sorted(there))}"
            raise InputError(f"no files of {', '.join(missing)}", where=self.root, fix=fix)
        for subject in chosen:
            if there[subject].keys() != there[chosen[0]].keys():
                what = f"{subject} has the splits {[*there[subject]]}, {chosen[0]} has {[*there[chosen[0]]]}"
                raise InputError(what, where=self.root, fix="fetch the same splits of every subject")
            yield from ((split, path) for split, paths in there[subject].items() for path in paths)

    def _parquet_drafts(self) -> Iterator[Draft]:
        for split, path in self._parquet_files():
            for number, row, images in mmmu_parquet.rows(path):
                row_key = f"{path.parent.name}/{path.name}#{number}"
                yield mmmu_rows.draft(row_key, mmmu_rows.SPLITS[split], row, images)

    def _parquet_pictures(self, shard: SourceShard) -> dict[str, Picture | Problem]:
        wanted: dict[str, dict[int, Group]] = {}
        for group in shard.payload:
            name, _, row = group.drafts[0].row_key.rpartition("#")
            wanted.setdefault(name, {})[int(row)] = group
        pictures: dict[str, Picture | Problem] = {}
        for name, groups in wanted.items():
            for row, found in mmmu_parquet.images(self.root / name, groups):
                for image in groups[row].image_names:
                    if image not in found:
                        raise InputError("the file changed while it was read", where=name, fix="run it again")
                    data, path = found[image]
                    stored = drafts.image_of(data, path, groups[row], source=self.name, licence=self.licence)
                    pictures.setdefault(image, _picture(stored))
        return pictures

    def _tool_plan(self) -> list[SourceShard]:
        chosen, left = [], set[str]()
        folder = mmmu_tool.find(self.root) or self.root
        for subject, drafted in mmmu_tool.read(folder):
            if subject is None or self._is_chosen(subject):
                chosen.append(drafted)
            else:
                left.update(drafted.image_names)
        files = (name for name in mmmu_tool.image_names(folder) if name not in left)
        return drafts.shards(drafts.without_repeats(chosen), files, modality={})


def _picture(image: Image | Problem) -> Picture | Problem:
    return Picture(image) if isinstance(image, Image) else image
