"""The only code that creates files in a store: temporary → fsync → atomic name. Nothing is ever rewritten in `data/`.

Temporary files live in `work/tmp/` on the same file system, so that a killed process leaves rubbish only there.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.columns import Table, check
from schemas.errors import StoreError
from schemas.reader import sha256_file
from schemas.tables import TABLES

CHUNKS = {"min_chunk_size": 256 << 10, "max_chunk_size": 1 << 20}  # bytes


@contextmanager
def temporary(root: Path) -> Iterator[Path]:
    """A path in `work/tmp/` that is gone afterwards, whatever happened, unless it was renamed."""
    path = root / "work" / "tmp" / f"{os.getpid()}-{uuid.uuid4().hex}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        raise StoreError(what, where=error.filename or root, fix="look at free space and permissions") from error
    finally:
        with suppress(OSError):
            path.unlink()


def fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_if_absent(root: Path, path: Path, data: bytes) -> bool:
    """Create `path` with `data` in one step; False, and nothing changed, when it exists already."""
    with temporary(root) as fresh:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(data)
        fsync(fresh)
        try:
            os.link(fresh, path)
        except FileExistsError:
            return False
    fsync(path.parent)
    return True


def replace(root: Path, path: Path, data: bytes) -> None:
    """Write a derived file (never one under `data/` or `manifests/`) so that readers see the old or the new whole."""
    with temporary(root) as fresh:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(data)
        os.replace(fresh, path)


def write_parquet(
    root: Path, folder: Path, stem: str, data: pa.Table, *, is_published: bool = True
) -> tuple[Path, str]:
    """Write `data` as `<folder>/<stem>-<sha12>.parquet`; its path and full sha256. Same rows give the same bytes.

    Content-defined chunks are for files that are published: uploads of grown ones then share most of their chunks.
    """
    table = TABLES[data.schema.metadata[b"fovea.table"].decode()]
    check(table, data, where=folder)
    with temporary(root) as fresh:
        folder.mkdir(parents=True, exist_ok=True)
        chunks = CHUNKS if is_published else False
        pq.write_table(data, fresh, **_settings(table), use_content_defined_chunking=chunks)
        fsync(fresh)
        digest = sha256_file(fresh)
        path = folder / f"{stem}-{digest[:12]}.parquet"
        os.replace(fresh, path)
    if is_published:  # a work file's name lasts with that of its completion record, which is put into the same folder
        fsync(folder)
    return path, digest


def _settings(table: Table) -> dict[str, object]:
    """zstd 3, page index, byte-stream-split floats, bloom filters on ids; images stay as they are."""
    floats = {leaf: "BYTE_STREAM_SPLIT" for column in table.columns if (leaf := _float_leaf(column.name, column.type))}
    bloom = {"ndv": table.row_group_rows, "fpp": 0.05}  # pyarrow's own guess reserves megabytes per row group
    binary = any(pa.types.is_struct(column.type) for column in table.columns)
    return {
        "compression": "none" if binary else "zstd",
        "compression_level": None if binary else 3,
        "row_group_size": table.row_group_rows,
        "use_dictionary": list(table.dictionary),
        "column_encoding": floats or None,
        "bloom_filter_options": dict.fromkeys(table.ids, bloom) or None,
        "write_page_index": True,
        "write_page_checksum": True,
    }


def _float_leaf(name: str, type_: pa.DataType) -> str | None:
    while pa.types.is_list(type_):
        name, type_ = f"{name}.list.element", type_.value_type
    return name if pa.types.is_floating(type_) else None
