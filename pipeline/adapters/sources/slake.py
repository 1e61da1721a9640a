"""SLAKE (Liu et al., ISBI 2021): 642 CT, MRI and X-ray images with English and Chinese questions, boxes and masks.

The root is the folder with `train.json`, `validate.json` (or the Hub's `validation.json`), `test.json`, `imgs/` and
`mask.txt`, or its parent. `closed` means a gold answer of yes or no in the row's language; the source's CLOSED also
covers choices whose options it does not list; those stay `open`, and `answer_type` keeps what the source said. A
question carries all regions of its image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pipeline.adapters.sources import drafts
from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.adapters.sources.drafts import IMAGE_SUFFIXES, Draft, Group, Picture, Problem
from pipeline.adapters.sources.slake_regions import DETECTION, MASK, MASK_NAMES, mask_names, regions
from schemas.errors import InputError, UsageError
from schemas.records import Image, Question, Region

SPLITS = {"train": ("train.json",), "validation": ("validate.json", "validation.json"), "test": ("test.json",)}
LANGUAGES = ("en", "zh", "all")
YES_NO = {  # all surface forms that occur as answers
    "en": {"yes", "no"},
    "zh": {*"是有否", "是的", "不是", "没有", "包含", "不包含", "包括", "不包括", "可以", "不可以", "存在", "不存在"},
}


@dataclass(frozen=True, slots=True)
class Slake:
    """`language`: en, zh or all. English test images occur in Chinese training rows, so `all` leaks between splits."""

    root: Path
    language: str = "en"
    name: ClassVar[str] = "slake"
    revision: ClassVar[int] = 2
    licence: ClassVar[str] = "CC-BY-4.0"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        if self.language not in LANGUAGES:
            raise UsageError(f"SLAKE has the languages {LANGUAGES}, not {self.language!r}")

    def config(self) -> dict[str, Any]:
        return {"language": self.language}

    def folder(self) -> Path:
        """Where the JSON files are: the root or `Slake1.0` in it."""
        for folder in (self.root, self.root / "Slake1.0"):
            if all(any((folder / name).is_file() for name in names) for names in SPLITS.values()):
                return folder
        fix = "give the folder with train.json, validate.json (or validation.json), test.json, imgs/ and mask.txt"
        raise InputError("no SLAKE here", where=self.root, fix=fix)

    def plan(self) -> list[SourceShard]:
        folder = self.folder()
        files = {split: _one_of(folder, names) for split, names in SPLITS.items()}
        rows = {split: list(enumerate(drafts.json_list(folder / name))) for split, name in files.items()}
        chosen = [
            _draft(f"{files[split]}#{number}", split, row)
            for split, numbered in rows.items()
            for number, row in numbered
            if self._is_chosen(row)
        ]
        modality = _modalities(row for numbered in rows.values() for _, row in numbered)
        return drafts.shards(drafts.without_repeats(chosen), _image_names(folder / "imgs"), modality)

    def digest(self, shard: SourceShard) -> str:
        names = [MASK_NAMES]
        for group in shard.payload:
            path = PurePosixPath("imgs") / group.image_name
            names += [str(path), str(path.parent / DETECTION), str(path.parent / MASK)] if group.image_name else []
        return drafts.digest(shard, self.folder(), names)

    def read(self, shard: SourceShard) -> SourceRows:
        folder = self.folder()
        names = mask_names(folder / MASK_NAMES)

        def look(group: Group) -> Picture | Problem:
            path = PurePosixPath("imgs") / group.image_name
            image = drafts.image_file(folder / path, str(path), group, source=self.name, licence=self.licence)
            return _picture(image, folder, path.parent, names) if isinstance(image, Image) else image

        return drafts.gather(self.name, shard, look)

    def _is_chosen(self, row: object) -> bool:
        """Rows that tell no language are chosen, so that they are refused in the open."""
        language = drafts.text_of(row.get("q_lang")) if isinstance(row, dict) else None
        return language is None or self.language in ("all", language)


def _one_of(folder: Path, names: tuple[str, ...]) -> str:
    """The first of the files that is there; InputError when two are there and their rows differ."""
    present = [name for name in names if (folder / name).is_file()]
    if len(present) > 1:
        first, *others = (drafts.json_list(folder / name) for name in present)
        if any(other != first for other in others):
            raise InputError(f"{' and '.join(present)} differ", where=folder, fix="keep the one you mean")
    return present[0]


def _picture(image: Image, folder: Path, beside: PurePosixPath, names: dict[int, str]) -> Picture:
    found = list(regions(folder / beside, str(beside), (image.width, image.height), names))
    kept = tuple(item for item in found if isinstance(item, Region))
    problems = tuple(item for item in found if not isinstance(item, Region))
    return Picture(image, kept, problems=problems)


def _image_names(imgs: Path) -> Iterator[str]:
    """`xmlabN/source.jpg` for every folder that has one."""
    for path in imgs.glob("*/source.*"):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            yield path.relative_to(imgs).as_posix()


def _modalities(rows: Iterator[object]) -> dict[str, str | None]:
    """What all rows of an image, in any language, agree on; None where they do not."""
    seen: dict[str, set[str]] = {}
    for row in rows:
        if isinstance(row, dict) and (modality := drafts.text_of(row.get("modality"))):
            seen.setdefault(drafts.text_of(row.get("img_name")) or "", set()).add(modality)
    return {name: values.pop() if len(values) == 1 else None for name, values in seen.items()}


def _draft(row_key: str, split: str, row: object) -> Draft:
    def make(texts: dict[str, str]) -> Question:
        language = texts["q_lang"]
        return Question(
            question_id=f"{Slake.name}/{texts['qid']}",
            source=Slake.name,
            split=split,
            image_ids=(),
            question=texts["question"],
            answer=texts["answer"],
            answer_kind="closed" if texts["answer"].casefold() in YES_NO.get(language, ()) else "open",
            question_type=texts.get("content_type"),
            language=language,
            answer_type=texts.get("answer_type", "").upper() or None,
        )

    return drafts.draft(row_key, row, image="img_name", needs=("qid", "question", "answer", "q_lang"), make=make)
