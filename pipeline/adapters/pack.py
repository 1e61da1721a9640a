"""Pack: join the work shards of a build into published parts, without ever rewriting a part whose rows still stand.

Rows keep the plan's order; a part is at most `PART_BYTES` of work shards. Parts of the version before are kept as long
as they hold exactly the leading rows; growth opens a new part. The same receipts after the same history give the
same bytes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.adapters.files import write_parquet
from pipeline.adapters.work import Receipt, WorkFile
from schemas.manifest import Part, Slice, sha256_of
from schemas.tables import TABLES

PART_BYTES = 64 << 20
Entry = tuple[str, WorkFile]  # fingerprint of the shard, its file


def pack(root: Path, receipts: Sequence[Receipt], before: Slice | None) -> tuple[Part, ...]:
    """All parts of a slice, old ones kept where their rows are unchanged."""
    entries: dict[tuple[str, str], list[Entry]] = {}
    for receipt in receipts:
        for file in receipt.files:
            entries.setdefault((file.table, file.split), []).append((receipt.fingerprint, file))
    parts: list[Part] = []
    for (table, split), found in sorted(entries.items()):
        old = sorted(part for part in (before.parts if before else ()) if (part.table, part.split) == (table, split))
        parts += _parts(_Run(root, table, split, found), old)
    return tuple(parts)


@dataclass
class _Run:
    """The rows of one table and split over all shards, addressed as one sequence without being read."""

    root: Path
    table: str
    split: str
    entries: list[Entry]

    def __post_init__(self) -> None:
        self.keep = _first_copies(self.root, self.entries) if self.table == "images" else [None] * len(self.entries)
        counts = (
            file.rows if keep is None else sum(keep) for (_, file), keep in zip(self.entries, self.keep, strict=True)
        )
        self.starts = [0, *accumulate(counts)]

    @property
    def n_rows(self) -> int:
        return self.starts[-1]

    def shards(self, first: int, last: int) -> range:
        """Indices of the shards that rows [first, last) lie in."""
        return range(bisect_right(self.starts, first) - 1, bisect_left(self.starts, last))

    def digest(self, first: int, last: int) -> str:
        where = self.shards(first, last)
        named = [(self.entries[index][0], self.entries[index][1].sha256) for index in where]
        return sha256_of([first - self.starts[where.start], last - first, named])

    def read(self, first: int, last: int) -> pa.Table:
        where = self.shards(first, last)
        tables = []
        for index in where:
            data = pq.ParquetFile(self.root / self.entries[index][1].path).read()
            keep = self.keep[index]
            tables.append(data if keep is None else data.filter(pa.array(keep)))
        joined = pa.concat_tables(tables).replace_schema_metadata(TABLES[self.table].schema.metadata)
        return joined.slice(first - self.starts[where.start], last - first)

    def chunks(self, first: int) -> Iterator[tuple[int, int]]:
        """Row ranges from `first` on, each at most PART_BYTES of work files but at least one shard."""
        begin, size = first, 0
        for index in self.shards(first, self.n_rows) if first < self.n_rows else ():
            if size and size + self.entries[index][1].bytes > PART_BYTES:
                yield begin, self.starts[index]
                begin, size = self.starts[index], 0
            size += self.entries[index][1].bytes
        if begin < self.n_rows:
            yield begin, self.n_rows


def _parts(run: _Run, old: list[Part]) -> Iterator[Part]:
    number = first = 0
    for part in old:
        if not _stands(run, part, first):
            break
        yield part
        number, first = number + 1, first + part.rows
    for begin, end in run.chunks(first):
        yield _write(run, number, begin, end)
        number += 1


def _stands(run: _Run, part: Part, first: int) -> bool:
    """Whether an old part holds exactly the rows from `first` on; its file is read only when its shards changed."""
    last, path = first + part.rows, run.root / part.path
    if last > run.n_rows or not path.is_file():
        return False
    if part.shards_sha256 == run.digest(first, last):
        return True
    old = pq.ParquetFile(path).read()
    return old.schema.equals(TABLES[run.table].schema) and old.equals(run.read(first, last))


def _write(run: _Run, number: int, first: int, last: int) -> Part:
    data = run.read(first, last)
    path, digest = write_parquet(run.root, run.root / "data" / run.table / run.split, f"part-{number:05d}", data)
    where = path.relative_to(run.root).as_posix()
    size = path.stat().st_size
    return Part(where, run.table, run.split, digest, size, data.num_rows, run.digest(first, last))


def _first_copies(root: Path, entries: list[Entry]) -> list[list[bool] | None]:
    """Per shard, which images to keep: the same bytes under two file names are stored once, under the first."""
    seen: set[str] = set()
    keep = []
    for _, file in entries:
        ids = pq.ParquetFile(root / file.path).read(columns=["image_id"]).column(0).to_pylist()
        keep.append([not (image_id in seen or seen.add(image_id)) for image_id in ids])
    return keep
