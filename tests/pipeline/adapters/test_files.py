"""Files appear whole or not at all, under the name of their bytes, and laid out as the contract says."""

import errno
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.adapters.files import put_if_absent, replace, write_parquet
from schemas.errors import SchemaError, StoreError
from schemas.rows import to_table
from schemas.tables import TABLES
from tests.pipeline.small_stores import asked, drawn_image, searched

IMAGES = [drawn_image(number) for number in range(120)]
QUESTIONS = [asked(number, image) for number, image in enumerate(IMAGES)]


def leftovers(root: Path) -> list[Path]:
    return list((root / "work" / "tmp").iterdir())


def test_the_first_put_wins_and_the_second_changes_nothing(tmp_path: Path):
    path = tmp_path / "manifests" / "v1.json"
    assert put_if_absent(tmp_path, path, b"first")
    assert not put_if_absent(tmp_path, path, b"second")
    assert path.read_bytes() == b"first"
    assert leftovers(tmp_path) == []


def test_of_many_puts_at_once_exactly_one_wins(tmp_path: Path):
    path = tmp_path / "record"
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: put_if_absent(tmp_path, path, str(n).encode()), range(40)))
    assert won.count(True) == 1
    assert path.read_bytes() == str(won.index(True)).encode()
    assert leftovers(tmp_path) == []


def test_a_derived_file_is_replaced_whole(tmp_path: Path):
    path = tmp_path / "catalog" / "init.sql"
    for text in (b"old", b"new and longer", b"x"):
        replace(tmp_path, path, text)
        assert path.read_bytes() == text
    assert leftovers(tmp_path) == []


def write_rows(root: Path, *runs: pa.Table, folder: str = "", stem: str = "part") -> tuple[Path, str]:
    return write_parquet(root, root / folder, stem, TABLES[runs[0].schema.metadata[b"fovea.table"].decode()], runs)


def test_a_part_is_named_after_its_bytes(tmp_path: Path):
    path, digest = write_rows(tmp_path, to_table("questions", QUESTIONS), folder="data", stem="part-00000")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert path == tmp_path / "data" / f"part-00000-{digest[:12]}.parquet"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("cuts", [(1,), (7, 50), (119,), tuple(range(1, 120))])
def test_equal_rows_give_equal_bytes_however_they_are_chunked(cuts: tuple[int, ...], tmp_path: Path):
    for table, records in (("questions", QUESTIONS), ("images", IMAGES)):
        whole = to_table(table, records)
        edges = [0, *cuts, len(records)]
        pieces = [whole.slice(start, end - start) for start, end in pairwise(edges)]
        made = [write_rows(tmp_path, *runs) for runs in ([whole], [pa.concat_tables(pieces)], pieces)]
        assert made[0] == made[1] == made[2]


def test_rows_of_another_schema_are_refused_and_leave_nothing(tmp_path: Path):
    wrong = to_table("questions", QUESTIONS).drop_columns(["answer"])
    with pytest.raises(SchemaError, match="lacks column `answer`"):
        write_parquet(tmp_path, tmp_path / "data", "part", TABLES["questions"], [wrong])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def put_part(root: Path) -> None:
    write_rows(root, to_table("questions", QUESTIONS), folder="data")


def put_record(root: Path) -> None:
    put_if_absent(root, root / "record", b"data")


@pytest.mark.parametrize(("step", "put"), [("replace", put_part), ("fsync", put_part), ("link", put_record)])
def test_a_full_disk_is_an_error_for_people_and_leaves_nothing(
    step: str, put: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "x"))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(StoreError, match="cannot write: No space left") as caught:
        put(tmp_path)
    assert (caught.value.where, "free space" in caught.value.fix) == (str(tmp_path / "x"), True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_store_that_cannot_be_written_is_an_error_for_people(tmp_path: Path):
    (tmp_path / "work").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write"):
        put_if_absent(tmp_path, tmp_path / "record", b"data")


def columns(path: Path) -> dict[str, pq.ColumnChunkMetaData]:
    group = pq.ParquetFile(path).metadata.row_group(0)
    return {chunk.path_in_schema: chunk for chunk in map(group.column, range(group.num_columns))}


def test_tables_are_laid_out_as_the_contract_says(tmp_path: Path):
    data = to_table("trajectories", searched(QUESTIONS).trajectories)
    path, _ = write_rows(tmp_path, data)
    found = columns(path)
    assert {chunk.compression for chunk in found.values()} == {"ZSTD"}
    floats = {name for name, chunk in found.items() if chunk.physical_type in ("FLOAT", "DOUBLE")}
    assert "step_conf_after.list.element" in floats
    assert all("BYTE_STREAM_SPLIT" in found[name].encodings for name in floats - {"step_candidate_conf"})
    dictionaries = {name for name, chunk in found.items() if chunk.has_dictionary_page}
    assert dictionaries == set(TABLES["trajectories"].dictionary)
    assert all(chunk.has_column_index and chunk.has_offset_index for chunk in found.values())


def test_images_stay_as_they_are_in_small_row_groups(tmp_path: Path):
    path, _ = write_rows(tmp_path, to_table("images", IMAGES))
    assert {chunk.compression for chunk in columns(path).values()} == {"UNCOMPRESSED"}
    footer = pq.ParquetFile(path).metadata
    assert [footer.row_group(group).num_rows for group in range(footer.num_row_groups)] == [50, 50, 20]
    assert IMAGES[3].data in path.read_bytes()


def test_ids_have_bloom_filters(tmp_path: Path):
    path, _ = write_rows(tmp_path, to_table("questions", QUESTIONS))
    filtered = {name for name, chunk in columns(path).items() if chunk.bloom_filter_offset is not None}
    assert filtered == set(TABLES["questions"].ids) != set()
