"""The same work from one worker or two; a worker that dies costs its own shard at most."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.adapters import engine
from pipeline.adapters.work import Receipt, Shard
from schemas.errors import FoveaError, InputError
from tests.processes import ROOT, environment
from tests.small_stages import Deadly, Numbers, Refusing, shards


def ran(root: Path, stage: Numbers, todo: list[Shard], workers: int) -> tuple[list[Receipt], list[str]]:
    told = []
    receipts = engine.run(root, stage, todo, workers=workers, done=lambda receipt, shard: told.append(shard.key))
    return receipts, told


def records(root: Path) -> int:
    return len(list((root / "work").glob("*/*.json")))


def test_two_workers_leave_what_one_leaves_in_the_order_of_the_plan(tmp_path: Path):
    todo = shards(7)
    one, told_one = ran(tmp_path / "one", Numbers(), todo, 1)
    two, told_two = ran(tmp_path / "two", Numbers(), todo, 2)
    assert one == two
    assert [receipt.shard for receipt in two] == [shard.key for shard in todo] == told_one
    assert sorted(told_two) == sorted(told_one)
    again, _ = ran(tmp_path / "two", Numbers(), todo, 2)
    assert all(receipt.is_reused for receipt in again)


def test_nothing_to_map_is_nothing_done(tmp_path: Path):
    assert ran(tmp_path, Numbers(), [], 2) == ([], [])


def test_a_poison_shard_is_named_and_all_others_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "ATTEMPTS", 2)
    todo = [*shards(3), Shard("poison", 1, (-1,)), *shards(9)[3:]]
    with pytest.raises(FoveaError, match=r"shard poison killed its worker 2 times") as caught:
        ran(tmp_path, Deadly(), todo, 2)
    assert "numbers" in caught.value.where
    assert "9 finished shards are kept" in caught.value.fix
    assert records(tmp_path) == 9
    receipts, _ = ran(tmp_path, Deadly(), [shard for shard in todo if shard.key != "poison"], 2)
    assert all(receipt.is_reused for receipt in receipts)


def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path):
    todo = [Shard("weak", 1, (-1,)), *shards(3)]
    receipts, told = ran(tmp_path, Deadly(once=tmp_path / "died"), todo, 2)
    assert (tmp_path / "died").exists()
    assert [receipt.shard for receipt in receipts] == ["weak", "s0", "s1", "s2"]
    assert sorted(told) == ["s0", "s1", "s2", "weak"]


def test_when_every_shard_kills_its_worker_it_is_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "ATTEMPTS", 1)
    monkeypatch.setattr(engine, "POISONED_MAX", 0)
    todo = [Shard(f"bad{index}", 1, (-1 - index,)) for index in range(50)]
    with pytest.raises(FoveaError, match="killed its worker") as caught:
        ran(tmp_path, Deadly(), todo, 2)
    assert 1 <= caught.value.what.count("bad") <= 4  # those in flight, not all fifty


def test_an_error_crosses_the_pool_whole_and_what_runs_is_finished_first(tmp_path: Path):
    todo = [*shards(2), Shard("odd", 1, (-1,)), *shards(200)[2:]]
    with pytest.raises(InputError) as caught:
        ran(tmp_path, Refusing(), todo, 2)
    assert (caught.value.what, caught.value.where, caught.value.fix) == ("number is negative", "odd", "count up")
    assert records(tmp_path) < 200  # nothing new was begun
    assert ran(tmp_path, Numbers(), todo[:1], 1)[0][0].is_reused  # it ran when the error came


BUILDER = """
import sys
from pathlib import Path
from pipeline.adapters import engine
from tests.small_stages import Waiting, shards
if __name__ == "__main__":
    root, pipe = map(Path, sys.argv[1:])
    engine.run(root, Waiting(pipe=pipe), shards(2), workers=2, done=lambda receipt, shard: None)
"""


def test_workers_die_with_a_builder_that_is_killed(tmp_path: Path):
    pipe, script = tmp_path / "pipe", tmp_path / "builder.py"
    script.write_text(BUILDER)
    os.mkfifo(pipe)
    line = [sys.executable, str(script), str(tmp_path / "store"), str(pipe)]
    with subprocess.Popen(line, env=environment() | {"PYTHONPATH": str(ROOT)}, start_new_session=True) as builder:
        try:
            told = os.open(pipe, os.O_RDONLY)  # waits for the first worker
            seen = b""
            while len(seen) < 2:
                assert select.select([told], [], [], 60)[0], "a worker never came"
                seen += os.read(told, 1)
            builder.kill()
            assert select.select([told], [], [], 60)[0], "a worker outlived its builder"
            assert os.read(told, 1) == b""  # the last writer is gone
        finally:
            os.killpg(builder.pid, signal.SIGKILL)
