"""Small folders in the literal layouts of chest X-ray sets, and everything a source reads from one."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from pipeline.adapters.png import write_png
from pipeline.adapters.sources.base import Source
from pipeline.adapters.sources.drafts import FILE_PROBLEMS
from schemas.records import Finding, Image, Question, Reject
from schemas.rows import from_table, to_table


@dataclass(frozen=True)
class Found:
    images: dict[str, Image]  # by path
    questions: dict[str, Question]
    findings: list[Finding]
    rejects: dict[str, Reject]

    def reasons(self) -> dict[str, str]:
        return {key: reject.error_class for key, reject in self.rejects.items()}

    def row_rejects(self) -> dict[str, str]:
        return {key: why for key, why in self.reasons().items() if not why.startswith(FILE_PROBLEMS)}

    def values(self, image: Image, annotator: str) -> dict[str, int | None]:
        return {
            one.finding: one.value
            for one in self.findings
            if one.image_id == image.image_id and one.annotator == annotator
        }


def read_all(source: Source) -> Found:
    """What all shards give, with the promises every source makes."""
    shards = source.plan()
    assert [shard.key for shard in shards] == sorted({shard.key for shard in shards})
    assert ForkingPickler.loads(ForkingPickler.dumps(source)).plan() == shards
    rows = [source.read(shard) for shard in shards]
    images = [one for part in rows for one in part.images]
    questions = [one for part in rows for one in part.questions]
    findings = [one for part in rows for one in part.findings]
    rejects = [one for part in rows for one in part.rejects]
    for name, records in (("images", images), ("questions", questions), ("findings", findings), ("rejects", rejects)):
        assert len(from_table(name, to_table(name, records))) == len(records)
    assert len({(one.image_id, one.finding, one.annotator) for one in findings}) == len(findings)
    assert {image_id for one in questions for image_id in one.image_ids} <= {one.image_id for one in images}
    assert {one.phrase_type for one in questions} <= {"template"}
    assert {one.licence for one in images} <= {source.licence}
    found = Found(
        {one.path: one for one in images},
        {one.question_id: one for one in questions},
        findings,
        {one.row_key: one for one in rejects},
    )
    assert (len(found.images), len(found.questions), len(found.rejects)) == (len(images), len(questions), len(rejects))
    return found


def answers(found: Found, start: str) -> dict[str, str]:
    """The last part of the id of each question that begins with `start` -> its answer."""
    return {key.rsplit("/", 1)[1]: one.answer for key, one in found.questions.items() if key.startswith(start)}


def boxes(question: Question) -> list[tuple[str, str, tuple[float, ...]]]:
    return [(one.label, one.provenance, one.box_xyxy_px) for one in question.regions]


def put_csv(path: Path, header: str, rows: Iterable[Sequence[object]]) -> None:
    """The header as it is written in the data set, then the rows, with CRLF as spreadsheets leave it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"{header}\r\n{text.getvalue()}".encode())


def grey(number: int, size: tuple[int, int] = (32, 24)) -> np.ndarray:
    """[height, width] levels that differ between numbers."""
    width, height = size
    return (np.arange(width * height, dtype=np.uint32).reshape(height, width) * (number + 1) % 251).astype(np.uint8)


def put_png(path: Path, number: int, size: tuple[int, int] = (32, 24)) -> None:
    """PNG bytes are fine under any name: a file is what it contains."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(write_png(grey(number, size)))


def put_dicom(path: Path, number: int, size: tuple[int, int] = (32, 24), patient: str = "DOE^JANE") -> None:
    """An 8-bit MONOCHROME2 image with a name in it that must not get out."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = f"1.2.3.{number + 1}"
    ds.SOPClassUID, ds.Modality, ds.PatientName = SecondaryCaptureImageStorage, "CR", patient
    ds.Columns, ds.Rows = size
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.WindowCenter, ds.WindowWidth, ds["WindowCenter"].VR = "128", "256", "DS"
    ds.PixelData = grey(number, size).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
