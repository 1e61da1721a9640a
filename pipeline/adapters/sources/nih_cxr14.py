"""NIH ChestX-ray14 (Wang et al., CVPR 2017): labels mined from reports for all images, boxes drawn for some.

A row is a line of `Data_Entry_2017_v2020.csv`; it is kept when its image is stored. Images lie in `images/` or in the
`images_0NN/images/` that the twelve archives unpack to; a listed image that is not there is a reject. The label list
of a line is complete over the 14 findings by the way it was made, so annotator `nih-nlp` says 1 for what is listed and
0 for the rest; `nih-radiologist` says 1 where a box was drawn, and nothing else. A finding is asked about as present
when either says so. Splits are the published lists, or else four patients of five.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from pipeline.adapters.patients import patient_key
from pipeline.adapters.sources import csv_rows, labelled
from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.adapters.sources.drafts import Problem, is_inside
from pipeline.adapters.sources.labelled import Entry, Label, Mark, Refusals
from pipeline.adapters.sources.nih_boxes import FINDINGS, RADIOLOGIST, REPAIRS, TABLE_SIZE, read_boxes
from pipeline.adapters.sources.presence import presence_questions
from schemas.errors import InputError

ENTRIES = "Data_Entry_2017_v2020.csv"
SPLIT_LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
IMAGE_FOLDERS = ("images", "images_*/images")
NO_FINDING = "No Finding"
LABELLER = "nih-nlp"
FAMILY = "nih"
DIGITS_MAX = 18  # of a patient's number; they have up to 8


@dataclass(frozen=True, slots=True)
class _Row:
    row_key: str
    name: str
    patient: str
    listed: tuple[str, ...]
    split: str


@dataclass(frozen=True, slots=True)
class NihCxr14:
    root: Path
    name: ClassVar[str] = "nih-cxr14"
    revision: ClassVar[int] = 2
    licence: ClassVar[str] = "LicenseRef-NIH-CXR14"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    def config(self) -> dict[str, Any]:
        return {"repairs": dict(REPAIRS), "splits": "lists" if self._has_lists() else "by patient"}

    def plan(self) -> list[SourceShard]:
        if not (self.root / ENTRIES).is_file():
            fix = f"give the folder with {ENTRIES}, BBox_List_2017.csv and images/ or images_001/images/ …"
            raise InputError("no NIH ChestX-ray14 here", where=self.root, fix=fix)
        refusals = Refusals()
        rows = list(self._rows(refusals))
        boxes = read_boxes(self.root, {row.name for row in rows}, refusals)
        shown = {row.name: _shown(row.listed, boxes.get(row.name, ())) for row in rows}
        how_often = Counter(finding for present in shown.values() for finding in present)
        files = labelled.files_by_name(self.root, IMAGE_FOLDERS, (".png",))
        entries = [
            self._entry(row, files.get(row.name, f"images/{row.name}"), boxes, shown[row.name], how_often)
            for row in rows
        ]
        others = labelled.unlisted(files, set(shown))
        return labelled.shards([*entries, *others, *refusals.entry()])

    def digest(self, shard: SourceShard) -> str:
        return labelled.digest(shard, self.root)

    def read(self, shard: SourceShard) -> SourceRows:
        return labelled.read(self, shard, self.root)

    def _has_lists(self) -> bool:
        present = [name for name in SPLIT_LISTS.values() if (self.root / name).is_file()]
        if len(present) == 1:
            raise InputError(f"{present[0]} is here alone", where=self.root, fix=f"put {SPLIT_LISTS} side by side")
        return bool(present)

    def _lists(self) -> dict[str, str] | None:
        """Image name -> split of the published lists; None without them."""
        if not self._has_lists():
            return None
        lines = {split: _lines(self.root / name) for split, name in SPLIT_LISTS.items()}
        if both := sorted(set(lines["train"]) & set(lines["test"])):
            raise InputError(f"{len(both)} images are in both split lists, {both[0]} first", where=self.root)
        return {name: split for split, names in lines.items() for name in names}

    def _rows(self, refusals: Refusals) -> Iterator[_Row]:
        """Rows that can be read; the others are refused. The first row about an image stays."""
        lists = self._lists()
        taken: dict[str, str] = {}
        needs = ("Image Index", "Finding Labels", "Patient ID")
        for number, cells in csv_rows.rows(self.root / ENTRIES, needs):
            key = f"{ENTRIES}#{number}"
            problem = cells if isinstance(cells, Problem) else _problem(cells, lists)
            if problem is not None or isinstance(cells, Problem):
                refusals.add(key, problem.error_class, problem.message)
                continue
            name, patient = cells["Image Index"].strip(), str(int(cells["Patient ID"]))
            if taken.setdefault(name, key) != key:
                refusals.add(key, "duplicate_row", f"{name} is taken by {taken[name]}")
                continue
            split = lists[name] if lists is not None else labelled.split_of(FAMILY, patient)
            yield _Row(key, name, patient, _listed(cells["Finding Labels"]), split)

    def _entry(
        self,
        row: _Row,
        file: str,
        boxes: Mapping[str, tuple[Mark, ...]],
        present: tuple[str, ...],
        how_often: Mapping[str, int],
    ) -> Entry:
        marks = boxes.get(row.name, ())
        drawn = tuple(finding for finding in FINDINGS if any(mark.label == finding for mark in marks))
        absent = [finding for finding in FINDINGS if finding not in present]
        return Entry(
            row.name,
            file,
            rows=(row.row_key,),
            split=row.split,
            marks=marks,
            labels=_labels(row.listed, drawn),
            asked=presence_questions(self.name, row.name, present, absent, how_often),
            table_size=TABLE_SIZE,
            origin=f"{FAMILY}:{row.name}",
            patient_key=patient_key(FAMILY, row.patient, None, restricted=False),
        )


def nih_patient(image_name: str) -> str | None:
    """00000550_000.png → 550, the patient's number; None for a name of another form."""
    number, _, rest = image_name.partition("_")
    return str(int(number)) if _is_number(number) and rest.endswith(".png") else None


def _is_number(digits: str) -> bool:
    return digits.isdecimal() and len(digits) <= DIGITS_MAX  # Python refuses to read thousands of digits


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeError) as error:
        raise InputError("not a readable list of image names", where=path, fix="fetch the file again") from error


def _listed(cell: str) -> tuple[str, ...]:
    """The findings of "Cardiomegaly|Effusion" in the order of FINDINGS; none for "No Finding"."""
    names = {name.strip() for name in cell.split("|")}
    return tuple(finding for finding in FINDINGS if finding in names)


def _problem(cells: Mapping[str, str], lists: Mapping[str, str] | None) -> Problem | None:
    name, patient = cells["Image Index"].strip(), cells["Patient ID"].strip()
    names = {one.strip() for one in cells["Finding Labels"].split("|")}
    if not name or not _is_number(patient):
        return Problem("malformed_row", f"image {name!r:.80}, patient {patient!r:.80}")
    if not is_inside(name) or "/" in name:
        return Problem("unsafe_path", f"{name!r:.80} is no plain file name")
    if unknown := sorted(names - {*FINDINGS, NO_FINDING}):
        return Problem("unknown_label", f"{unknown} are not among the 14 findings")
    if NO_FINDING in names and len(names) > 1:
        return Problem("contradictory_labels", f"{NO_FINDING} beside {sorted(names - {NO_FINDING})}")
    if lists is not None and name not in lists:
        return Problem("missing_split", f"{name} is in neither split list")
    return None


def _shown(listed: tuple[str, ...], marks: tuple[Mark, ...]) -> tuple[str, ...]:
    drawn = {mark.label for mark in marks}
    return tuple(finding for finding in FINDINGS if finding in listed or finding in drawn)


@cache  # few combinations, many images
def _labels(listed: tuple[str, ...], drawn: tuple[str, ...]) -> tuple[Label, ...]:
    mined = tuple((finding, int(finding in listed), LABELLER) for finding in FINDINGS)
    return mined + tuple((finding, 1, RADIOLOGIST) for finding in drawn)
