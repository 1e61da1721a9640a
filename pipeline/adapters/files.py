"""The only code that creates files in a store: temporary → fsync → atomic name. Nothing is ever rewritten in `data/`.

Temporary files live in `work/tmp/` on the same file system, so that a killed process leaves rubbish only there.
"""

import os
import uuid
from collections.abc import Iterable, Iterator
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
    root: Path, folder: Path, stem: str, table: Table, runs: Iterable[pa.Table], *, is_published: bool = True
) -> tuple[Path, str]:
    """Write runs of rows as `<folder>/<stem>-<sha12>.parquet`; its path and full sha256. Same rows give the same bytes.

    A row group is in memory at a time.
    """
    with temporary(root) as fresh:
        with pq.ParquetWriter(fresh, table.schema, **_settings(table, is_published)) as writer:
            for group in _row_groups(runs, table.row_group_rows):
                check(table, group, where=folder)
                writer.write_table(group, table.row_group_rows)
        fsync(fresh)
        digest = sha256_file(fresh)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stem}-{digest[:12]}.parquet"
        os.replace(fresh, path)
    if is_published:  # a work file's name lasts with that of its completion record, which is put into the same folder
        fsync(folder)
    return path, digest


def _row_groups(runs: Iterable[pa.Table], n_rows: int) -> Iterator[pa.Table]:
    """The same rows, `n_rows` at a time; the last ones may be fewer."""
    waiting: list[pa.Table] = []
    for run in runs:
        waiting.append(run)
        while sum(one.num_rows for one in waiting) >= n_rows:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, n_rows)
            waiting = [joined.slice(n_rows)]
    if any(one.num_rows for one in waiting):
        yield pa.concat_tables(waiting)


def _settings(table: Table, is_published: bool) -> dict[str, object]:
    """zstd 3 and byte-stream-split floats; images stay as they are.

    What is published has a page index, page checksums, bloom filters on ids and content-defined chunks, so that uploads
    of grown files share most of theirs. A work file is read whole and once, against its sha256; images lie in their
    file byte for byte, where an upload finds its own chunks.
    """
    floats = {leaf: "BYTE_STREAM_SPLIT" for column in table.columns if (leaf := _float_leaf(column.name, column.type))}
    bloom = {"ndv": table.row_group_rows, "fpp": 0.05}  # pyarrow's own guess reserves megabytes per row group
    binary = any(pa.types.is_struct(column.type) for column in table.columns)
    return {
        "compression": "none" if binary else "zstd",
        "compression_level": None if binary else 3,
        "use_dictionary": list(table.dictionary),
        "column_encoding": floats or None,
        "bloom_filter_options": (is_published and dict.fromkeys(table.ids, bloom)) or None,
        "write_page_index": is_published,
        "write_page_checksum": is_published,
        "use_content_defined_chunking": CHUNKS if is_published and not binary else False,
    }


def _float_leaf(name: str, type_: pa.DataType) -> str | None:
    while pa.types.is_list(type_):
        name, type_ = f"{name}.list.element", type_.value_type
    return name if pa.types.is_floating(type_) else None
