"""The only code that creates files in a store: temporary → fsync → atomic name. Nothing is ever rewritten in `data/`.

Temporary files live in `work/tmp/` on the same file system, so that a killed process leaves rubbish only there. A file
of a store at a URL is finished here, put there, and only then named in the mirror. The first argument says where the
store is, a path being a local one; other paths lie in the store, or in its mirror.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.adapters import remote
from schemas.columns import Table, check
from schemas.errors import StoreError
from schemas.storage import Folder, sha256_file, temporary

CHUNKS = {"min_chunk_size": 256 << 10, "max_chunk_size": 1 << 20}  # bytes


def fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_if_absent(where: Folder | Path, path: Path, data: bytes) -> bool:
    """Create `path` with `data` in one step; False, and nothing changed, when it exists already."""
    folder = Folder.of(where)
    if folder.url is not None:
        refuse_unsafe(folder)
        return remote.create(folder, name_of(folder, path), data)
    with temporary(folder) as fresh:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(data)
        fsync(fresh)
        try:
            os.link(fresh, path)
        except FileExistsError:
            return False
    fsync(path.parent)
    return True


def replace(where: Folder | Path, path: Path, data: bytes) -> None:
    """Write a derived file (never one under `data/` or `manifests/`) so that readers see the old or the new whole."""
    folder = Folder.of(where)
    if folder.url is not None:
        refuse_unsafe(folder)
        remote.put(folder, name_of(folder, path), data)
        return
    with temporary(folder) as fresh:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(data)
        os.replace(fresh, path)


def remove(where: Folder | Path, path: Path) -> None:
    """Whether or not it is there."""
    folder = Folder.of(where)
    if folder.url is not None:
        remote.remove(folder, name_of(folder, path))
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot delete: {error.strerror}", where=path, fix="look at permissions") from error


def refuse_unsafe(where: Folder | Path) -> None:
    """UsageError or StoreError, once and before the first write, where two builders could harm one another."""
    folder = Folder.of(where)
    if folder.url is not None:
        remote.refuse_unsafe(folder)


def name_of(folder: Folder, path: Path) -> str:
    """What a path in a store, or in its mirror, is called in records and manifests."""
    return path.relative_to(folder.root).as_posix()


def write_parquet(
    where: Folder | Path,
    folder: Path,
    stem: str,
    table: Table,
    runs: Iterable[pa.Table],
    *,
    is_published: bool = True,
) -> tuple[Path, str]:
    """Write runs of rows as `<folder>/<stem>-<sha12>.parquet`; its path and full sha256. Same rows give the same bytes.

    A row group is in memory at a time.
    """
    store = Folder.of(where)
    with temporary(store) as fresh:
        with pq.ParquetWriter(fresh, table.schema, **_settings(table, is_published)) as writer:
            for group in _row_groups(runs, table.row_group_rows):
                check(table, group, where=folder)
                writer.write_table(group, table.row_group_rows)
        digest = sha256_file(fresh)
        path = folder / f"{stem}-{digest[:12]}.parquet"
        if store.url is None:
            fsync(fresh)
        else:
            refuse_unsafe(store)
            remote.put(store, name_of(store, path), fresh)
        folder.mkdir(parents=True, exist_ok=True)
        os.replace(fresh, path)
    if is_published and store.url is None:
        fsync(folder)  # a work file's name lasts with that of its completion record, which is put into the same folder
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
