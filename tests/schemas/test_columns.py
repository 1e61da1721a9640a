"""A table explains itself, and refuses rows of another shape by name."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.columns import FLOAT, FLOATS, INT, STRING, Table, box_columns, check, col
from schemas.errors import SchemaError
from schemas.tables import TABLES

TABLE = Table(
    "spots",
    "One spot.",
    ("spot_id",),
    (col("spot_id", STRING, "its name"), col("conf", FLOAT, "confidence in [0, 1]", null=True)),
)


def rows(**columns: pa.Array) -> pa.Table:
    plain = {"spot_id": pa.array(["a", "b"]), "conf": pa.array([0.5, None], FLOAT)}
    return pa.table({name: array for name, array in (plain | columns).items() if array is not None})


def test_rows_that_fit_are_taken():
    check(TABLE, rows())


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"conf": None}, "table spots lacks column `conf`"),
        ({"conf": pa.array([0.5, 1.0])}, "column `conf` is double, expected float"),
        ({"spot_id": pa.array(["a", None])}, "column `spot_id` of spots has nulls and must not"),
        ({"b": pa.array([1, 2]), "a": pa.array([1, 2])}, "table spots has unknown columns ['a', 'b']"),
    ],
)
def test_the_column_that_does_not_fit_is_named(columns: dict[str, pa.Array | None], what: str):
    with pytest.raises(SchemaError) as caught:
        check(TABLE, rows(**columns), where="part-0.parquet")
    assert (caught.value.what, caught.value.where) == (what, "part-0.parquet")
    assert "migrate" in caught.value.fix


def with_column(index: int, **changes: object) -> Table:
    columns = list(TABLE.columns)
    columns[index] = replace(columns[index], **changes)
    return replace(TABLE, columns=tuple(columns))


@pytest.mark.parametrize(
    "other",
    [
        with_column(1, name="confidence"),
        with_column(1, type=INT),
        with_column(1, nullable=False),
        replace(TABLE, columns=TABLE.columns[::-1]),
        replace(TABLE, columns=TABLE.columns[:1]),
    ],
)
def test_another_shape_is_another_schema(other: Table):
    assert other.schema_id != TABLE.schema_id


def test_words_are_not_part_of_the_schema():
    reworded = with_column(0, description="what it is called")
    assert reworded.schema_id == TABLE.schema_id
    assert len(TABLE.schema_id) == 12


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_meanings_travel_in_the_file(table: Table, tmp_path: Path):
    pq.write_table(table.schema.empty_table(), tmp_path / "empty.parquet")
    schema = pq.read_schema(tmp_path / "empty.parquet")
    assert schema.metadata[b"fovea.schema"].decode() == table.schema_id
    assert [field.metadata[b"description"].decode() for field in schema] == [c.description for c in table.columns]
    assert all(c.description for c in table.columns)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_keys_ids_and_dictionaries_are_columns(table: Table):
    names = [c.name for c in table.columns]
    assert len(set(names)) == len(names)
    assert {*table.key, *table.ids, *table.dictionary} <= set(names)
    assert not any(c.nullable for c in table.columns if c.name in table.key)


def test_a_box_is_four_columns_that_say_where_they_are():
    assert [(c.name, c.type, c.nullable) for c in box_columns("step", "it", null=True, many=True)] == [
        (f"step_{edge}", FLOATS, True) for edge in ("x0", "y0", "x1", "y1")
    ]
    assert [c.description for c in box_columns("box", "the region")][2] == (
        "right (exclusive) edge of the region, pixels of the stored image"
    )
