"""Pack: join the work shards of a build into published parts, without ever rewriting a part whose rows still stand.

Rows keep the plan's order within a lane; a part is at most `PART_BYTES` of work shards. Parts of the version before are
kept as long as they hold exactly the next rows of a lane; growth opens a new part. Tables that know no splits have a
lane per split their shards are of, since each split grows at its own end. The same receipts after the same history
give the same bytes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import accumulate, count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.adapters.files import name_of, write_parquet
from pipeline.adapters.work import Receipt, WorkFile
from schemas.errors import DigestError
from schemas.manifest import Part, Slice, sha256_of
from schemas.records import POOL
from schemas.storage import Folder, is_whole
from schemas.tables import TABLES

PART_BYTES = 64 << 20
WRITERS = 2  # parts under way at once, each a few times its size in memory
Lane = tuple[str, ...]  # the splits that shards are of


@dataclass(frozen=True, slots=True)
class _Entry:
    """One work file of a run; `keep` says which of its rows are wanted, None means all, which it never spells out."""

    fingerprint: str
    lane: Lane
    file: WorkFile
    keep: tuple[bool, ...] | None = None

    @property
    def n_rows(self) -> int:
        return self.file.rows if self.keep is None else sum(self.keep)

    @property
    def named(self) -> list[object]:
        """What says which rows these are: which copies of an image are left out depends on other shards."""
        return [self.fingerprint, self.file.sha256, *([] if self.keep is None else [self.keep])]


def pack(where: Folder | Path, receipts: Sequence[Receipt], before: Slice | None) -> tuple[Part, ...]:
    """All parts of a slice, old ones kept where their rows are unchanged."""
    store = Folder.of(where)
    entries: dict[tuple[str, str], list[_Entry]] = {}
    for receipt in receipts:
        splits = tuple(sorted({file.split for file in receipt.files} - {POOL}))
        for file in receipt.files:
            entry = _Entry(receipt.fingerprint, splits if file.split == POOL else (), file)
            entries.setdefault((file.table, file.split), []).append(entry)
    parts: list[Part] = []
    for (table, split), found in sorted(entries.items()):
        lanes: dict[Lane, list[_Entry]] = {}
        for entry in _first_copies(store, found) if table == "images" else found:
            lanes.setdefault(entry.lane, []).append(entry)
        old = [part for part in (before.parts if before else ()) if (part.table, part.split) == (table, split)]
        parts += _parts([_Run(store, table, split, lane) for lane in lanes.values()], sorted(old, key=_number))
    return tuple(parts)


@dataclass
class _Run:
    """The rows of one lane over all shards, addressed as one sequence without being read; `n_packed` are in parts."""

    store: Folder
    table: str
    split: str
    entries: list[_Entry]
    n_packed: int = 0

    def __post_init__(self) -> None:
        self.starts = [0, *accumulate(entry.n_rows for entry in self.entries)]

    @property
    def n_rows(self) -> int:
        return self.starts[-1]

    def shards(self, first: int, last: int) -> range:
        """Indices of the shards that rows [first, last) lie in."""
        return range(bisect_right(self.starts, first) - 1, bisect_left(self.starts, last))

    def digest(self, first: int, last: int) -> str:
        where = self.shards(first, last)
        named = [self.entries[index].named for index in where]
        return sha256_of([first - self.starts[where.start], last - first, named])

    def read(self, first: int, last: int) -> Iterator[pa.Table]:
        """Rows [first, last), a shard at a time."""
        where = self.shards(first, last)
        _fetch(self.store, self.entries[where.start : where.stop])
        for index in where:
            start, rows = self.starts[index], _rows(self.store, self.entries[index])
            yield rows.slice(max(0, first - start), last - max(first, start))

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Ranges of the rows not yet packed, each at most PART_BYTES of work files but at least one shard."""
        begin, size = self.n_packed, 0
        for index in self.shards(begin, self.n_rows) if begin < self.n_rows else ():
            if begin < self.starts[index] and size + self.entries[index].file.bytes > PART_BYTES:
                yield begin, self.starts[index]
                begin, size = self.starts[index], 0
            size += self.entries[index].file.bytes
        if begin < self.n_rows:
            yield begin, self.n_rows


def _parts(lanes: list[_Run], old: list[Part]) -> Iterator[Part]:
    number = 0
    for part in old:
        if (home := next((run for run in lanes if _stands(run, part)), None)) is not None:
            yield part
            home.n_packed += part.rows
            number = _number(part) + 1
    fresh = [(run, first, last) for run in lanes for first, last in run.chunks()]
    with ThreadPoolExecutor(WRITERS) as pool:  # reading, hashing and writing leave the interpreter free
        yield from pool.map(lambda at, chunk: _write(at, *chunk), count(number), fresh)


def _number(part: Part) -> int:
    return int(Path(part.path).name.split("-")[1])


def _stands(run: _Run, part: Part) -> bool:
    """Whether an old part holds exactly the next rows of a lane; its file is read only when its shards changed."""
    first, last = run.n_packed, run.n_packed + part.rows
    if last > run.n_rows or not run.store.has([part]):
        return False
    if part.shards_sha256 == run.digest(first, last):
        return True
    try:
        path = run.store.fetch(part)
    except DigestError:
        return False
    if not is_whole(path, part):
        return False
    old = pq.ParquetFile(path).read()
    return old.schema.equals(TABLES[run.table].schema) and old.equals(pa.concat_tables(run.read(first, last)))


def _write(number: int, run: _Run, first: int, last: int) -> Part:
    folder, stem = run.store.root / "data" / run.table / run.split, f"part-{number:05d}"
    path, digest = write_parquet(run.store, folder, stem, TABLES[run.table], run.read(first, last))
    size = path.stat().st_size
    return Part(name_of(run.store, path), run.table, run.split, digest, size, last - first, run.digest(first, last))


def _fetch(store: Folder, entries: Sequence[_Entry]) -> None:
    """See that work files are here."""
    try:
        store.fetch_all(entry.file for entry in entries)
    except DigestError as error:
        raise _damaged(error.where) from error


def _rows(store: Folder, entry: _Entry) -> pa.Table:
    """The wanted rows of a work file; DigestError unless it is as it was recorded, since they are to be published."""
    path = store.root / entry.file.path
    data = path.read_bytes() if path.is_file() else b""
    if sha256(data).hexdigest() != entry.file.sha256:
        raise _damaged(path)
    table = pq.ParquetFile(pa.BufferReader(data)).read()
    return table if entry.keep is None else table.filter(pa.array(entry.keep))


def _image_ids(path: Path) -> list[str]:
    """Of a work file whose bytes are not checked until its rows are read."""
    try:
        return pq.ParquetFile(path).read(columns=["image_id"]).column(0).to_pylist()
    except (OSError, ValueError) as error:  # Arrow's own errors are of these
        raise _damaged(path) from error


def _damaged(where: object) -> DigestError:
    fix = "delete the file and run the command again: only its shard is redone"
    return DigestError("work shard is damaged or gone", where=where, fix=fix)


def _first_copies(store: Folder, entries: list[_Entry]) -> Iterator[_Entry]:
    """Images only once: the same bytes under two file names are kept under the first."""
    seen: set[str] = set()
    _fetch(store, entries)
    for entry in entries:
        ids = _image_ids(store.root / entry.file.path)
        keep = tuple(not (image_id in seen or seen.add(image_id)) for image_id in ids)
        yield entry if all(keep) else replace(entry, keep=keep)
