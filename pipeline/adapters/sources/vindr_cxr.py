"""VinDr-CXR (Nguyen et al., Sci Data 2022): three readers' boxes for each image, merged by a stated rule.

Two forms: Kaggle's `train.csv` (VinBigData), and PhysioNet's `annotations_train.csv`, with `annotations_test.csv` where
that is there; each must have Kaggle's columns. A row is an image with all lines about it, or a line that does not say
which image, class and reader it is about. An image is kept when its DICOM is stored, as an 8-bit PNG in native pixels:
those the boxes count in, so resized exports are not read. Boxes of one class are merged by `reader_merge`; every group
stays, and its provenance says how many of the readers drew it. Who marked a class, or did not, is a finding per
reader, and their vote (`reader_merge.consensus`) one of `vindr-consensus`; only the vote is asked about. The Kaggle
form has no test labels, and no form read here names patients: the splits of the first are drawn by image.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

from pipeline.adapters.dicom import png_of
from pipeline.adapters.sources import csv_rows, labelled
from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.adapters.sources.drafts import Problem, is_inside
from pipeline.adapters.sources.labelled import Entry, Label, Mark, Refusals
from pipeline.adapters.sources.presence import presence_questions
from pipeline.adapters.sources.reader_merge import Reading, consensus, merge
from schemas.boxes import Box, as_box
from schemas.errors import InputError

FORMS: Mapping[str, Mapping[str, str | None]] = {  # form -> file -> split of its rows (None: drawn); the first must be
    "kaggle": {"train.csv": None},
    "physionet": {"annotations_train.csv": "train", "annotations_test.csv": "test"},
}
EDGES = ("x_min", "y_min", "x_max", "y_max")
COLUMNS = ("image_id", "class_name", "rad_id", *EDGES)
IMAGE_FOLDERS = ("", "train", "test")
NO_FINDING = "No finding"
CONSENSUS = "vindr-consensus"


@dataclass
class _Reads:
    """One image: who marked what, in the order of the lines."""

    file: str
    readers: dict[str, set[str]] = field(default_factory=dict)  # reader -> classes marked
    boxes: dict[str, list[Reading]] = field(default_factory=dict)  # class -> boxes
    cleared: dict[str, str] = field(default_factory=dict)  # reader -> row key of its "No finding"

    def votes(self, finding: str) -> int:
        return consensus(sum(finding in marked for marked in self.readers.values()), len(self.readers))


@dataclass(frozen=True, slots=True)
class VindrCxr:
    """`window`: which grey window of the DICOMs; default the file's own."""

    root: Path
    window: str | None = None
    name: ClassVar[str] = "vindr-cxr"
    revision: ClassVar[int] = 2
    licence: ClassVar[str] = "PhysioNet-Credentialed-1.5.0"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    def config(self) -> dict[str, Any]:
        return {"form": self.form(), "window": self.window}

    def form(self) -> str:
        """kaggle or physionet; InputError unless the folder is exactly one of them."""
        found = [form for form, files in FORMS.items() if (self.root / next(iter(files))).is_file()]
        if len(found) == 1:
            return found[0]
        fix = "give the folder with train.csv or annotations_train.csv, and the DICOMs"
        raise InputError("VinDr-CXR in two forms at once" if found else "no VinDr-CXR here", where=self.root, fix=fix)

    def plan(self) -> list[SourceShard]:
        labelled.require_dicom(self.window)
        refusals = Refusals()
        images = _images(self.root, FORMS[self.form()], refusals)
        classes = tuple(sorted({one for reads in images.values() for one in reads.boxes}))
        how_often = Counter(one for reads in images.values() for one in reads.boxes if reads.votes(one) == 1)
        files = labelled.files_by_name(self.root, IMAGE_FOLDERS, (".dicom", ".dcm"))
        paths = {Path(name).stem: path for name, path in files.items()}
        entries = [
            self._entry(image_id, paths.get(image_id, f"{image_id}.dicom"), reads, classes, how_often)
            for image_id, reads in images.items()
        ]
        return labelled.shards([*entries, *labelled.unlisted(paths, set(images)), *refusals.entry()])

    def digest(self, shard: SourceShard) -> str:
        return labelled.digest(shard, self.root)

    def read(self, shard: SourceShard) -> SourceRows:
        return labelled.read(self, shard, self.root, partial(png_of, window=self.window))

    def _entry(
        self, image_id: str, file: str, reads: _Reads, classes: tuple[str, ...], how_often: Mapping[str, int]
    ) -> Entry:
        votes = {finding: reads.votes(finding) for finding in classes}
        present = [finding for finding, vote in votes.items() if vote == 1]
        absent = [finding for finding, vote in votes.items() if vote == 0]
        own = [
            _label(finding, int(finding in marked), reader)
            for reader, marked in sorted(reads.readers.items())
            for finding in classes
        ]
        return Entry(
            image_id,
            file,
            rows=(f"{reads.file}:{image_id}",),
            split=FORMS[self.form()][reads.file] or labelled.split_of(self.name, image_id),
            marks=tuple(_marks(reads)),
            labels=(*(_label(finding, vote, CONSENSUS) for finding, vote in votes.items()), *own),
            asked=presence_questions(self.name, image_id, present, absent, how_often),
        )


def _images(root: Path, files: Iterable[str], refusals: Refusals) -> dict[str, _Reads]:
    """Image id -> its reads, in the order in which images first appear; lines that contradict others are refused."""
    images: dict[str, _Reads] = {}
    for file in files:
        for line in _lines(root / file, refusals) if (root / file).is_file() else ():
            reads = images.setdefault(line.image_id, _Reads(file))
            if reads.file != file:
                refusals.add(line.row_key, "second_file", f"{line.image_id} is in {reads.file} too")
            else:
                _add(reads, line)
    for reads in images.values():
        for reader, row_key in reads.cleared.items():
            if marked := reads.readers[reader]:
                what = f"reader {reader} marks nothing and {sorted(marked)}"
                refusals.add(row_key, "region_contradictory", what)
    return images


def _add(reads: _Reads, line: "_Line") -> None:
    marked = reads.readers.setdefault(line.reader, set())
    if line.finding == NO_FINDING:
        reads.cleared.setdefault(line.reader, line.row_key)
        return
    marked.add(line.finding)
    boxes = reads.boxes.setdefault(line.finding, [])
    if line.box_xyxy_px is not None:
        boxes.append(Reading(line.box_xyxy_px, line.reader, line.row_key))


@dataclass(frozen=True, slots=True)
class _Line:
    row_key: str
    image_id: str
    finding: str
    reader: str
    box_xyxy_px: Box | None


def _lines(path: Path, refusals: Refusals) -> Iterator[_Line]:
    """A line that cannot be read is refused; one whose box alone is broken marks its class all the same."""
    for number, cells in csv_rows.rows(path, COLUMNS):
        key = f"{path.name}#{number}"
        if isinstance(cells, Problem):
            refusals.add(key, "malformed_row", cells.message)
            continue
        image_id, finding, reader = (cells[name].strip() for name in COLUMNS[:3])
        if not (image_id and finding and reader) or not is_inside(image_id) or "/" in image_id:
            what = f"image {image_id!r:.80}, class {finding!r:.80}, reader {reader!r:.80}"
            refusals.add(key, "malformed_row", what)
            continue
        box = None
        try:
            box = None if finding == NO_FINDING else as_box([float(cells[name]) for name in EDGES])
        except ValueError as error:
            refusals.add(key, "region_malformed", str(error))
        yield _Line(key, image_id, finding, reader, box)


def _marks(reads: _Reads) -> Iterable[Mark]:
    for finding, readings in sorted(reads.boxes.items()):
        for group in merge(readings):
            provenance = f"vindr {len(group.readings)} of {len(reads.readers)} readers"
            yield Mark(group.readings[0].row_key, group.box_xyxy_px, finding, provenance)


@cache  # few values, many images
def _label(finding: str, value: int, annotator: str) -> Label:
    return finding, value, annotator
