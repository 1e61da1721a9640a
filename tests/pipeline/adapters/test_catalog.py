"""The catalog names one version, quotes what it is given, and reads in plain duckdb with nothing of ours."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from small_stores import INGEST, asked, drawn_image, put_questions

from pipeline.adapters import catalog
from pipeline.adapters.catalog import catalog_sql, connect, duckdb_type, quoted, tables_of, write_catalog
from schemas.errors import StoreError
from schemas.manifest import EMPTY
from schemas.reader import Store
from schemas.tables import TABLES

PLAIN = """
import duckdb, json, sys
con = duckdb.connect()
con.execute(open("catalog/init.sql", encoding="utf-8").read())
counts = con.execute("SELECT origin, count(*) FROM trajectories GROUP BY origin ORDER BY origin").fetchall()
steps = con.execute("SELECT count(*) FROM steps WHERE mode = 'drill'").fetchall()
print(json.dumps([counts, steps, sorted(name for name in sys.modules if name in ("schemas", "pipeline"))]))
"""


def test_plain_duckdb_reads_a_store_that_was_moved(own_store: Store, tmp_path: Path):
    write_catalog(own_store)
    moved = own_store.root.rename(tmp_path / "it's a [moved] store")
    done = subprocess.run([sys.executable, "-c", PLAIN], cwd=moved, capture_output=True, text=True, check=True)
    counts, steps, ours = json.loads(done.stdout)
    assert {origin for origin, _ in counts} == {"cvs", "drill_only", "grn", "random", "scan_only"}
    assert steps[0][0] > 20
    assert ours == []
    assert connect(Store(moved)).execute("SELECT count(*) FROM images").fetchall() == [(18,)]


def test_each_row_knows_its_slice(own_store: Store):
    other = "ingest/drawn/more"
    image = drawn_image(50)
    put_questions(own_store, [image], [asked(50, image)], other)
    found = dict(connect(own_store).execute("SELECT slice, count(*) FROM questions GROUP BY slice").fetchall())
    assert found == {INGEST: 18, other: 1}


def test_an_older_version_has_its_own_rows(own_store: Store):
    count = "SELECT count(*) FROM trajectories"
    assert connect(own_store, "v1").execute(count).fetchall() == [(0,)]
    assert connect(own_store).execute(count).fetchall() != [(0,)]


def test_tables_without_parts_have_their_columns():
    import duckdb

    con = duckdb.connect()
    con.execute(catalog_sql(EMPTY))
    for table in TABLES.values():
        empty = con.sql(f'FROM "{table.name}"').to_arrow_table()
        assert empty.schema.names == ["slice", *table.schema.names]
        assert empty.schema.types == [pa.string(), *table.schema.types]
        assert empty.num_rows == 0


def test_stored_types_are_those_of_the_empty_tables(searched_store: Store):
    import duckdb

    empty = duckdb.connect()
    empty.execute(catalog_sql(EMPTY))
    con = connect(searched_store)
    for name in TABLES:
        assert con.execute(f"DESCRIBE {name}").fetchall() == empty.execute(f"DESCRIBE {name}").fetchall()


@pytest.mark.parametrize(
    ("arrow", "expected"),
    [
        (pa.list_(pa.list_(pa.int32())), "INTEGER[][]"),
        (pa.struct([("bytes", pa.binary()), ("path", pa.string())]), 'STRUCT("bytes" BLOB, "path" VARCHAR)'),
        (pa.list_(pa.float32()), "FLOAT[]"),
    ],
)
def test_duckdb_type(arrow: pa.DataType, expected: str):
    assert duckdb_type(arrow) == expected


def test_quotes_are_doubled():
    assert quoted("it's") == "'it''s'"


def test_the_newer_version_wins_when_two_builders_write(own_store: Store, monkeypatch: pytest.MonkeyPatch):
    newer = replace(own_store.head(), version=own_store.head().version + 1)
    heads = [own_store.head(), newer, newer]
    monkeypatch.setattr(Store, "head", lambda self: heads.pop(0) if len(heads) > 1 else heads[0])
    text = write_catalog(own_store).read_text(encoding="utf-8")
    assert text == catalog_sql(newer)


def test_an_empty_store_gets_a_catalog_too(tmp_path: Path):
    path = write_catalog(Store(tmp_path / "store"))
    assert path == tmp_path / "store" / "catalog" / "init.sql"
    assert "-- views of version v0" in path.read_text(encoding="utf-8")


def test_nothing_but_the_store_is_in_reach(searched_store: Store, tmp_path: Path):
    import duckdb

    (tmp_path / "other.txt").write_text("secret")
    con = connect(searched_store)
    for text in (
        f"SELECT * FROM read_text('{tmp_path}/other.txt')",
        f"ATTACH '{tmp_path}/other.db' AS other",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
    ):
        with pytest.raises(duckdb.Error):
            con.execute(text)


def test_a_part_that_is_no_parquet_file_is_an_error_with_a_way_out(own_store: Store):
    (own_store.root / own_store.head().parts("images")[0][1].path).write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="fovea audit"):
        connect(own_store)


@pytest.mark.parametrize(("name", "other"), [("st[1]re", "st1re"), ("a*b", "axxb"), ("what?", "whats")])
def test_a_store_named_like_a_pattern_is_read_and_not_its_neighbour(name: str, other: str, tmp_path: Path):
    for folder, n in ((name, 3), (other, 5)):
        images = [drawn_image(number) for number in range(n)]
        put_questions(Store(tmp_path / folder), images, [asked(0, images[0])])
    mine, theirs = (Store(tmp_path / folder).head().parts("images")[0][1].path for folder in (name, other))
    (tmp_path / other / theirs).rename(tmp_path / other / mine)  # what the pattern would find
    assert connect(Store(tmp_path / name)).execute("SELECT count(*) FROM images").fetchall() == [(3,)]


def test_a_missing_part_is_an_error_with_a_way_out(own_store: Store):
    (own_store.root / own_store.head().parts("images")[0][1].path).unlink()
    with pytest.raises(StoreError, match="fovea audit"):
        connect(own_store)


def test_importing_it_is_light():
    code = "import pipeline.adapters.catalog, sys; sys.exit('duckdb' in sys.modules)"
    root = Path(catalog.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("SELECT count(*) FROM steps", {"trajectories"}),
        ("FROM Images", {"images"}),
        ("SHOW TABLES", set()),
        ("SELECT nonsense FROM", set()),
        ("PIVOT images ON source USING count(*);", {"images"}),
        ("SELECT count(*) FROM images JOIN questions USING (source)", {"images", "questions"}),
        (
            "WITH x AS (FROM images) SELECT x.width FROM x JOIN question_images USING (image_id)",
            {"images", "questions"},
        ),
        ("SELECT 1 WHERE EXISTS (FROM choices)", {"trajectories"}),
        ("SELECT count(*) FROM images WHERE image_id = 'x'", {"images"}),
        ("SUMMARIZE rejects", {"rejects"}),
        ("FROM images; FROM questions", set()),
        ("SELECT nothing FROM images", {"images"}),
        ("FROM images, nowhere", {"images"}),
        ("FROM main.images", {"images"}),
        ("FROM read_text('/etc/passwd')", set(TABLES)),  # it cannot even be planned, and says nothing of tables
        ("SELECT (SELECT count(*) FROM rejects) FROM query('FROM questions')", {"rejects", "questions"}),
    ],
)
def test_a_query_fetches_what_it_reads(query: str, tables: set[str]):
    assert set(tables_of(query)) == tables
