"""Ray actors leave what this process leaves; one that dies costs nothing, and what cannot work says so."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.adapters import engine, engine_job
from pipeline.adapters.engine import LOCAL, Engine
from pipeline.adapters.work import Receipt, Shard
from pipeline.core.hunt import SearchConfig
from pipeline.stages.build_trajectories import build_trajectories
from pipeline.stages.trajectory_stage import BuildTrajectories
from schemas.errors import FoveaError, InputError
from schemas.reader import Store
from tests.pipeline.small_stores import INGEST, asked, drawn_image, put_questions
from tests.processes import bytes_of, fovea
from tests.small_stages import Broken, DeadlyInThreads, Numbers, Refusing, Signed, Stillborn, Together, shards

ray = pytest.importorskip("ray")
engine_ray = pytest.importorskip("pipeline.adapters.engine_ray")
RAY = Engine(2, "ray")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[str]:
    """The address of a small Ray that all tests share."""
    with engine_ray.cluster("local", 2, 0.0):
        yield ray.get_runtime_context().gcs_address


def ran(root: Path, stage: Numbers, todo: list[Shard], how: Engine = RAY) -> tuple[list[Receipt], list[str]]:
    told = []
    receipts = engine.run(root, stage, todo, engine=how, done=lambda _, shard: told.append(shard.key))
    return receipts, told


def records(root: Path) -> int:
    return len(list((root / "work").glob("*/*.json")))


def test_actors_leave_what_one_process_leaves_in_the_order_of_the_plan(tmp_path: Path):
    todo = shards(7)
    here, _ = ran(tmp_path / "here", Numbers(), todo, LOCAL)
    there, told = ran(tmp_path / "there", Numbers(), todo)
    assert there == here
    assert sorted(told) == sorted(shard.key for shard in todo)
    assert all(receipt.is_reused for receipt in ran(tmp_path / "there", Numbers(), todo, LOCAL)[0])
    assert list((tmp_path / "there/work/tmp").iterdir()) == []


def test_the_command_leaves_the_bytes_of_the_local_engine(cluster: str, tmp_path: Path):
    images, local, remote = [drawn_image(number) for number in range(9)], Store(tmp_path / "a"), tmp_path / "b"
    put_questions(local, images, [asked(number, image) for number, image in enumerate(images)])
    shutil.copytree(local.root, remote)
    build_trajectories(local, BuildTrajectories(local.folder, 1, INGEST, "saliency", (), SearchConfig(), 0))
    line = ("build-trajectories", "--source", "drawn", "--expert", "saliency", "--json", "--store", remote)
    told = fovea(*line, "--engine", "ray", "--ray-address", cluster, "--workers", 2)
    assert (told.returncode, told.stderr) == (0, "")
    summary = json.loads(told.stdout)
    assert (summary["shards"], summary["shards_reused"]) == (2, 0)
    assert bytes_of(remote) == bytes_of(local.root)


def test_a_worker_killed_from_outside_changes_nothing(tmp_path: Path):
    todo, pids = shards(9), tmp_path / "pids"

    def kill(_: Receipt, shard: Shard) -> None:
        if len(told) == 3:
            os.kill(int(pids.read_text()), signal.SIGKILL)
        told.append(shard.key)

    told: list[str] = []
    receipts = engine.run(tmp_path / "killed", Signed(pids=pids), todo, engine=RAY, done=kill)
    assert receipts == ran(tmp_path / "calm", Numbers(), todo, LOCAL)[0]
    assert sorted(told) == sorted(shard.key for shard in todo)


def test_only_the_poison_shard_is_set_aside_and_all_others_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine_job, "ATTEMPTS", 1)  # alone: a death in company is held against no shard
    todo = [Shard("weak", 1, (-100,)), *shards(2), Shard("poison", 1, (-1,)), *shards(8)[2:]]
    with pytest.raises(FoveaError, match=r"shard poison killed its worker 1 times") as caught:
        ran(tmp_path, DeadlyInThreads(once=tmp_path / "died"), todo)
    assert ("9 finished shards are kept" in caught.value.fix, caught.value.exit_code) == (True, 1)
    assert (tmp_path / "died").exists()  # one death costs a shard nothing
    assert records(tmp_path) == 9


def test_an_error_arrives_as_itself_and_what_runs_is_finished_first(tmp_path: Path):
    todo = [*shards(2), Shard("odd", 1, (-1,)), *shards(200)[2:]]
    with pytest.raises(InputError) as caught:
        ran(tmp_path, Refusing(), todo)
    assert (caught.value.what, caught.value.where, caught.value.fix) == ("number is negative", "odd", "count up")
    assert 1 <= records(tmp_path) < 200  # nothing new was begun
    assert ran(tmp_path, Numbers(), todo[:1], LOCAL)[0][0].is_reused


def test_a_bug_keeps_its_traceback(tmp_path: Path):
    with pytest.raises(ZeroDivisionError, match=r"small_stages\.py"):
        ran(tmp_path, Broken(), shards(3))


def test_shards_in_threads_share_the_state_of_their_actor(tmp_path: Path):
    todo = shards(6)
    assert ran(tmp_path / "a", Together(), todo, Engine(1, "ray"))[0] == ran(tmp_path / "b", Numbers(), todo, LOCAL)[0]


def test_workers_that_die_before_their_first_shard_end_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_job, "ATTEMPTS", 2)
    with pytest.raises(FoveaError, match="2 times before its first shard"):
        ran(tmp_path, Stillborn(), shards(4))


def test_where_no_worker_finds_a_place_it_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_ray, "PLACED_S", 1)
    with pytest.raises(FoveaError, match="no worker found a place"):
        ran(tmp_path, Numbers(), shards(2), Engine(1, "ray", gpus_per_worker=1))


def test_an_address_where_no_ray_is_says_so(tmp_path: Path):
    line = ("ingest", "phantom", "--train", 1, "--store", tmp_path, "--engine", "ray", "--ray-address", "127.0.0.1:1")
    told = fovea(*line)
    assert (told.returncode, told.stdout) == (1, "")
    assert "no Ray cluster to work with" in told.stderr
    assert "Traceback" not in told.stderr
