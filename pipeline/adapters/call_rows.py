"""Recorded expert calls in Parquet files, by call id: ids in memory, rows read when they are asked for.

A call costs 16 bytes of index; row groups used last stay in memory up to ROWS_BYTES. A hash of 64 bits finds a row and
the row's own id decides, so that two calls can never be taken for one another. A file that cannot be read is told to
whoever owns this; nothing is found in it, and nothing is made up. Not for several threads without a lock.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.columns import check
from schemas.errors import FoveaError
from schemas.records import ExpertCall
from schemas.rows import from_table
from schemas.tables import EXPERT_CALLS

ROWS_BYTES = 64 << 20
SCHEMA = EXPERT_CALLS.schema
UNREADABLE = (OSError, ValueError, pa.ArrowException, FoveaError)


@dataclass(frozen=True, slots=True)
class CallFile:
    """`sha256`: digits that the hash of its bytes begins with, for a file small enough to be read whole each time;
    None where somebody has compared them.
    """

    path: Path
    sha256: str | None = None

    def opened(self) -> pq.ParquetFile:
        if self.sha256 is None:
            return pq.ParquetFile(self.path, page_checksum_verification=True)
        data = self.path.read_bytes()
        if not sha256(data).hexdigest().startswith(self.sha256):
            raise ValueError("its bytes are not those it is named after")
        return pq.ParquetFile(pa.BufferReader(data))


class _Block(NamedTuple):
    """`keys`: first 8 bytes of each call id, ascending; `places`: number of the file << 32 | row in it."""

    keys: np.ndarray
    places: np.ndarray


class CallRows:
    """Calls of any number of files; of a call in several, the one in the file added first."""

    def __init__(self, lost: Callable[[Path, Exception], None]) -> None:
        self._lost = lost
        self._files: list[tuple[CallFile, list[int]] | None] = []  # with the first row of each piece; None: lost
        self._blocks: list[_Block] = []
        self._pieces: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._n_bytes = 0

    def __len__(self) -> int:
        return sum(len(block.keys) for block in self._blocks)

    def add(self, file: CallFile, *, with_failures: bool = False) -> None:
        """Index the calls of a file that were answered, or all."""
        try:
            opened = file.opened()
            _check(opened.schema_arrow)
            counts = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
            starts = [sum(counts[:group]) for group in range(len(counts))]
            found = [_indexed(opened, group, starts[group], with_failures) for group in range(len(counts))]
        except UNREADABLE as error:
            self._lost(file.path, error)
            return
        for block in found:
            self._insert(block)
        self._files.append((file, starts if file.sha256 is None else [0]))

    def add_written(self, file: CallFile, ids: Sequence[str]) -> None:
        """Index a file of these rows that was just written."""
        self._insert(_Block(_keys(ids), np.arange(len(ids), dtype=np.uint64)))
        self._files.append((file, [0]))

    def find(self, ids: Sequence[str]) -> dict[str, ExpertCall]:
        """The calls of these ids that there are."""
        wanted, found = set(ids), dict[str, ExpertCall]()
        for number, places in groupby(self._places(ids), key=lambda place: place >> 32):
            for call in self._read(number, [place & 0xFFFFFFFF for place in places]):
                if call.call_id in wanted:
                    found.setdefault(call.call_id, call)
        return found

    def _insert(self, block: _Block) -> None:
        """As part of the file that is added next. Blocks at least halve in size, so that there are few."""
        of_file = np.uint64(len(self._files) << 32)
        self._blocks.append(_merged([_Block(block.keys, block.places | of_file)]))
        while len(self._blocks) > 1 and len(self._blocks[-2].keys) < 2 * len(self._blocks[-1].keys):
            self._blocks[-2:] = [_merged(self._blocks[-2:])]

    def _places(self, ids: Sequence[str]) -> list[int]:
        keys, found = np.unique(_keys(ids)), set[int]()
        for block in self._blocks:
            first, last = (np.searchsorted(block.keys, keys, side) for side in ("left", "right"))
            for index in np.flatnonzero(first < last):
                found.update(block.places[first[index] : last[index]].tolist())
        return sorted(found)

    def _read(self, number: int, rows: list[int]) -> list[ExpertCall]:
        """Rows of one file; none, and the owner is told, when it cannot be read."""
        if (known := self._files[number]) is None:
            return []
        file, starts = known
        calls: list[ExpertCall] = []
        try:
            for piece, some in groupby(rows, key=lambda row: bisect_right(starts, row) - 1):
                taken = self._piece(file, number, piece).take([row - starts[piece] for row in some])
                calls += from_table(EXPERT_CALLS.name, taken)
        except UNREADABLE as error:
            self._files[number] = None
            self._lost(file.path, error)
            return []
        return calls

    def _piece(self, file: CallFile, number: int, piece: int) -> pa.Table:
        """A row group, or the whole of a small file; those used last are kept."""
        key = number, piece
        if key not in self._pieces:
            opened = file.opened()
            table = opened.read() if file.sha256 else opened.read_row_group(piece)
            _check(table.schema)
            self._pieces[key] = table
            self._n_bytes += table.nbytes
        self._pieces.move_to_end(key)
        while self._n_bytes > ROWS_BYTES and len(self._pieces) > 1:
            _, dropped = self._pieces.popitem(last=False)
            self._n_bytes -= dropped.nbytes
        return self._pieces[key]


def _check(schema: pa.Schema) -> None:
    if not schema.equals(SCHEMA):
        check(EXPERT_CALLS, schema.empty_table())  # says what is wrong


def _indexed(opened: pq.ParquetFile, group: int, start: int, with_failures: bool) -> _Block:
    rows = opened.read_row_group(group, columns=["call_id", "error_class"])
    is_wanted = np.full(rows.num_rows, True) if with_failures else rows["error_class"].is_null().to_numpy()
    places = np.arange(start, start + rows.num_rows, dtype=np.uint64)
    return _Block(_keys(rows["call_id"].to_pylist())[is_wanted], places[is_wanted])


def _keys(ids: Sequence[str]) -> np.ndarray:
    """The first 64 bits of each id of 64 hex digits; ValueError for other ids."""
    return np.frombuffer(bytes.fromhex("".join(ids)), ">u8").reshape(len(ids), 4)[:, 0].astype(np.uint64)


def _merged(blocks: Sequence[_Block]) -> _Block:
    keys, places = (np.concatenate(columns) for columns in zip(*blocks, strict=True))
    order = np.argsort(keys)
    return _Block(keys[order], places[order])
