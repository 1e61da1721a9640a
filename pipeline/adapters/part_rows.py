"""Rows of published parts by their place, read a row group at a time: a shard of a large part costs what it holds.

The groups read last stay in memory, as many as a run of rows may lie in. Not for several threads without a lock.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.columns import check
from schemas.errors import DigestError
from schemas.manifest import Part
from schemas.reader import Snapshot
from schemas.tables import TABLES

GROUPS_KEPT = 2


@dataclass(frozen=True)
class PartRows:
    """Parts of one version; DigestError for bytes that differ from the manifest when a part is read first."""

    snapshot: Snapshot
    _opened: OrderedDict[str, pq.ParquetFile] = field(default_factory=OrderedDict)
    _groups: OrderedDict[tuple[str, int], pa.Table] = field(default_factory=OrderedDict)

    def read(self, part: Part, first: int, last: int) -> pa.Table:
        """Rows [first, last) of a part, which must have them."""
        if not 0 <= first < last <= part.rows:
            raise ValueError(f"no rows [{first}, {last}) in a part of {part.rows}")
        file, start, found = self._file(part), 0, []
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            if start < last and first < end:
                table = self._group(part, file, group)
                found.append(table.slice(max(0, first - start), min(last, end) - max(first, start)))
            start = end
        return pa.concat_tables(found)

    def _file(self, part: Part) -> pq.ParquetFile:
        if part.path not in self._opened:
            path = self.snapshot.verified(part)
            file = pq.ParquetFile(path)
            if file.metadata.num_rows != part.rows:
                raise DigestError(f"holds {file.metadata.num_rows} rows, the manifest says {part.rows}", where=path)
            check(TABLES[part.table], file.schema_arrow.empty_table(), where=path)
            _keep(self._opened, part.path, file, 1)
        return self._opened[part.path]

    def _group(self, part: Part, file: pq.ParquetFile, number: int) -> pa.Table:
        key = part.path, number
        if key not in self._groups:
            table = file.read_row_group(number)
            check(TABLES[part.table], table, where=part.path)
            _keep(self._groups, key, table, GROUPS_KEPT)
        return self._groups[key]


def _keep(kept: OrderedDict, key: object, value: object, n_kept: int) -> None:
    kept[key] = value
    while len(kept) > n_kept:
        kept.popitem(last=False)
