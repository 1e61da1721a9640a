"""The same work from one worker or two, or threads in one; a worker that dies costs its own shard at most."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.adapters import engine, engine_job
from pipeline.adapters.engine import Engine
from pipeline.adapters.work import Receipt, Shard
from schemas.errors import FoveaError, InputError, UsageError
from tests.processes import ROOT, environment
from tests.small_stages import (
    BrokenAbroad,
    Counting,
    Deadly,
    DeadlyInThreads,
    Numbers,
    Refusing,
    RefusingInThreads,
    Stillborn,
    Together,
    shards,
)


def ran(root: Path, stage: Numbers, todo: list[Shard], workers: int) -> tuple[list[Receipt], list[str]]:
    told = []
    receipts = engine.run(root, stage, todo, engine=Engine(workers), done=lambda _, shard: told.append(shard.key))
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
    again, _ = ran(tmp_path / "two", Numbers(), todo, 1)
    assert all(receipt.is_reused for receipt in again)


def test_nothing_to_map_is_nothing_done(tmp_path: Path):
    assert ran(tmp_path, Numbers(), [], 2) == ([], [])


def test_only_the_poison_shard_is_set_aside_and_all_others_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine_job, "ATTEMPTS", 2)
    weak, stage = Shard("weak", 1, (-100,)), DeadlyInThreads(once=tmp_path / "died")
    todo = [weak, *shards(2), Shard("poison", 1, (-1,)), *shards(5)[2:]]
    with pytest.raises(FoveaError, match=r"shard poison killed its worker 2 times") as caught:
        ran(tmp_path, stage, todo, 2)
    assert "numbers" in caught.value.where
    assert ("6 finished shards are kept" in caught.value.fix, caught.value.exit_code) == (True, 1)
    assert (tmp_path / "died").exists()  # one death costs a shard nothing
    receipts, _ = ran(tmp_path, stage, [shard for shard in todo if shard.key != "poison"], 1)
    assert [receipt.shard for receipt in receipts] == ["weak", "s0", "s1", "s2", "s3", "s4"]
    assert all(receipt.is_reused for receipt in receipts)


def test_no_shard_is_to_blame_when_workers_die_before_their_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_job, "ATTEMPTS", 1)
    with pytest.raises(FoveaError, match="a worker died 1 times before its first shard") as caught:
        ran(tmp_path, Stillborn(), shards(4), 2)
    assert "s0" not in str(caught.value)


def test_when_every_shard_kills_its_worker_it_is_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_job, "ATTEMPTS", 1)
    monkeypatch.setattr(engine_job, "POISONED_MAX", 0)
    todo = [Shard(f"bad{index}", 1, (-1 - index,)) for index in range(50)]
    with pytest.raises(FoveaError, match="killed its worker") as caught:
        ran(tmp_path, Deadly(), todo, 2)
    assert caught.value.what.count("bad") == 1  # not all fifty, nor all that were in flight


def test_an_error_crosses_the_pool_whole_and_what_runs_is_finished_first(tmp_path: Path):
    todo = [*shards(2), Shard("odd", 1, (-1,)), *shards(200)[2:]]
    with pytest.raises(InputError) as caught:
        ran(tmp_path, Refusing(), todo, 2)
    assert (caught.value.what, caught.value.where, caught.value.fix) == ("number is negative", "odd", "count up")
    assert records(tmp_path) < 200  # nothing new was begun
    assert ran(tmp_path, Numbers(), todo[:1], 1)[0][0].is_reused  # it ran when the error came


def test_an_error_that_cannot_cross_the_pool_is_not_taken_for_a_dead_worker(tmp_path: Path):
    with pytest.raises(RuntimeError, match=r"small_stages(.|\n)*Unsendable: a bug in a library"):
        ran(tmp_path, BrokenAbroad(), shards(2), 2)


def test_a_build_after_another_in_one_process_has_a_state_of_its_own(tmp_path: Path):
    for name in ("a", "b"):  # an expert that has given up would be asked in vain for ever
        ran(tmp_path / name, Counting(marks=tmp_path / "marks"), shards(3), 1)
    ran(tmp_path / "c", Counting(marks=tmp_path / "marks"), [], 1)
    assert (tmp_path / "marks").read_text() == "xx"


BUILDER = """
import signal
import sys
from pathlib import Path
from pipeline.adapters import engine
from tests import small_stages
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests in the background may ignore it
    root, pipe = map(Path, sys.argv[1:3])
    stage, how = getattr(small_stages, sys.argv[3])(pipe=pipe), engine.Engine(int(sys.argv[4]))
    engine.run(root, stage, small_stages.shards(2), engine=how, done=lambda receipt, shard: None)
"""


@pytest.mark.parametrize(
    ("stage", "workers", "signal_"),
    [("Waiting", 2, signal.SIGKILL), ("WaitingInThreads", 1, signal.SIGKILL), ("WaitingInThreads", 1, signal.SIGINT)],
)
def test_workers_die_with_their_builder_and_threads_with_their_process(
    stage: str, workers: int, signal_: signal.Signals, tmp_path: Path
):
    pipe, script = tmp_path / "pipe", tmp_path / "builder.py"
    script.write_text(BUILDER)
    os.mkfifo(pipe)
    line = [sys.executable, str(script), str(tmp_path / "store"), str(pipe), stage, str(workers)]
    how = {"env": environment() | {"PYTHONPATH": str(ROOT)}, "start_new_session": True, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(line, **how) as builder:
        try:
            told = os.open(pipe, os.O_RDONLY)  # waits for the first of two that work at once
            seen = b""
            while len(seen) < 2:
                assert select.select([told], [], [], 60)[0], "a worker never came"
                seen += os.read(told, 1)
            builder.send_signal(signal_)
            assert select.select([told], [], [], 60)[0], "a worker outlived its builder"
            assert os.read(told, 1) == b""  # the last writer is gone
        finally:
            os.killpg(builder.pid, signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_shards_in_threads_share_one_state_and_leave_the_same(workers: int, tmp_path: Path):
    todo = shards(8)
    plain, _ = ran(tmp_path / "plain", Numbers(), todo, 1)
    threaded, told = ran(tmp_path / "threaded", Together(), todo, workers)  # a shard alone would wait in vain
    assert threaded == plain
    assert sorted(told) == sorted(shard.key for shard in todo)


def test_an_error_in_a_thread_lets_the_others_finish_what_they_do(tmp_path: Path):
    todo = [*shards(1), Shard("odd", 1, (-1,)), *shards(50)[1:]]  # the first takes a second, the odd one no time
    with pytest.raises(InputError, match="number is negative"):
        ran(tmp_path, RefusingInThreads(), todo, 1)
    assert records(tmp_path) == 1
    assert ran(tmp_path, Numbers(), todo[:1], 1)[0][0].is_reused


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"kind": "spark"}, "unknown engine 'spark'"),
        ({"ray_address": "auto"}, "are of Ray"),
        ({"gpus_per_worker": 0.5}, "are of Ray"),
    ],
)
def test_an_engine_that_makes_no_sense_is_refused(wrong: dict, what: str):
    with pytest.raises(UsageError, match=what):
        Engine(**wrong)


def test_where_there_is_no_ray_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("ray", "pipeline.adapters.engine_ray"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr("pipeline.adapters.engine_ray", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoRay(), *sys.meta_path])
    with pytest.raises(UsageError, match="Ray is not installed") as caught:
        engine.run(tmp_path, Numbers(), shards(1), engine=Engine(1, "ray"), done=lambda _, shard: None)
    assert "fovea[ray]" in caught.value.fix


class NoRay:
    """An environment without it."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
