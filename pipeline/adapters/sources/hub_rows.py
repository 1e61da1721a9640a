"""Rows of a Hub data set, streamed through `datasets` into Parquet files as the Hub itself names them.

Pictures are never decoded: their bytes stay what they were. A part is 64 MB and appears whole; a run that was cut off
goes on after its last whole part. Memory holds one batch of rows.
"""

import os
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.adapters.files import fsync
from pipeline.adapters.sources.hub_errors import asking, library
from pipeline.adapters.sources.hub_sets import Rows
from schemas.errors import InputError

BATCH_ROWS = 64
BATCH_BYTES = 16 << 20
PART_BYTES = 64 << 20


def spool(folder: Path, wanted: Rows, split: str, *, repo: str, revision: str | None, config: str | None = None) -> int:
    """All rows of a split as `<split>-NNNNN-of-MMMMM.parquet` in `folder`; how many there are.

    `repo` is whatever `load_dataset` takes. A number of rows that differs from what the data set's card promises is
    an error: a stream that ends early looks like one that ends.
    """
    parts = _whole_parts(folder, split)
    n_rows = sum(pq.read_metadata(path).num_rows for path in parts)
    if parts and all(path.name == _name(split, number, len(parts)) for number, path in enumerate(parts)):
        return n_rows
    with asking(repo):
        stream = _stream(wanted, split, repo, revision, config)
    promised = (getattr(stream.info, "splits", None) or {}).get(split)
    rows = _asked(iter(stream.skip(n_rows) if n_rows else stream), repo)
    for batches in _parts(rows, wanted, repo):
        path = folder / f"{split}-{len(parts):05d}.parquet"
        n_rows += _write(path, batches)
        parts.append(path)
    if n_rows == 0 or (promised is not None and promised.num_examples not in (0, n_rows)):
        expected = promised.num_examples if promised is not None else "some"
        raise InputError(
            f"split {split} gave {n_rows} rows, expected {expected}", where=f"{repo}, {config}", fix="run it again"
        )
    for number, path in enumerate(parts):
        os.replace(path, folder / _name(split, number, len(parts)))
    return n_rows


def _name(split: str, number: int, n_parts: int) -> str:
    return f"{split}-{number:05d}-of-{n_parts:05d}.parquet"


def _whole_parts(folder: Path, split: str) -> list[Path]:
    """Parts 0, 1, … of an earlier run, as far as none is missing."""
    names = re.compile(rf"{re.escape(split)}-(\d{{5}})(-of-\d{{5}})?\.parquet")
    found = {int(match[1]): path for path in folder.glob("*.parquet") if (match := names.fullmatch(path.name))}
    return [found[number] for number in range(len(found)) if all(before in found for before in range(number))]


def _stream(wanted: Rows, split: str, repo: str, revision: str | None, config: str | None) -> Any:
    datasets = library("datasets")
    stream = datasets.load_dataset(repo, config, split=split, streaming=True, revision=revision)
    if missing := [name for name in wanted.columns if name not in (stream.features or {})]:
        what = f"columns {missing} are missing, there are {sorted(stream.features or {})}"
        raise InputError(what, where=repo, fix=f"name a copy in the form of {wanted.repo}")
    for name in wanted.images:
        stream = stream.cast_column(name, datasets.Image(decode=False))
    return stream.select_columns(list(wanted.columns)).reshard()  # by row group: pyarrow reads ahead in a whole file


def _asked(rows: Iterator[dict[str, Any]], repo: str) -> Iterator[dict[str, Any]]:
    while True:
        with asking(repo):
            row = next(rows, None)
        if row is None:
            return
        yield row


def _parts(rows: Iterator[dict[str, Any]], wanted: Rows, repo: str) -> Iterator[Iterator[pa.Table]]:
    """Runs of batches, each of at most about `PART_BYTES`; a run must be used up before the next is asked for."""
    batches = _batches(rows, wanted, repo)
    for first in batches:
        yield _until_full(chain([first], batches))


def _until_full(batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
    n_bytes = 0
    for batch in batches:
        yield batch
        n_bytes += batch.nbytes
        if n_bytes >= PART_BYTES:
            return


def _batches(rows: Iterator[dict[str, Any]], wanted: Rows, repo: str) -> Iterator[pa.Table]:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([(name, image if name in wanted.images else pa.string()) for name in wanted.columns])
    batch: list[dict[str, Any]] = []
    n_bytes = 0
    for row in rows:
        cells = [row[name] or {} for name in wanted.images]
        if any(cell.get("path") and cell.get("bytes") is None for cell in cells):
            what = "its rows hold paths of images, not their bytes"
            raise InputError(what, where=repo, fix=f"name a copy in the form of {wanted.repo}")
        batch.append(row)
        n_bytes += sum(len(cell.get("bytes") or b"") for cell in cells)
        if len(batch) == BATCH_ROWS or n_bytes >= BATCH_BYTES:
            yield _table(batch, schema, repo)
            batch, n_bytes = [], 0
    if batch:
        yield _table(batch, schema, repo)


def _table(batch: list[dict[str, Any]], schema: pa.Schema, repo: str) -> pa.Table:
    try:
        return pa.Table.from_pylist(batch, schema=schema)
    except pa.ArrowException as error:
        raise InputError(f"a column is no text: {error}", where=repo, fix="name a copy in the listed form") from error


def _write(path: Path, batches: Iterator[pa.Table]) -> int:
    """One row group a batch; the file has its name only once it is whole."""
    fresh = path.with_suffix(".tmp")
    n_rows = 0
    first = next(batches)
    with pq.ParquetWriter(fresh, first.schema, compression="none", write_page_index=True) as writer:
        for batch in chain([first], batches):
            writer.write_table(batch)
            n_rows += batch.num_rows
    fsync(fresh)
    os.replace(fresh, path)
    return n_rows
