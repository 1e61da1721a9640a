"""record → row → Parquet → record, for every table of the contract."""

import dataclasses
import types
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.errors import SchemaError
from schemas.records import ExpertCall, Finding, Image, Question, Reject, Trajectory
from schemas.rows import FROM_ROW, TO_COLUMNS, from_table, to_table
from schemas.tables import TABLES
from tests.doubles import question

SCALARS = {
    str: st.text(max_size=6),
    bytes: st.binary(max_size=6),
    bool: st.booleans(),
    int: st.integers(-(2**31), 2**31 - 1),
    float: st.floats(allow_nan=False, width=32),
    types.NoneType: st.none(),
}
RECORDS = {
    "images": Image,
    "questions": Question,
    "findings": Finding,
    "expert_calls": ExpertCall,
    "trajectories": Trajectory,
    "rejects": Reject,
}
WIDE = {"gain_min", "confident_at", "mass", "temperature"}  # float64 columns


def any_value(kind: Any) -> st.SearchStrategy[Any]:
    """Whatever a field of this type may hold."""
    if kind in SCALARS:
        return SCALARS[kind]
    if dataclasses.is_dataclass(kind):
        return any_record(kind)
    if get_origin(kind) is tuple:
        members = get_args(kind)
        if members[-1] is Ellipsis:
            return st.lists(any_value(members[0]), max_size=3).map(tuple)
        return st.tuples(*map(any_value, members))
    assert isinstance(kind, types.UnionType), kind
    return st.one_of(*map(any_value, get_args(kind)))


def any_record(kind: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    wide = {name: st.floats(allow_nan=False) for name in WIDE & hints.keys()}
    return st.builds(kind, **({name: any_value(hint) for name, hint in hints.items()} | wide))


def test_every_table_has_its_pair_of_functions():
    assert TO_COLUMNS.keys() == FROM_ROW.keys() == RECORDS.keys() == TABLES.keys()


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_record_comes_back_from_parquet_as_it_went(table: str, data: st.DataObject, tmp_path_factory: Any):
    records = data.draw(st.lists(any_record(RECORDS[table]), max_size=3))
    path: Path = tmp_path_factory.getbasetemp() / f"{table}.parquet"
    pq.write_table(to_table(table, records), path)
    read = pq.ParquetFile(path).read()
    assert from_table(table, read) == records
    assert read.schema.equals(TABLES[table].schema)


@pytest.mark.parametrize("table", TABLES)
def test_no_records_are_an_empty_table_of_the_right_shape(table: str):
    empty = to_table(table, [])
    assert (empty.num_rows, empty.schema.equals(TABLES[table].schema)) == (0, True)
    assert from_table(table, empty) == []


def test_a_missing_value_is_refused_when_it_is_written():
    with pytest.raises(SchemaError, match="`answer` of questions has nulls"):
        to_table("questions", [question(), question("q1", answer=None)])


def test_columns_are_found_by_name():
    table = to_table("questions", [question()])
    turned = table.select(table.schema.names[::-1]).append_column("more", pa.array([1]))
    assert from_table("questions", turned) == [question()]
