"""Any run of rows is what the whole part has there, and each row group is read once on the way through it."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.adapters.part_rows import GROUPS_KEPT, PartRows
from schemas.errors import DigestError, SchemaError
from schemas.reader import Snapshot, Store
from schemas.tables import QUESTIONS
from tests.pipeline.small_stores import drawn_image, put_questions

N_IMAGES, GROUP_ROWS = 170, 50  # images have 50 a row group


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    store = Store(tmp_path_factory.mktemp("rows") / "store")
    put_questions(store, [drawn_image(number, (8, 50)) for number in range(N_IMAGES)], [])
    return store.snapshot()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.lists(st.tuples(st.integers(0, N_IMAGES - 1), st.integers(1, N_IMAGES)), min_size=1, max_size=5))
def test_a_run_of_rows_is_that_of_the_whole_part(snapshot: Snapshot, runs: list[tuple[int, int]]):
    (part,) = snapshot.parts("images")
    whole, rows = snapshot.read_part(part), PartRows(snapshot)
    for first, n_rows in runs:
        last = min(N_IMAGES, first + n_rows)
        assert rows.read(part, first, last).equals(whole.slice(first, last - first))


def test_a_pass_over_a_part_reads_each_group_once_and_keeps_few(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch):
    (part,) = snapshot.parts("images")
    read, groups, rows = pq.ParquetFile.read_row_group, [], PartRows(snapshot)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda file, i: groups.append(i) or read(file, i))
    monkeypatch.delattr(pq.ParquetFile, "read")
    for first in range(0, N_IMAGES, 16):
        rows.read(part, first, min(N_IMAGES, first + 16))
    assert groups == [0, 1, 2, 3]
    rows.read(part, 0, 1)
    assert groups == [0, 1, 2, 3, 0]  # it was given up for others
    rows.read(part, 1, GROUP_ROWS)
    assert len(groups) == 5
    assert GROUPS_KEPT == 2


@pytest.mark.parametrize(("first", "last"), [(-1, 3), (3, 3), (4, 3), (0, N_IMAGES + 1)])
def test_rows_that_a_part_has_not_are_refused(snapshot: Snapshot, first: int, last: int):
    (part,) = snapshot.parts("images")
    with pytest.raises(ValueError, match="no rows"):
        PartRows(snapshot).read(part, first, last)


def test_bytes_that_differ_from_the_manifest_are_refused(tmp_path: Path):
    store = Store(tmp_path / "store")
    put_questions(store, [drawn_image(0)], [])
    (part,) = store.snapshot().parts("images")
    path = store.root / part.path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DigestError, match="differ"):
        PartRows(store.snapshot()).read(part, 0, 1)


def test_a_part_of_another_schema_is_refused(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch):
    (part,) = snapshot.parts("images")
    monkeypatch.setattr("pipeline.adapters.part_rows.TABLES", {"images": QUESTIONS})
    with pytest.raises(SchemaError, match="lacks column"):
        PartRows(snapshot).read(part, 0, 1)
