"""PMC-VQA (Zhang et al., 2023): multiple-choice questions that a language model wrote from captions of PMC figures.

Version v1 has `train.csv` and two test sets, `test.csv` and its hand-checked part `test_clean.csv`; v2 (figures cut
into panels) has `train_2.csv` and `test_2.csv`. Scores on different test sets cannot be compared, so one is chosen by
name, and its name stands in every question id. The CSV files are read as streams and rows judged shard by shard; the
caption, from which question and answer were made, is never kept. Only pictures that a row names are read: the folders
hold those of the other test set as well. A folder without the train file gives the test split alone, and `config` says
so.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pipeline.adapters.sources import csv_rows, drafts, figures, option_cells
from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.adapters.sources.drafts import Draft, Group, Picture, Problem
from schemas.errors import InputError, UsageError
from schemas.records import Image, Question

TEST_SETS = {"test": "v1", "test_clean": "v1", "test_2": "v2"}  # test set -> the version it belongs to
TRAIN = {"v1": "train", "v2": "train_2"}
IMAGE_FOLDERS = {"v1": ("images", "figures"), "v2": ("images_2", "figures", "images")}
CHOICES = ("Choice A", "Choice B", "Choice C", "Choice D")
ANSWER = ("Answer", "Anwser")  # the second in older files
NEEDS = ("Figure_path", "Question", *CHOICES, ANSWER)
KEPT = ("Figure_path", "Question", *CHOICES, "answer", "label")


@dataclass(frozen=True, slots=True)
class PmcVqa:
    """`test_set` is test, test_clean or test_2, and decides the version; v2 alone needs no other word."""

    root: Path
    test_set: str | None = None
    version: str | None = None
    name: ClassVar[str] = "pmc-vqa"
    revision: ClassVar[int] = 1
    licence: ClassVar[str] = "CC-BY-SA-4.0"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        test_set = "test_2" if self.test_set is None and self.version == "v2" else self.test_set
        if test_set is None:
            raise UsageError("PMC-VQA has test sets that cannot be compared", fix=f"name one of {list(TEST_SETS)}")
        if test_set not in TEST_SETS:
            raise UsageError(f"PMC-VQA has the test sets {list(TEST_SETS)}, not {test_set!r}")
        if self.version not in (None, TEST_SETS[test_set]):
            raise UsageError(f"{test_set} belongs to {TEST_SETS[test_set]}, not to {self.version!r}")
        object.__setattr__(self, "test_set", test_set)
        object.__setattr__(self, "version", TEST_SETS[test_set])

    def config(self) -> dict[str, Any]:
        return {"version": self.version, "test_set": self.test_set, "splits": sorted(self.files())}

    def files(self) -> dict[str, str]:
        """split -> name of its file; the test set must be there."""
        names = {"train": f"{TRAIN[str(self.version)]}.csv", "test": f"{self.test_set}.csv"}
        if not (self.root / names["test"]).is_file():
            fix = f"give the folder with {names['train']}, {names['test']} and {self.folders()[0]}/"
            raise InputError(f"no {names['test']} of PMC-VQA here", where=self.root, fix=fix)
        return {split: name for split, name in names.items() if (self.root / name).is_file()}

    def folders(self) -> tuple[str, ...]:
        """Where a picture is looked for, in this order: the same name may stand in two folders."""
        return IMAGE_FOLDERS[str(self.version)]

    def plan(self) -> list[SourceShard]:
        return figures.shards(self._rows())

    def digest(self, shard: SourceShard) -> str:
        return figures.digest(shard, self.root, self._paths)

    def read(self, shard: SourceShard) -> SourceRows:
        return drafts.gather(self.name, figures.drafted(shard, self._draft), self._picture)

    def _rows(self) -> Iterator[tuple[str, str | None, list[str | None] | Problem]]:
        for name in self.files().values():
            for number, row in csv_rows.rows(self.root / name, NEEDS):
                image_name = None if isinstance(row, Problem) else row["Figure_path"].strip()
                yield f"{name}#{number}", image_name, row if isinstance(row, Problem) else _kept(row)

    def _draft(self, row_key: str, kept: list[str | None]) -> Draft:
        file, _, number = row_key.rpartition(".csv#")
        split = "train" if file == TRAIN[str(self.version)] else "test"
        return _draft(row_key, split, f"{self.name}/{self.version}-{file}-{number}", dict(zip(KEPT, kept, strict=True)))

    def _paths(self, image_name: str) -> list[str]:
        return [f"{folder}/{image_name}" for folder in self.folders()]

    def _picture(self, group: Group) -> Picture | Problem:
        for path in self._paths(group.image_name):
            image = drafts.image_file(self.root / path, path, group, source=self.name, licence=self.licence)
            if isinstance(image, Image):
                return Picture(replace(image, group_key=_article(group.image_name)))
            if image.error_class != "missing_image":
                return image
        return Problem("missing_image", f"no file {group.image_name} in {' or '.join(self.folders())}")


def _article(image_name: str) -> str | None:
    """The article a figure was taken from: its file name begins with the number that PubMed Central gave it."""
    found = re.match(r"PMC\d+", PurePosixPath(image_name).name)
    return f"article:{found[0]}" if found else None


def _kept(row: dict[str, str]) -> list[str | None]:
    answer = next(row[name] for name in ANSWER if name in row)
    return [row["Figure_path"], row["Question"], *(row[name] for name in CHOICES), answer, row.get("Answer_label")]


def _draft(row_key: str, split: str, question_id: str, row: dict[str, Any]) -> Draft:
    options = option_cells.options_of([row[name] for name in CHOICES], lettered=True)
    gold = options if isinstance(options, Problem) else _gold(row, options)

    def make(texts: dict[str, str]) -> Question:
        return Question(
            question_id=question_id,
            source=PmcVqa.name,
            split=split,
            image_ids=(),
            question=texts["Question"],
            answer=str(gold),
            answer_kind="choice",
            options=() if isinstance(options, Problem) else options,
        )

    drafted = drafts.draft(row_key, row, image="Figure_path", needs=("Question",), make=make)
    if isinstance(gold, Problem) and isinstance(drafted.outcome, Question):
        return replace(drafted, outcome=gold)
    return drafted


def _gold(row: dict[str, Any], options: tuple[str, ...]) -> str | Problem:
    """By `Answer_label` where the file has it; else by `Answer`: a letter in v2, possibly a text in older files."""
    if row["label"] is not None:
        return option_cells.by_label(row["label"], options)
    named = option_cells.by_label(row["answer"], options)
    return option_cells.by_text(row["answer"], options) if isinstance(named, Problem) else named
