"""Rows of the Hub's Parquet whose columns `image_1`, `image_2` … hold one image struct<bytes, path> or null each.

An image's name here is the sha256 of its bytes. Memory holds a few rows, never a file; nothing is judged.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import InputError

IMAGE_COLUMN = re.compile(r"image_([1-9][0-9]?)")
NEEDS = ("id", "question", "options", "answer", "question_type", "image_1")
TEXTS = (*NEEDS[:-1], "explanation")
BATCH_ROWS = 8  # an MMMU image is a third of a megabyte on average, and a row holds up to seven


def find(root: Path, splits: Iterable[str]) -> dict[str, dict[str, list[Path]]]:
    """Folder name → split → its `<split>-*.parquet`, of every folder and split that has some."""
    found: dict[str, dict[str, list[Path]]] = {}
    for split in splits:
        for path in sorted(root.glob(f"*/{split}-*.parquet")):
            found.setdefault(path.parent.name, {}).setdefault(split, []).append(path)
    for paths in (paths for of_split in found.values() for paths in of_split.values()):
        promised = {int(end[1]) for path in paths if (end := re.search(r"-of-(\d+)\.parquet$", path.name))}
        if promised and promised != {len(paths)}:
            what = f"{len(paths)} files like {paths[0].name}, their names promise {sorted(promised)}"
            raise InputError(what, where=paths[0].parent, fix="fetch all files of one revision into an empty folder")
    return found


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any], dict[int, str | None]]]:
    """(row number, its texts, k → name of image k, or None where a struct holds no bytes) of every row."""
    for number, row in _rows(path, None):
        cells = _images(row)
        yield number, row, {k: hashlib.sha256(data).hexdigest() if data else None for k, (data, _) in cells.items()}


def images(path: Path, wanted: Collection[int]) -> Iterator[tuple[int, dict[str, tuple[bytes, str]]]]:
    """(row number, image name → its bytes and file name) of the wanted rows."""
    for number, row in _rows(path, wanted):
        found: dict[str, tuple[bytes, str]] = {}
        for data, hub_path in _images(row).values():
            if data:
                name = hashlib.sha256(data).hexdigest()
                found.setdefault(name, (data, PurePosixPath(hub_path or f"{name[:16]}.png").name))
        yield number, found


def _images(row: dict[str, Any]) -> dict[int, tuple[bytes | None, str | None]]:
    """k → (bytes, path) of every `image_k` that is not null."""
    cells = ((IMAGE_COLUMN.fullmatch(name), cell) for name, cell in row.items())
    return {int(found[1]): (cell.get("bytes"), cell.get("path")) for found, cell in cells if found and cell}


def _rows(path: Path, wanted: Collection[int] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """All rows with texts and images, or the images of the wanted ones; other row groups are not read."""
    try:
        with pq.ParquetFile(path) as file:
            columns = _columns(file.schema_arrow, path, texts=wanted is None)
            start = 0
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                last = stop - 1 if wanted is None else max((row for row in wanted if start <= row < stop), default=-1)
                if last >= start:
                    yield from _group(file, group, columns, range(start, last + 1), wanted)
                start = stop
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a readable Parquet file: {error}", where=path, fix="fetch the file again") from error


def _group(
    file: pq.ParquetFile, group: int, columns: list[str], numbers: range, wanted: Collection[int] | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    first = numbers.start
    for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns):
        for at in range(batch.num_rows):
            if wanted is None or first + at in wanted:
                yield first + at, batch.slice(at, 1).to_pylist()[0]
        first += batch.num_rows
        if first >= numbers.stop:
            return


def _columns(schema: pa.Schema, path: Path, *, texts: bool) -> list[str]:
    missing = [name for name in NEEDS if name not in schema.names]
    if missing:
        raise InputError(f"columns {missing} are missing", where=path, fix="fetch MMMU/MMMU as it is on the Hub")
    shown = [field for field in schema if IMAGE_COLUMN.fullmatch(field.name) and not pa.types.is_null(field.type)]
    for field in shown:
        if not (pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0):
            what = f"column `{field.name}` is {field.type}, not struct<bytes, path>"
            raise InputError(what, where=path, fix="fetch MMMU/MMMU as it is on the Hub")
    told = [name for name in TEXTS if texts and name in schema.names]
    return [*told, *(field.name for field in shown)]
