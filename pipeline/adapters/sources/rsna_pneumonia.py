"""RSNA Pneumonia Detection Challenge 2018 (Shih et al., 2019): one question and the consensus boxes of each patient.

A row is a patient, with all lines of `stage_2_train_labels.csv` about it (one line per box), or a line that names no
patient. It is kept when its DICOM in `stage_2_train_images/` is stored, as an 8-bit PNG without tags.
`stage_2_detailed_class_info.csv` and `nih_mapping.csv` (patientId, nih_image_index) are read where they are there. The
mapping tells which NIH image and patient it is; without it, the patient is RSNA's own and the origin unknown. Only the
training labels are published, so splits are drawn: four patients of five train, the same draw as NIH's without lists.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pipeline.adapters.dicom import png_of
from pipeline.adapters.patients import patient_key
from pipeline.adapters.sources import csv_rows, labelled
from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.adapters.sources.drafts import Problem, is_inside
from pipeline.adapters.sources.labelled import Asked, Entry, Label, Mark, Refusals
from pipeline.adapters.sources.nih_cxr14 import FAMILY as NIH
from pipeline.adapters.sources.nih_cxr14 import nih_patient
from schemas.boxes import Box, from_xywh
from schemas.errors import InputError

LABELS, CLASSES, MAPPING = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv", "nih_mapping.csv"
IMAGES = "stage_2_train_images"
OPACITY = "Lung Opacity"
ANNOTATOR = "rsna-consensus"
FAMILY = "rsna"
QUESTION = "Is there a lung opacity suspicious for pneumonia?"
EDGES = ("x", "y", "width", "height")


@dataclass
class _Patient:
    """Its lines of the label table; `targets` says 0 or 1 once per line."""

    targets: list[str] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RsnaPneumonia:
    """`window`: which grey window of the DICOMs; default the file's own."""

    root: Path
    window: str | None = None
    name: ClassVar[str] = "rsna-pneumonia"
    revision: ClassVar[int] = 2
    licence: ClassVar[str] = "LicenseRef-RSNA-2018"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    def config(self) -> dict[str, Any]:
        return {"window": self.window}

    def plan(self) -> list[SourceShard]:
        if not (self.root / LABELS).is_file():
            raise InputError("no RSNA pneumonia set here", where=self.root, fix=f"give the folder with {LABELS}")
        labelled.require_dicom(self.window)
        refusals = Refusals()
        patients = _patients(self.root / LABELS, refusals)
        classes = _classes(self.root / CLASSES, patients, refusals)
        mapping = _mapping(self.root / MAPPING)
        entries = []
        for patient, lines in patients.items():
            problem = _problem(patient, lines, classes.get(patient, []))
            if problem is not None:
                refusals.add(f"{LABELS}:{patient}", problem.error_class, problem.message)
            else:
                entries.append(_entry(patient, lines, classes.get(patient, []), mapping.get(patient)))
        files = labelled.files_by_name(self.root, (IMAGES,), (".dcm",))
        others = labelled.unlisted(files, {f"{patient}.dcm" for patient in patients})
        return labelled.shards([*entries, *others, *refusals.entry()])

    def digest(self, shard: SourceShard) -> str:
        return labelled.digest(shard, self.root)

    def read(self, shard: SourceShard) -> SourceRows:
        return labelled.read(self, shard, self.root, partial(png_of, window=self.window))


def _patients(path: Path, refusals: Refusals) -> dict[str, _Patient]:
    """Patient -> its lines, in the order in which patients first appear; broken boxes cost only themselves."""
    patients: dict[str, _Patient] = {}
    for number, cells in csv_rows.rows(path, ("patientId", *EDGES, "Target")):
        key = f"{LABELS}#{number}"
        if isinstance(cells, Problem) or not cells["patientId"].strip():
            message = cells.message if isinstance(cells, Problem) else "column `patientId` is blank"
            refusals.add(key, "malformed_row", message)
            continue
        patient = patients.setdefault(cells["patientId"].strip(), _Patient())
        patient.targets.append(cells["Target"].strip())
        try:
            box = _box(cells)
        except ValueError as error:
            refusals.add(key, "region_malformed", str(error))
            continue
        if box is not None:
            patient.marks.append(Mark(key, box, OPACITY, ANNOTATOR))
    return patients


def _box(cells: Mapping[str, str]) -> Box | None:
    """The box of a line; None for four blank cells with Target 0; ValueError where box and Target differ."""
    edges = [cells[name].strip() for name in EDGES]
    is_positive = cells["Target"].strip() == "1"
    if is_positive != any(edges):
        raise ValueError(f"Target {cells['Target'].strip()!r:.20} with box {edges}")
    return from_xywh([float(edge) for edge in edges]) if is_positive else None


def _classes(path: Path, patients: Mapping[str, _Patient], refusals: Refusals) -> dict[str, list[str]]:
    """Patient -> its classes, each once: the table repeats them for every box."""
    found: dict[str, list[str]] = {}
    for number, cells in csv_rows.rows(path, ("patientId", "class")) if path.is_file() else ():
        if isinstance(cells, Problem):
            refusals.add(f"{CLASSES}#{number}", "unasked_class", cells.message)
            continue
        patient, name = cells["patientId"].strip(), cells["class"].strip()
        if patient not in patients or not name:
            refusals.add(f"{CLASSES}#{number}", "unasked_class", f"patient {patient!r:.80}, class {name!r:.80}")
        elif name not in found.setdefault(patient, []):
            found[patient].append(name)
    return found


def _mapping(path: Path) -> dict[str, str]:
    """Patient -> NIH image name; InputError when one patient has two."""
    found: dict[str, str] = {}
    for _, cells in csv_rows.rows(path, ("patientId", "nih_image_index")) if path.is_file() else ():
        if isinstance(cells, Problem):
            raise InputError(cells.message, where=path, fix=csv_rows.REFETCH)
        patient, name = cells["patientId"].strip(), cells["nih_image_index"].strip()
        if found.setdefault(patient, name) != name:
            raise InputError(f"{patient} is {found[patient]} and {name}", where=path, fix="keep the one that is right")
    return {patient: name for patient, name in found.items() if name}


def _problem(patient: str, lines: _Patient, classes: list[str]) -> Problem | None:
    targets = sorted(set(lines.targets))
    if not is_inside(patient) or "/" in patient:
        return Problem("unsafe_path", f"{patient!r:.80} is no plain name")
    if targets not in (["0"], ["1"]):
        return Problem("contradictory_target", f"its lines have the targets {targets}")
    if len(classes) > 1 or (classes and (classes[0] == OPACITY) != (targets == ["1"])):
        return Problem("contradictory_class", f"Target {targets[0]} with the classes {classes}")
    return None


def _entry(patient: str, lines: _Patient, classes: list[str], nih_image: str | None) -> Entry:
    is_positive = lines.targets[0] == "1"
    opacity: Label = (OPACITY, int(is_positive), ANNOTATOR)
    others: list[Label] = [(name, 1, ANNOTATOR) for name in classes if name != OPACITY]
    nih = nih_patient(nih_image) if nih_image else None
    family, number = (NIH, nih) if nih is not None else (FAMILY, patient)
    return Entry(
        patient,
        f"{IMAGES}/{patient}.dcm",
        rows=(f"{LABELS}:{patient}",),
        split=labelled.split_of(family, number),
        marks=tuple(lines.marks),
        labels=(opacity, *others),
        asked=(Asked("opacity", QUESTION, "yes" if is_positive else "no", "presence"),),
        origin=f"{NIH}:{nih_image}" if nih_image else None,
        patient_key=patient_key(family, number, None, restricted=False),
    )
