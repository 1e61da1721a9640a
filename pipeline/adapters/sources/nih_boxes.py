"""`BBox_List_2017.csv` of NIH ChestX-ray14: x, y, width, height in pixels of the 1024 × 1024 PNG.

Its header, `Image Index,Finding Label,Bbox [x,y,w,h],,,`, is itself split at the commas inside its bracket, so cells
are taken by their place. "Infiltrate" is what the label table calls "Infiltration"; that repair is in the source's
config. Boxes about images that the label table does not list are refused one by one.
"""

import csv
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

from pipeline.adapters.sources.csv_rows import REFETCH
from pipeline.adapters.sources.labelled import Mark, Refusals
from schemas.boxes import Size, from_xywh
from schemas.errors import InputError

BOXES = "BBox_List_2017.csv"
HEADER = ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"]
TABLE_SIZE: Size = (1024, 1024)
RADIOLOGIST = "nih-radiologist"
REPAIRS: Mapping[str, str] = {"Infiltrate": "Infiltration"}
FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)


def read_boxes(root: Path, listed: Set[str], refusals: Refusals) -> dict[str, tuple[Mark, ...]]:
    """Image name -> its boxes in file order; nothing where the file is absent."""
    found: dict[str, list[Mark]] = {}
    for number, cells in enumerate(_lines(root / BOXES) if (root / BOXES).is_file() else ()):
        key = f"{BOXES}#{number}"
        name = cells[0].strip()
        try:
            mark = _mark(key, cells)
        except ValueError as error:
            refusals.add(key, "region_malformed", str(error))
            continue
        if mark.label not in FINDINGS:
            refusals.add(key, "region_unknown_label", f"{mark.label!r:.80} is not among the 14 findings")
        elif name not in listed:
            refusals.add(key, "region_unlisted_image", f"no row lists {name!r:.80}")
        else:
            found.setdefault(name, []).append(mark)
    return {name: tuple(marks) for name, marks in found.items()}


def _mark(key: str, cells: list[str]) -> Mark:
    if len(cells) < len(HEADER) or any(cell.strip() for cell in cells[len(HEADER) :]):
        raise ValueError(f"expected {len(HEADER)} cells, found {len(cells)}")
    label = cells[1].strip()
    box = from_xywh([float(cell) for cell in cells[2 : len(HEADER)]])
    return Mark(key, box, REPAIRS.get(label, label), RADIOLOGIST)


def _lines(path: Path) -> Iterator[list[str]]:
    """Lines below the header, empty ones left out."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            if header[: len(HEADER)] != HEADER:
                raise InputError(f"unexpected header {header}", where=path, fix=f"it begins {','.join(HEADER)}")
            yield from (cells for cells in reader if cells)
    except (OSError, UnicodeError, csv.Error) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"not a readable CSV file: {what}", where=path, fix=REFETCH) from error
