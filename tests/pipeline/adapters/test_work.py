"""A work shard is done once; its record is worth no more than the files it names."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.adapters.work import Output, Receipt, Shard, fingerprint, run_shard
from tests.small_stages import Numbers

SHARD = Shard("s0", 3, (0, 1, 2))


@dataclass(frozen=True)
class Counted(Numbers):
    """Remembers which shards it was asked for; `before` happens just ahead of its answer."""

    asked: list[str] = field(default_factory=list, compare=False)
    before: Any = field(default=None, compare=False)
    rows: tuple[int, ...] | None = field(default=None, compare=False)

    def process(self, state: None, shard: Shard) -> Output:
        self.asked.append(shard.key)
        if self.before is not None:
            self.before()
        return Numbers.process(self, state, shard if self.rows is None else replace(shard, payload=self.rows))


def record_of(root: Path, receipt: Receipt) -> Path:
    return root / "work" / "numbers" / f"{receipt.fingerprint}.json"


def keys(root: Path, receipt: Receipt) -> list[str]:
    return [key for file in receipt.files for key in pq.read_table(root / file.path).column("row_key").to_pylist()]


def test_a_shard_is_done_once(tmp_path: Path):
    stage = Counted()
    first = run_shard(tmp_path, stage, None, SHARD)
    second = run_shard(tmp_path, stage, None, SHARD)
    assert stage.asked == ["s0"]
    assert (first.is_reused, second.is_reused) == (False, True)
    assert replace(second, is_reused=False) == first
    assert keys(tmp_path, first) == ["0", "1", "2"]
    assert list((tmp_path / "work" / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("stage", "shard"),
    [
        (Numbers(salt="other"), SHARD),
        (Numbers(revision=2), SHARD),
        (Numbers(name="letters"), SHARD),
        (Numbers(tables=("rejects", "images")), SHARD),
        (Numbers(), replace(SHARD, payload=(0, 1, 3))),
        (Numbers(), replace(SHARD, key="s1")),
    ],
)
def test_whatever_changes_the_rows_changes_the_fingerprint(stage: Numbers, shard: Shard):
    marks = {fingerprint(one, one.digest(None, where), where) for one, where in ((Numbers(), SHARD), (stage, shard))}
    assert len(marks) == 2
    assert fingerprint(stage, "0" * 64, shard) == fingerprint(replace(stage), "0" * 64, replace(shard, n_rows=9))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("spoil", [truncate, Path.unlink])
def test_a_record_whose_file_is_short_or_gone_is_done_again(spoil: Any, tmp_path: Path):
    stage = Counted()
    first = run_shard(tmp_path, stage, None, SHARD)
    spoil(tmp_path / first.files[0].path)
    again = run_shard(tmp_path, stage, None, SHARD)
    assert stage.asked == ["s0", "s0"]
    assert again == first
    assert run_shard(tmp_path, stage, None, SHARD).is_reused


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": 5}', '{"files": [{"path": "x"}]}', '"files"', "\x80"])
def test_a_record_that_cannot_be_read_promises_nothing(text: str, tmp_path: Path):
    stage = Counted()
    first = run_shard(tmp_path, stage, None, SHARD)
    record_of(tmp_path, first).write_bytes(text.encode("latin-1"))
    assert run_shard(tmp_path, stage, None, SHARD) == first
    assert run_shard(tmp_path, stage, None, SHARD).is_reused


def test_who_comes_second_adopts_the_rows_of_the_first(tmp_path: Path):
    """A moody expert says something else each time; another builder finishes while this one asks."""
    winner: list[Receipt] = []
    rival = Counted(rows=(7, 8))
    stage = Counted(before=lambda: winner.append(run_shard(tmp_path, rival, None, SHARD)))
    receipt = run_shard(tmp_path, stage, None, SHARD)
    assert stage.asked == rival.asked == ["s0"]
    assert receipt == winner[0]
    assert keys(tmp_path, receipt) == ["7", "8"]


def test_a_rival_whose_record_is_worthless_is_not_adopted(tmp_path: Path):
    def fails_late() -> None:
        (tmp_path / run_shard(tmp_path, Counted(rows=(7, 8)), None, SHARD).files[0].path).unlink()

    receipt = run_shard(tmp_path, Counted(before=fails_late), None, SHARD)
    assert (receipt.is_reused, keys(tmp_path, receipt)) == (False, ["0", "1", "2"])
    assert run_shard(tmp_path, Counted(), None, SHARD).files == receipt.files


def test_a_shard_without_rows_leaves_a_record_and_no_file(tmp_path: Path):
    receipt = run_shard(tmp_path, Counted(rows=()), None, SHARD)
    assert receipt.files == ()
    assert json.loads(record_of(tmp_path, receipt).read_bytes())["shard"] == "s0"
    assert run_shard(tmp_path, Counted(), None, SHARD).is_reused
