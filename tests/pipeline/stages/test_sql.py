"""`fovea sql` prints what is there, reads and never writes, and says what is wrong with a query."""

import json
import math
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pipeline.stages.sql import ask, command, plain
from schemas.errors import UsageError
from schemas.reader import Store

app = typer.Typer()
app.command()(command)


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_json_is_one_object(searched_store: Store):
    text = "SELECT split, count(*) AS n FROM questions GROUP BY split ORDER BY split"
    printed = run(text, "--store", searched_store.root, "--json")
    assert json.loads(printed) == {"columns": ["split", "n"], "rows": [["test", 6], ["train", 12]]}


def test_a_table_for_people_keeps_a_row_on_a_line(searched_store: Store):
    printed = run("SELECT image_id, [0.1::FLOAT, NULL] AS l, '[b]' AS s FROM images", "--store", searched_store.root)
    lines = printed.splitlines()
    assert lines[0].split() == ["image_id", "l", "s"]
    assert len(lines) == 19
    assert lines[1].split(maxsplit=1)[1].rstrip() == "[0.1, ]  [b]"


def test_a_version_is_chosen(searched_store: Store):
    text = "SELECT count(*) FROM trajectories"
    assert ask(searched_store, text, "v1").rows == [(0,)]
    assert ask(searched_store, text).rows != [(0,)]


@pytest.mark.parametrize(
    "text", ["FROM images LIMIT 1", "SHOW TABLES", "DESCRIBE steps", "WITH a AS (SELECT 1) FROM a"]
)
def test_reading_is_allowed(searched_store: Store, text: str):
    assert ask(searched_store, text).rows


@pytest.mark.parametrize(
    "text",
    [
        "COPY (SELECT 1) TO '{data}/x.parquet'",
        "WITH a AS (COPY (SELECT 1) TO '{data}/x.parquet') FROM a",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{data}/x.parquet'",
        "EXPORT DATABASE '{data}/x'",
        "ATTACH '{data}/x.db' AS x",
        "INSTALL httpfs",
        "SET threads = 1",
        "CREATE TABLE t AS SELECT 1",
        "DROP VIEW images",
        "SELECT 1; SELECT 2",
        "FROM read_text('/etc/hostname')",
        "",
        "SELEC 1",
        "FROM nowhere",
    ],
)
def test_everything_else_is_refused_and_leaves_no_trace(own_store: Store, text: str):
    before = sorted(own_store.root.rglob("*"))
    with pytest.raises(UsageError) as caught:
        ask(own_store, text.format(data=own_store.root / "data"))
    assert caught.value.fix
    assert sorted(own_store.root.rglob("*")) == before


def test_duckdb_says_what_is_wrong(searched_store: Store):
    with pytest.raises(UsageError, match="nowhere"):
        ask(searched_store, "FROM nowhere")


def test_variables_of_the_program_are_no_tables(searched_store: Store):
    with pytest.raises(UsageError, match="searched_store"):
        ask(searched_store, "FROM searched_store")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (-math.inf, None),
        (0.5, 0.5),
        (Decimal("0.25"), 0.25),
        (True, True),
        (2**70, 2**70),
        (b"abc", "<3 bytes>"),
        (date(2024, 1, 2), "2024-01-02"),
        (datetime(2024, 1, 2, 3, 4), "2024-01-02T03:04:00"),
        ({"a": (1, math.nan)}, {"a": [1, None]}),
        (Path("x"), "x"),
        (None, None),
    ],
)
def test_values_as_json_has_them(value: object, expected: object):
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)
