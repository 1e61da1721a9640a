"""How a table describes itself: columns with type, meaning and whether a value may be missing.

A schema is written out here, never inferred. The description of each column travels in the
Arrow field metadata, and from there into the Parquet files and the data cards.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from schemas.errors import SchemaError

STRING = pa.string()
INT = pa.int32()
FLOAT = pa.float32()
DOUBLE = pa.float64()
BOOL = pa.bool_()
STRINGS = pa.list_(STRING)
INTS = pa.list_(INT)
FLOATS = pa.list_(FLOAT)


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: pa.DataType
    description: str
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the data contract; `ids` get bloom filters, `key` is unique within the table of one slice."""

    name: str
    about: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    ids: tuple[str, ...] = ()
    dictionary: tuple[str, ...] = ()  # low-cardinality columns worth a Parquet dictionary
    row_group_rows: int = 20_000

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(
            [pa.field(c.name, c.type, metadata={"description": c.description}) for c in self.columns],
            metadata={"fovea.table": self.name, "fovea.schema": self.schema_id},
        )

    @property
    def schema_id(self) -> str:
        """12 hex digits over names, types and nullability, in order: what a manifest and a file cite."""
        text = "\n".join(f"{c.name} {c.type} {'null' if c.nullable else 'required'}" for c in self.columns)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def col(name: str, type_: pa.DataType, description: str, *, null: bool = False) -> Column:
    return Column(name, type_, description, null)


def box_columns(prefix: str, what: str, *, null: bool = False, many: bool = False) -> Iterator[Column]:
    """Four columns `<prefix>_x0 … _y1`, pixels of the stored image, x1 and y1 exclusive; lists when `many`."""
    edges = {"x0": "left", "y0": "top", "x1": "right (exclusive)", "y1": "bottom (exclusive)"}
    for suffix, edge in edges.items():
        yield col(
            f"{prefix}_{suffix}",
            FLOATS if many else FLOAT,
            f"{edge} edge of {what}, pixels of the stored image",
            null=null,
        )


def check(table: Table, data: pa.Table, *, where: object = None) -> None:
    """SchemaError unless `data` has exactly the columns and types of `table`, with no null where none is allowed."""
    found = {field.name: field.type for field in data.schema}
    fix = "write it with this version of fovea, or migrate the store"
    for column in table.columns:
        if column.name not in found:
            raise SchemaError(f"table {table.name} lacks column `{column.name}`", where=where, fix=fix)
        if found[column.name] != column.type:
            what = f"column `{column.name}` is {found[column.name]}, expected {column.type}"
            raise SchemaError(what, where=where, fix=fix)
        if not column.nullable and data.column(column.name).null_count:
            raise SchemaError(f"column `{column.name}` of {table.name} has nulls and must not", where=where, fix=fix)
    if extra := sorted(found.keys() - {c.name for c in table.columns}):
        raise SchemaError(f"table {table.name} has unknown columns {extra}", where=where, fix=fix)
