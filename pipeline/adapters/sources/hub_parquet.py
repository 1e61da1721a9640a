"""A Hub data set in Parquet: `image` struct<bytes, path>, `question`, `answer`, the image repeated in every row.

Rows are grouped by the sha256 of their image bytes, in order of first appearance; that hash is the image's
name here, so drafts alone say what a shard will read. Memory holds a batch of rows, never a file.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.adapters.sources.base import SourceShard
from pipeline.adapters.sources.drafts import Draft, Group, Picture, Problem, image_of, numbered
from schemas.errors import InputError
from schemas.records import Image

COLUMNS = ("image", "question", "answer")
BATCH_ROWS = 64
PNG_MAGIC = b"\x89PNG"

Files = dict[str, tuple[str, ...]]  # split -> file names relative to the root


def find(root: Path, splits: tuple[str, ...]) -> Files | None:
    """`<split>-*.parquet` under `root/data` or `root` itself; None unless every split has some."""
    for folder in ("data", "."):
        files = {split: tuple(sorted((root / folder).glob(f"{split}-*.parquet"))) for split in splits}
        if all(files.values()):
            _check_complete(files)
            return {s: tuple(path.relative_to(root).as_posix() for path in paths) for s, paths in files.items()}
    return None


def _check_complete(files: dict[str, tuple[Path, ...]]) -> None:
    for split, paths in files.items():
        promised = {int(found[1]) for path in paths if (found := re.search(r"-of-(\d+)\.parquet$", path.name))}
        if promised and promised != {len(paths)}:
            what = f"split {split} has {len(paths)} files, their names promise {sorted(promised)}"
            raise InputError(what, where=paths[0].parent, fix="fetch all files of one revision into an empty folder")


def plan(root: Path, files: Files, draft_of: Callable[[str, str, int, dict[str, Any]], Draft]) -> list[SourceShard]:
    """`draft_of(row key, split, row number within the split, row)` decides; the row's `image` is a name or None."""
    by_images: dict[tuple[str, ...], list[Draft]] = {}
    for split, names in files.items():
        number = 0
        for name in names:
            for row_in_file, row in _rows(root / name):
                data = (row["image"] or {}).get("bytes")
                row["image"] = hashlib.sha256(data).hexdigest() if data else None
                drafted = draft_of(f"{name}#{row_in_file}", split, number, row)
                by_images.setdefault(drafted.image_names, []).append(drafted)
                number += 1
    return numbered([Group(names, tuple(drafts)) for names, drafts in by_images.items()])


def pictures(root: Path, shard: SourceShard, *, source: str, licence: str) -> dict[str, Picture | Problem]:
    """Image name → what its bytes are; a row that keeps no path gets one from its hash."""
    found: dict[str, Picture | Problem] = {}
    for group, data, hub_path in image_bytes(root, shard):
        path = hub_path or f"{group.image_name[:16]}{'.png' if data.startswith(PNG_MAGIC) else '.jpg'}"
        image = image_of(data, path, group, source=source, licence=licence)
        found[group.image_name] = Picture(image) if isinstance(image, Image) else image
    return found


def image_bytes(root: Path, shard: SourceShard) -> Iterator[tuple[Group, bytes, str | None]]:
    """Each group of the shard that has an image, with its bytes and the path the Hub kept, in file order."""
    wanted: dict[str, dict[int, Group]] = {}
    for group in shard.payload:
        if group.image_name:
            name, _, row = group.drafts[0].row_key.rpartition("#")
            wanted.setdefault(name, {})[int(row)] = group
    for name, groups in wanted.items():
        for row_in_file, row in _rows(root / name, columns=COLUMNS[:1], wanted=groups):
            if row_in_file in groups:
                yield groups[row_in_file], *_same_image(row["image"], groups[row_in_file], root / name)


def _same_image(image: dict[str, Any] | None, group: Group, where: Path) -> tuple[bytes, str | None]:
    data = (image or {}).get("bytes") or b""
    if hashlib.sha256(data).hexdigest() != group.image_name:
        raise InputError("the file changed while it was read", where=where, fix="run it again")
    return data, (image or {}).get("path")


def _rows(
    path: Path, columns: tuple[str, ...] = COLUMNS, wanted: dict[int, Group] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number in the file, row); row groups without a wanted row are not read."""
    try:
        with pq.ParquetFile(path) as file:
            _check_columns(file.schema_arrow, path)
            start = 0
            for number in range(file.num_row_groups):
                n_rows = file.metadata.row_group(number).num_rows
                if wanted is None or any(start <= row < start + n_rows for row in wanted):
                    batches = file.iter_batches(BATCH_ROWS, row_groups=[number], columns=list(columns))
                    yield from enumerate((row for batch in batches for row in batch.to_pylist()), start)
                start += n_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a readable Parquet file: {error}", where=path, fix="fetch the file again") from error


def _check_columns(schema: pa.Schema, path: Path) -> None:
    missing = [name for name in COLUMNS if name not in schema.names]
    image = None if "image" in missing else schema.field("image").type
    has_bytes = image is not None and pa.types.is_struct(image) and image.get_field_index("bytes") >= 0
    if missing or not has_bytes:
        what = f"columns {missing} are missing" if missing else f"column `image` is {image}, not struct<bytes, path>"
        raise InputError(what, where=path, fix=f"expected the Hub's Image form with columns {list(COLUMNS)}")
