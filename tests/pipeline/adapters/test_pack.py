"""Parts hold the rows of the plan in its order; growth opens new parts and never rewrites an old one."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters import pack as packing
from pipeline.adapters.pack import pack
from pipeline.adapters.work import Output, Receipt, Shard, run_shard
from schemas.errors import DigestError
from schemas.manifest import Part, Slice
from schemas.rows import to_table
from tests.pipeline.small_stores import drawn_image
from tests.small_stages import Numbers


class Pictures(Numbers):
    """Images by number: the same number is the same image, under the shard's own file name."""

    def process(self, state: None, shard: Shard) -> Output:
        images = [replace(drawn_image(number), path=f"{shard.key}/{number}.png") for number in shard.payload]
        return {("images", "pool"): to_table("images", images)}


class Split(Numbers):
    """Odd numbers are of the train split, even ones of test; their rejects are pooled."""

    def process(self, state: None, shard: Shard) -> Output:
        rows = Numbers.process(self, state, shard)["rejects", "pool"]
        return {("rejects", "pool"): rows, ("rejects", ("test", "train")[min(shard.payload) % 2]): rows}


class SplitPictures(Pictures):
    """Pictures that shard s0 asks of in train and all others in test."""

    def process(self, state: None, shard: Shard) -> Output:
        rejects = Numbers.process(self, state, shard)["rejects", "pool"]
        return {**Pictures.process(self, state, shard), ("rejects", "train" if shard.key == "s0" else "test"): rejects}


def done(root: Path, *payloads: Sequence[int], stage: Numbers | None = None) -> list[Receipt]:
    stage = stage or Numbers()
    todo = [Shard(f"s{index}", len(payload), tuple(payload)) for index, payload in enumerate(payloads)]
    return [run_shard(root, stage, None, shard) for shard in todo]


def slice_of(parts: tuple[Part, ...]) -> Slice:
    return Slice("numbers", "test", "x", 1, {}, None, None, {}, {}, (), parts)


def numbers(root: Path, parts: Sequence[Part], column: str = "row_key") -> list[list[str]]:
    """What each part holds."""
    return [pq.ParquetFile(root / part.path).read([column]).column(0).to_pylist() for part in parts]


def test_rows_keep_the_order_of_the_plan(tmp_path: Path):
    parts = pack(tmp_path, done(tmp_path, [3, 1], [], [2], [0]), None)
    assert numbers(tmp_path, parts) == [["3", "1", "2", "0"]]
    part = parts[0]
    assert (part.table, part.split, part.rows) == ("rejects", "pool", 4)
    assert part.path == f"data/rejects/pool/part-00000-{part.sha256[:12]}.parquet"
    assert part.bytes == (tmp_path / part.path).stat().st_size


def test_growth_opens_a_new_part_and_leaves_the_old_file_alone(tmp_path: Path):
    before = pack(tmp_path, done(tmp_path, [0, 1], [2]), None)
    stamp = (tmp_path / before[0].path).stat().st_mtime_ns
    after = pack(tmp_path, done(tmp_path, [0, 1], [2], [3], [4]), slice_of(before))
    assert after[:1] == before
    assert numbers(tmp_path, after) == [["0", "1", "2"], ["3", "4"]]
    assert (tmp_path / before[0].path).stat().st_mtime_ns == stamp
    assert pack(tmp_path, done(tmp_path, [0, 1], [2], [3], [4]), slice_of(after)) == after


def test_a_last_shard_that_fills_up_does_not_rewrite_the_part_it_began(tmp_path: Path):
    before = pack(tmp_path, done(tmp_path, [0], [1]), None)
    grown = done(tmp_path, [0], [1, 2, 3])  # another shard, whose first row is the old one's
    after = pack(tmp_path, grown, slice_of(before))
    assert after[:1] == before
    assert numbers(tmp_path, after) == [["0", "1"], ["2", "3"]]
    assert pack(tmp_path, grown, slice_of(after)) == after


def test_splits_that_grow_side_by_side_never_rewrite_what_they_share(tmp_path: Path):
    before = pack(tmp_path, done(tmp_path, [1, 3], [0, 2], stage=Split()), None)
    after = pack(tmp_path, done(tmp_path, [1, 3, 5], [0, 2, 4], [7], stage=Split()), slice_of(before))
    assert set(before) < set(after)
    pool = [part for part in after if part.split == "pool"]
    assert numbers(tmp_path, pool) == [["1", "3"], ["0", "2"], ["5", "7"], ["4"]]
    assert [part.path.split("-")[1] for part in pool] == ["00000", "00001", "00002", "00003"]
    assert pack(tmp_path, done(tmp_path, [1, 3, 5], [0, 2, 4], [7], stage=Split()), slice_of(after)) == after


def test_parts_are_rewritten_from_the_first_changed_row_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "PART_BYTES", 1)
    before = pack(tmp_path, done(tmp_path, [0], [1], [2]), None)
    after = pack(tmp_path, done(tmp_path, [0], [9], [2]), slice_of(before))
    assert numbers(tmp_path, after) == [["0"], ["9"], ["2"]]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_fewer_rows_drop_the_parts_behind_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "PART_BYTES", 1)
    before = pack(tmp_path, done(tmp_path, [0], [1], [2]), None)
    assert pack(tmp_path, done(tmp_path, [0], [1]), slice_of(before)) == before[:2]
    assert pack(tmp_path, done(tmp_path, []), slice_of(before)) == ()


def test_a_part_is_at_most_so_many_bytes_of_work_or_one_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    receipts = done(tmp_path, [0], [1], range(2, 9000), [9000], [9001])
    small, large = receipts[0].files[0].bytes, receipts[2].files[0].bytes
    limit = 2 * small + 200
    assert large > limit
    monkeypatch.setattr(packing, "PART_BYTES", limit)
    parts = pack(tmp_path, receipts, None)
    assert [part.rows for part in parts] == [2, 8998, 2]
    assert list(chain(*numbers(tmp_path, parts))) == [str(number) for number in range(9002)]
    assert [part.path.split("-")[1] for part in parts] == ["00000", "00001", "00002"]


def test_an_image_is_stored_once_under_its_first_name(tmp_path: Path):
    receipts = done(tmp_path, [0, 1, 0], [1, 2], stage=Pictures("pictures"))
    parts = pack(tmp_path, receipts, None)
    paths = [row["path"] for names in numbers(tmp_path, parts, "image") for row in names]
    assert paths == ["s0/0.png", "s0/1.png", "s1/2.png"]


@settings(max_examples=12, deadline=None)
@given(
    payloads=st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=6),
    grown=st.lists(st.lists(st.integers(0, 6), max_size=4), max_size=3),
    limit=st.sampled_from([1, 3000, 1 << 20]),
)
def test_any_plan_keeps_every_image_once_in_order_and_no_part_is_empty(payloads, grown, limit, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "PART_BYTES", limit)
        before = pack(root, done(root, *payloads, stage=Pictures("pictures")), None)
        after = pack(root, done(root, *payloads, *grown, stage=Pictures("pictures")), slice_of(before))
    expected = list(dict.fromkeys(number for payload in [*payloads, *grown] for number in payload))
    found = list(chain(*numbers(root, after, "image_id")))
    assert found == [drawn_image(number).image_id for number in expected]
    assert after[: len(before)] == before
    assert all(part.rows for part in after)


def test_a_damaged_part_is_written_again_under_its_name(tmp_path: Path):
    receipts = done(tmp_path, [0, 1], [2])
    before = pack(tmp_path, receipts, None)
    whole = (tmp_path / before[0].path).read_bytes()
    for damage in (whole[:-1], None):
        (tmp_path / before[0].path).unlink()
        if damage is not None:
            (tmp_path / before[0].path).write_bytes(damage)
        assert pack(tmp_path, receipts, slice_of(before)) == before
        assert (tmp_path / before[0].path).read_bytes() == whole


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_a_damaged_work_shard_is_never_published(damage, tmp_path: Path):
    receipts = done(tmp_path, [0, 1], [2])
    damaged = tmp_path / receipts[1].files[0].path
    damage(damaged)
    with pytest.raises(DigestError, match="work shard is damaged or gone") as caught:
        pack(tmp_path, receipts, None)
    assert caught.value.where == str(damaged)
    assert not (tmp_path / "data").exists()
    damaged.unlink(missing_ok=True)
    assert numbers(tmp_path, pack(tmp_path, done(tmp_path, [0, 1], [2]), None)) == [["0", "1", "2"]]


def test_a_part_does_not_stand_when_other_copies_are_left_out_of_it(tmp_path: Path):
    """Image 1 loses its first copy and image 3 gets an earlier one: as many rows as before, but not the same."""
    stage = SplitPictures("pictures")
    before = pack(tmp_path, done(tmp_path, [1, 2], [1, 3], [4, 5], stage=stage), None)
    after = pack(tmp_path, done(tmp_path, [3, 2], [1, 3], [4, 5], stage=stage), slice_of(before))
    images = [part for part in after if part.table == "images"]
    names = [row["path"] for rows in numbers(tmp_path, images, "image") for row in rows]
    assert names == ["s0/3.png", "s0/2.png", "s1/1.png", "s2/4.png", "s2/5.png"]


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"x" * path.stat().st_size), Path.unlink])
def test_damaged_work_shards_of_images_are_named_too(damage, tmp_path: Path):
    receipts = done(tmp_path, [0, 1], stage=Pictures("pictures"))
    damage(tmp_path / receipts[0].files[0].path)
    with pytest.raises(DigestError, match="work shard is damaged or gone"):
        pack(tmp_path, receipts, None)


def test_a_damaged_part_does_not_stand_for_rows_of_other_shards(tmp_path: Path):
    before = pack(tmp_path, done(tmp_path, [0], [1]), None)
    path = tmp_path / before[0].path
    path.write_bytes(b"x" * path.stat().st_size)
    after = pack(tmp_path, done(tmp_path, [0, 1], [2]), slice_of(before))
    assert numbers(tmp_path, after) == [["0", "1", "2"]]
