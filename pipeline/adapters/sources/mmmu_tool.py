"""The rows of the authors' MMMU-Pro tool: `data.jsonl`, and images named in it below `static/`.

Its rows have no number: the name of their first image, `images/test_Clinical_Medicine_69_1.png`, tells split, subject
and number of the MMMU question that was given more options. Nothing else is taken from it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.adapters.sources import drafts, json_lines, mmmu_rows
from pipeline.adapters.sources.drafts import IMAGE_SUFFIXES, Draft, Problem

FOLDERS = (".", "tool", "mmmu-pro/tool")
FILE = "data.jsonl"
STATIC = "static"
IMAGES = "images"
IMAGE_KEY = re.compile(r"image_([1-9][0-9]?)")
FIRST_IMAGE = re.compile(r"(?P<id>(?P<split>dev|validation|test)_(?P<subject>\w+)_\d+)_1\.\w+")


def find(root: Path) -> Path | None:
    """The tool's folder: the root or below it."""
    folders = (root / name for name in FOLDERS)
    return next((one for one in folders if (one / FILE).is_file() and (one / STATIC / IMAGES).is_dir()), None)


def read(folder: Path) -> Iterator[tuple[str | None, Draft]]:
    """Each row's subject, None where it does not tell one, and its draft; images are named from `static/`."""
    for number, row in json_lines.rows(folder / FILE):
        yield _draft(f"{FILE}#{number}", row)


def image_names(folder: Path) -> Iterator[str]:
    """All image files as rows name them; hidden files are no images."""
    for path in (folder / STATIC / IMAGES).iterdir():
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            yield f"{IMAGES}/{path.name}"


def _draft(row_key: str, row: object) -> tuple[str | None, Draft]:
    if not isinstance(row, dict):
        what = f"expected an object, found {type(row).__name__}"
        return None, Draft(row_key, (), row if isinstance(row, Problem) else Problem("malformed_row", what))
    cells = ((IMAGE_KEY.fullmatch(key), cell) for key, cell in row.items())
    images = {int(key[1]): drafts.text_of(cell) for key, cell in cells if key and cell is not None}
    names = tuple(name for name in images.values() if name is not None)
    if outside := [name for name in names if not drafts.is_inside(name)]:
        return None, Draft(row_key, (), Problem("unsafe_path", f"{outside[0]!r:.80} points outside the image folder"))
    told = FIRST_IMAGE.fullmatch((images.get(1) or "").rpartition("/")[2])
    if told is None:
        what = f"column `image_1` is {row.get('image_1')!r:.80}, not SPLIT_SUBJECT_NUMBER_1.png"
        return None, Draft(row_key, names, Problem("missing_id", what))
    full = row | {"id": f"{mmmu_rows.PRO}{told['id']}", "question_type": "multiple-choice"}
    return told["subject"], mmmu_rows.draft(row_key, mmmu_rows.SPLITS[told["split"]], full, images)
