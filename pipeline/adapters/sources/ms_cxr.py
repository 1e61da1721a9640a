"""MS-CXR (Boecking et al., ECCV 2022): phrases of radiology reports with the boxes they speak of, on MIMIC-CXR images.

A row is a pair of image and phrase (dicom_id, category_name, label_text) with all its boxes, one line each, or a line
that cannot be read. It is kept as one question, "Where is this finding: …?", with the six places of `schemas.places`
to choose from, left and right being the patient's, and "several places". A box is where its centre is; the answer is
the place of all boxes of the phrase, or several places where they differ. Only presence is labelled, so nothing is
asked about absence. Boxes count pixels of image_width × image_height and are rescaled to the
image at hand, which lies under the root by its `path`, or as `<dicom_id>.jpg` in the root or in `images/`. It is
stored as `<dicom_id>.jpg`, and no message quotes a path: paths hold the number of the patient.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from os.path import isfile
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pipeline.adapters.patients import patient_key
from pipeline.adapters.sources import csv_rows, labelled
from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.adapters.sources.drafts import IMAGE_SUFFIXES, Problem, is_inside
from pipeline.adapters.sources.labelled import Asked, Entry, Mark, Refusals
from schemas.boxes import Size, clamp, from_xywh
from schemas.errors import InputError
from schemas.places import SIDES, ZONES, side, zone

TABLES = "MS_CXR_Local_Alignment_v*.csv"
COLUMNS = ("dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height")
SPLITS = {"train": "train", "val": "validation", "validate": "validation", "validation": "validation", "test": "test"}
SEVERAL = "several places"
PLACES = (*(f"{height} {half}" for height in ZONES for half in SIDES), SEVERAL)
SUBJECT = re.compile(r"(?:^|/)p(\d{8})/")  # files/p10/p10000032/s…/….jpg
ANNOTATOR = "ms-cxr"
SIDE_DIGITS_MAX = 5  # of an image's width or height in pixels
FAMILY = "mimic"
Phrase = tuple[str, str]  # category_name, label_text


@dataclass
class _Study:
    """One image as its first line describes it, and its phrases: (first row key, places of its boxes)."""

    path: str
    size: Size
    split: str
    patient: str | None
    marks: list[Mark] = field(default_factory=list)
    phrases: dict[Phrase, tuple[str, list[str]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MsCxr:
    """`key` hashes patients; without it they stay untold, since the images are restricted."""

    root: Path
    key: bytes | None = field(default=None, repr=False)
    name: ClassVar[str] = "ms-cxr"
    revision: ClassVar[int] = 3
    licence: ClassVar[str] = "PhysioNet-Credentialed-1.5.0"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    def config(self) -> dict[str, Any]:
        return {"table": self.table().name, "patient_key": labelled.key_name(self.key)}

    def table(self) -> Path:
        found = sorted(self.root.glob(TABLES))
        if len(found) != 1:
            what = f"{len(found)} tables of MS-CXR at once" if found else "no MS-CXR here"
            raise InputError(what, where=self.root, fix=f"give the folder with one {TABLES} and the MIMIC-CXR images")
        return found[0]

    def plan(self) -> list[SourceShard]:
        refusals = Refusals()
        studies = _studies(self.table(), refusals)
        entries = [self._entry(dicom_id, study, refusals) for dicom_id, study in studies.items()]
        return labelled.shards([*entries, *refusals.entry()])

    def digest(self, shard: SourceShard) -> str:
        return labelled.digest(shard, self.root)

    def read(self, shard: SourceShard) -> SourceRows:
        return labelled.read(self, shard, self.root)

    def _entry(self, dicom_id: str, study: _Study, refusals: Refusals) -> Entry:
        asked, rows = [], []
        for number, ((_, text), (row_key, places)) in enumerate(study.phrases.items()):
            if places:
                answer = places[0] if len(set(places)) == 1 else SEVERAL
                asked.append(Asked(str(number), f"Where is this finding: {text}?", answer, "place", "choice", PLACES))
                rows.append(row_key)
            else:
                refusals.add(row_key, "missing_box", "none of its boxes can be read and lies in the image")
        categories = dict.fromkeys(category for category, _ in study.phrases)
        file = self._file(dicom_id, study.path)
        suffix = PurePosixPath(file).suffix.lower()
        return Entry(
            dicom_id,
            file,
            rows=tuple(rows),
            split=study.split,
            marks=tuple(study.marks),
            labels=tuple((category, 1, ANNOTATOR) for category in categories),
            asked=tuple(asked),
            table_size=study.size,
            origin=f"mimic-cxr:{dicom_id}",
            patient_key=patient_key(FAMILY, study.patient, self.key, restricted=True),
            stored_as=dicom_id + (suffix if suffix in IMAGE_SUFFIXES else ""),
        )

    def _file(self, dicom_id: str, path: str) -> str:
        places = (path, f"{dicom_id}.jpg", f"images/{dicom_id}.jpg")
        return next((place for place in places if isfile(self.root / place)), path)  # a name too long is no file


def _studies(path: Path, refusals: Refusals) -> dict[str, _Study]:
    """dicom_id -> what the table says of it, in the order of the lines."""
    studies: dict[str, _Study] = {}
    for number, cells in csv_rows.rows(path, COLUMNS):
        key = f"{path.name}#{number}"
        found = cells if isinstance(cells, Problem) else _described(cells)
        if isinstance(found, Problem) or isinstance(cells, Problem):
            refusals.add(key, found.error_class, found.message)
            continue
        study = studies.setdefault(cells["dicom_id"].strip(), found)
        if (study.path, study.size, study.split) != (found.path, found.size, found.split):
            refusals.add(key, "contradictory_row", "path, size or split differ from those of the image's first line")
            continue
        _add(study, key, cells, refusals)
    return studies


def _described(cells: Mapping[str, str]) -> _Study | Problem:
    """What a line says of its image, or why it says too little."""
    path, text = cells["path"].strip(), cells["label_text"].strip()
    names = [cells["dicom_id"].strip(), cells["category_name"].strip(), text, path]
    if not all(names):
        return Problem("malformed_row", "dicom_id, category_name, label_text or path is blank")
    if not is_inside(path) or not is_inside(names[0]) or "/" in names[0]:
        return Problem("malformed_row", "dicom_id or path points outside the image folder")
    sides = [cells[name].strip() for name in ("image_width", "image_height")]
    if not all(one.isdecimal() and len(one) <= SIDE_DIGITS_MAX and int(one) > 0 for one in sides):
        return Problem("malformed_row", f"image size {' x '.join(sides)!r:.80}")
    match = SUBJECT.search(path)
    patient = match[1] if match else None
    if "split" in cells:
        split = SPLITS.get(cells["split"].strip().lower())
    else:
        split = labelled.split_of(FAMILY, patient) if patient else None
    if split is None:
        found = f"split {cells['split']!r:.20}" if "split" in cells else "no split, and a path without subject"
        return Problem("malformed_row", found)
    return _Study(path, (int(sides[0]), int(sides[1])), split, patient)


def _add(study: _Study, key: str, cells: Mapping[str, str], refusals: Refusals) -> None:
    phrase = cells["category_name"].strip(), cells["label_text"].strip()
    _, places = study.phrases.setdefault(phrase, (f"{key}:phrase", []))
    number = list(study.phrases).index(phrase)
    try:
        drawn = from_xywh([float(cells[name]) for name in ("x", "y", "w", "h")])
    except ValueError as error:
        refusals.add(key, "region_malformed", str(error))
        return
    box = clamp(drawn, study.size)
    if box is None:
        refusals.add(key, "region_outside", f"nothing of box {drawn} lies in the image")
        return
    study.marks.append(Mark(key, box, phrase[0], f"{ANNOTATOR} phrase {number}"))
    places.append(f"{zone(box, study.size)} {side(box, study.size, mirrored=True)}")
