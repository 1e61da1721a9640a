"""Images whose labels and boxes stand in tables beside them: all that the tables say of one image, kept together.

The tables are read once, when a source is planned; an `Entry` carries what they say. A row stands or falls with its
image. A box that lies outside costs no row, and neither does a line about an image the tables do not list: both are
rejects of their own. Nothing is read from a picture here, and no label is made up.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from pipeline.adapters.dicom_frames import INSTALL
from pipeline.adapters.dicom_windows import MINMAX
from pipeline.adapters.sources import drafts
from pipeline.adapters.sources.base import Source, SourceRows, SourceShard, runs
from pipeline.adapters.sources.drafts import STAGE, Group, Problem
from schemas.boxes import Box, Size, clamp
from schemas.errors import InputError, UsageError
from schemas.records import Finding, Image, Question, Region, Reject
from schemas.seeds import uniform

X_RAY = "X-Ray"
TEMPLATE = "template"  # phrase_type: we worded the question, nobody asked it
TRAIN_SHARE = 0.8

Label = tuple[str, int | None, str]  # finding, value, annotator
Refusal = tuple[str, Problem]  # row key, why


@dataclass(frozen=True, slots=True)
class Mark:
    """A box as its table gives it, in pixels of `Entry.table_size`."""

    row_key: str
    box_xyxy_px: Box
    label: str
    provenance: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A template question; `key` tells it from the others of its image."""

    key: str
    text: str
    answer: str
    question_type: str
    answer_kind: str = "closed"
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One image; `rows` are the row keys that are kept or refused with it, `refused` what is refused in any case.

    Without `file` there is no image, only refusals. `stored_as` is the name it gets in the store and in messages, for
    files whose own path tells the patient. `table_size` is the size that the boxes were drawn at, None where it is the
    image's own.
    """

    name: str
    file: str
    rows: tuple[str, ...] = ()
    split: str = "train"
    marks: tuple[Mark, ...] = ()
    labels: tuple[Label, ...] = ()
    asked: tuple[Asked, ...] = ()
    refused: tuple[Refusal, ...] = ()
    table_size: Size | None = None
    origin: str | None = None
    patient_key: str | None = None
    stored_as: str | None = None


@dataclass
class Refusals:
    """Row keys and reasons, in the order they were met."""

    found: list[Refusal] = field(default_factory=list)

    def add(self, row_key: str, error_class: str, message: str) -> None:
        self.found.append((row_key, Problem(error_class, message)))

    def entry(self) -> list[Entry]:
        return [Entry("", "", refused=tuple(self.found))] if self.found else []


def split_of(family: str, patient: str) -> str:
    """train for four patients of five, test for the fifth: drawn by patient, so two sources of one family agree."""
    return "train" if uniform("split", family, patient) < TRAIN_SHARE else "test"


def key_name(key: bytes | None) -> str | None:
    """Which key a store was made with, without telling it: 8 digits of its sha256."""
    return None if key is None else hashlib.sha256(key).hexdigest()[:8]


def require_dicom(window: str | None) -> None:
    """Stops before a whole data set is refused image by image, for want of a library or for a window of CT."""
    if window is not None and window != MINMAX and not window.isdecimal():
        raise UsageError(f"X-rays have no window {window!r}", fix=f"an index from 0, or {MINMAX}")
    if find_spec("pydicom") is None:
        raise InputError("this source reads DICOM, which needs the extra `dicom`", fix=INSTALL)


def files_by_name(root: Path, folders: Sequence[str], suffixes: Sequence[str]) -> dict[str, str]:
    """File name -> path under `root`, for files directly in the folders (globs, "" the root); the first one wins."""
    places = [place for pattern in folders for place in (sorted(root.glob(pattern)) if pattern else [root])]
    found: dict[str, str] = {}
    for place in filter(Path.is_dir, places):
        for path in sorted(place.iterdir()):
            if path.suffix.lower() in suffixes and not path.name.startswith("."):
                found.setdefault(path.name, path.relative_to(root).as_posix())
    return found


def unlisted(files: Mapping[str, str], listed: set[str]) -> list[Entry]:
    """Entries of the image files that no row is about."""
    names = sorted(files.keys() - listed, key=lambda name: (drafts.natural(name), name))
    return [Entry(name, files[name]) for name in names]


def shards(entries: Sequence[Entry]) -> list[SourceShard]:
    return [SourceShard(f"{number:05d}", tuple(run)) for number, run in enumerate(runs(entries))]


def digest(shard: SourceShard, root: Path) -> str:
    """sha256 over the entries and the bytes, or the absence, of their files."""
    return drafts.digest(shard, root, (entry.file for entry in shard.payload if entry.file))


def read(source: Source, shard: SourceShard, root: Path, convert: Callable[[bytes], bytes] | None = None) -> SourceRows:
    """Entries meet their images; `convert` makes the stored bytes out of the file's (DICOM to PNG)."""
    rows = SourceRows()

    def refuse(refusals: Sequence[Refusal]) -> None:
        rows.rejects.extend(
            Reject(STAGE, source.name, shard.key, key, problem.error_class, problem.message)
            for key, problem in refusals
        )

    for entry in shard.payload:
        refuse(entry.refused)
        if not entry.file:
            continue
        image = _image(source, entry, root, convert)
        if isinstance(image, Problem):
            without_row = Problem(f"unasked_{image.error_class}", image.message)
            refuse([(key, image) for key in entry.rows] or [(entry.name, without_row)])
            continue
        found = list(_regions(entry, (image.width, image.height)))
        refuse([one for one in found if not isinstance(one, Region)])
        rows.images.append(image)
        rows.findings.extend(Finding(image.image_id, *label, source.name) for label in entry.labels)
        regions = tuple(one for one in found if isinstance(one, Region))
        rows.questions.extend(_questions(source.name, entry, image.image_id, regions))
    return rows


def _image(source: Source, entry: Entry, root: Path, convert: Callable[[bytes], bytes] | None) -> Image | Problem:
    name = entry.stored_as or entry.file
    try:
        data = (root / entry.file).read_bytes()
        data = data if convert is None else convert(data)
    except (FileNotFoundError, NotADirectoryError):
        return Problem("missing_image", f"no file {name}")
    except OSError as error:
        return Problem("unreadable_image", f"{name}: {error.strerror}")
    except InputError as error:
        return Problem("unreadable_image", f"{name}: {error.what}")
    path = name if convert is None else str(PurePosixPath(name).with_suffix(".png"))
    group = Group((entry.name,), (), X_RAY)
    image = drafts.image_of(data, path, group, source=source.name, licence=source.licence)
    return image if isinstance(image, Problem) else replace(image, origin=entry.origin, patient_key=entry.patient_key)


def _regions(entry: Entry, size: Size) -> Iterator[Region | Refusal]:
    width, height = entry.table_size or size
    for mark in entry.marks:
        x0, y0, x1, y1 = mark.box_xyxy_px
        box = x0 * size[0] / width, y0 * size[1] / height, x1 * size[0] / width, y1 * size[1] / height
        inside = _storable(clamp(box, size))
        if inside is None:
            what = f"nothing of box {mark.box_xyxy_px} lies in the {width} × {height} image"
            yield mark.row_key, Problem("region_outside", what)
        else:
            yield Region(inside, mark.label, mark.provenance)


def _storable(box: Box | None) -> Box | None:
    """`box` in the float32 of its column; None where nothing is left of it there."""
    if box is None:
        return None
    x0, y0, x1, y1 = struct.unpack("4f", struct.pack("4f", *box))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _questions(source: str, entry: Entry, image_id: str, regions: tuple[Region, ...]) -> Iterator[Question]:
    for asked in entry.asked:
        yield Question(
            question_id=f"{source}/{entry.name}/{asked.key}",
            source=source,
            split=entry.split,
            image_ids=(image_id,),
            question=asked.text,
            answer=asked.answer,
            answer_kind=asked.answer_kind,
            options=asked.options,
            question_type=asked.question_type,
            phrase_type=TEMPLATE,
            regions=regions,
            patient_key=entry.patient_key,
        )
