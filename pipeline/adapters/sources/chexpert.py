"""CheXpert (Irvin et al., AAAI 2019): 14 labels mined from reports for each chest X-ray, and no boxes.

A row is a line of `train.csv` or `valid.csv`; it is kept when its image is stored. Labels stay what they are: 1, 0,
−1 for uncertain, null for not mentioned. Only 1 and 0 are asked about. The root is the folder with the tables, or its
parent; `Path` begins with the name of the folder, which may be another one here. Images and questions are named by
their line (train/12), and no message quotes a path: paths hold the patient's number.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pipeline.adapters.patients import patient_key
from pipeline.adapters.sources import csv_rows, labelled
from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.adapters.sources.drafts import IMAGE_SUFFIXES, Problem, is_inside
from pipeline.adapters.sources.labelled import Entry, Label, Refusals
from pipeline.adapters.sources.presence import presence_questions
from schemas.errors import InputError

TABLES = {"train.csv": "train", "valid.csv": "validation"}
FINDINGS = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other"),
    *("Fracture", "Support Devices"),
)
VALUES = {"1.0": 1, "1": 1, "0.0": 0, "0": 0, "-1.0": -1, "-1": -1, "": None}
PATIENT = re.compile(r"(?:^|/)(patient\d+)/")
LABELLER = "chexpert-labeler"
FAMILY = "chexpert"


@dataclass(frozen=True, slots=True)
class _Row:
    row_key: str
    file: str  # under the folder of the tables
    patient: str
    split: str
    values: tuple[int | None, ...]  # by FINDINGS

    @property
    def name(self) -> str:
        """train.csv#12 → train/12"""
        return self.row_key.replace(".csv#", "/")

    def having(self, value: int) -> list[str]:
        return [finding for finding, one in zip(FINDINGS, self.values, strict=True) if one == value]


@dataclass(frozen=True, slots=True)
class CheXpert:
    """`key` hashes patients; without it they stay untold, since the images are restricted."""

    root: Path
    key: bytes | None = field(default=None, repr=False)
    name: ClassVar[str] = "chexpert"
    revision: ClassVar[int] = 2
    licence: ClassVar[str] = "LicenseRef-Stanford-CheXpert"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    def config(self) -> dict[str, Any]:
        return {"patient_key": labelled.key_name(self.key)}

    def folder(self) -> Path:
        """Where the tables are: the root or the one `CheXpert*` folder in it."""
        found = [
            place
            for place in (self.root, *sorted(self.root.glob("CheXpert*")))
            if any((place / table).is_file() for table in TABLES)
        ]
        if len(found) != 1:
            what = f"{len(found)} CheXpert folders at once" if found else "no CheXpert here"
            raise InputError(what, where=self.root, fix=f"give the folder with {' and '.join(TABLES)}")
        return found[0]

    def plan(self) -> list[SourceShard]:
        refusals = Refusals()
        rows = list(_rows(self.folder(), refusals))
        how_often = Counter(finding for row in rows for finding in row.having(1))
        return labelled.shards([*(self._entry(row, how_often) for row in rows), *refusals.entry()])

    def digest(self, shard: SourceShard) -> str:
        return labelled.digest(shard, self.folder())

    def read(self, shard: SourceShard) -> SourceRows:
        return labelled.read(self, shard, self.folder())

    def _entry(self, row: _Row, how_often: Mapping[str, int]) -> Entry:
        suffix = PurePosixPath(row.file).suffix.lower()
        return Entry(
            row.name,
            row.file,
            rows=(row.row_key,),
            split=row.split,
            labels=_labels(row.values),
            asked=presence_questions(self.name, row.name, row.having(1), row.having(0), how_often),
            patient_key=patient_key(FAMILY, row.patient, self.key, restricted=True),
            stored_as=row.name + (suffix if suffix in IMAGE_SUFFIXES else ""),
        )


def _rows(folder: Path, refusals: Refusals) -> Iterator[_Row]:
    """Rows that can be read; the others are refused. The first row about a file stays."""
    taken: dict[str, str] = {}
    for table, split in TABLES.items():
        for number, cells in csv_rows.rows(folder / table, ("Path", *FINDINGS)) if (folder / table).is_file() else ():
            key = f"{table}#{number}"
            row = cells if isinstance(cells, Problem) else _row(key, split, cells)
            if isinstance(row, Problem):
                refusals.add(key, row.error_class, row.message)
            elif taken.setdefault(row.file, key) != key:
                refusals.add(key, "duplicate_row", f"its file is taken by {taken[row.file]}")
            else:
                yield row


def _row(key: str, split: str, cells: Mapping[str, str]) -> _Row | Problem:
    path = cells["Path"].strip()
    patient = PATIENT.search(path)
    if patient is None:
        return Problem("malformed_row", "Path names no patient")
    file = path.partition("/")[2] if path.startswith("CheXpert") else path
    if not is_inside(file):
        return Problem("unsafe_path", "Path points outside the image folder")
    wrong = [finding for finding in FINDINGS if cells[finding].strip() not in VALUES]
    if wrong:
        return Problem("malformed_row", f"{wrong[0]} is {cells[wrong[0]]!r:.20}")
    values = tuple(VALUES[cells[finding].strip()] for finding in FINDINGS)
    return _Row(key, str(PurePosixPath(file)), patient[1], split, values)


@cache  # few combinations, many images
def _labels(values: tuple[int | None, ...]) -> tuple[Label, ...]:
    return tuple((finding, value, LABELLER) for finding, value in zip(FINDINGS, values, strict=True))
