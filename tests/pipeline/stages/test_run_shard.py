"""Tasks of an array job do the shards between them, each once; the command itself then only packs and commits."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.work import Shard
from pipeline.stages.shares import Share, share_from_environment, share_from_text
from schemas.errors import UsageError
from schemas.reader import Store
from tests.processes import PHANTOM, bytes_of, fovea

LINE = ("build-trajectories", "--source", "phantom", "--expert", "annotations")


def slurm(task: int, first: int, step: int, count: int) -> dict[str, str]:
    told = {"ID": task, "MIN": first, "STEP": step, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in told.items()}


def test_tasks_do_all_shards_and_the_command_commits_the_bytes_of_one_build(phantom_store: Store, tmp_path: Path):
    ingest = ("ingest", *PHANTOM, "--store", tmp_path)
    told = [json.loads(fovea("run-shard", f"{index}/2", "--json", "--", *ingest).stdout) for index in (1, 0)]
    assert told == [{"shards": 2, "done": 2, "reused": 0}, {"shards": 3, "done": 3, "reused": 0}]
    assert Store(tmp_path).versions() == []
    assert json.loads(fovea(*ingest, "--json", check=True).stdout)["shards_reused"] == 5

    line = (*LINE, "--store", tmp_path)
    first = fovea("run-shard", "1/2", "--", *line)
    assert (first.returncode, first.stdout) == (0, "")
    assert first.stderr == "share 1/2 of build-trajectories: 2 shards done, 0 reused; nothing is committed yet\n"
    again = fovea("run-shard", "3/2", "--", *line, "--json")  # 3 is 1, modulo 2
    assert json.loads(again.stdout) == {"shards": 2, "done": 0, "reused": 2}
    assert Store(tmp_path).versions() == [1]
    whole = json.loads(fovea(*line, "--json", check=True).stdout)  # does what no task has done
    assert (whole["shards"], whole["shards_reused"], whole["version"]) == (5, 2, "v2")
    assert bytes_of(tmp_path) == bytes_of(phantom_store.root)


def test_a_task_takes_its_share_from_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in slurm(8, 8, 1, 3).items():
        monkeypatch.setenv(name, value)
    told = fovea("run-shard", "--", "ingest", *PHANTOM, "--store", tmp_path, "--json")
    assert json.loads(told.stdout) == {"shards": 2, "done": 2, "reused": 0}


@given(n_shards=st.integers(0, 40), count=st.integers(1, 50))
@settings(max_examples=50, deadline=None)
def test_shares_are_all_shards_once(n_shards: int, count: int):
    shards = [Shard(str(index), 1, None) for index in range(n_shards)]
    taken = [shard for index in range(1, count + 1) for shard in Share(index, count).of(shards)]
    assert sorted(taken, key=lambda shard: int(shard.key)) == shards


@given(first=st.integers(0, 9), step=st.integers(1, 5), count=st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_a_slurm_array_has_every_share_once(first: int, step: int, count: int):
    tasks = (slurm(first + step * index, first, step, count) for index in range(count))
    assert [share_from_environment(task) for task in tasks] == [Share(index, count) for index in range(count)]


@pytest.mark.parametrize(
    ("environ", "what"),
    [
        ({}, "which share"),
        ({"SLURM_ARRAY_TASK_ID": "3"}, "which share"),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "3"}, "which share"),
        (slurm(5, 1, 1, 3), "have gaps"),  # --array=1,5,7
        (slurm(6, 1, 2, 4), "have gaps"),
    ],
)
def test_an_environment_that_names_no_share_is_refused(environ: dict[str, str], what: str):
    with pytest.raises(UsageError, match=what):
        share_from_environment(environ)


def test_aws_batch_counts_from_0():
    assert share_from_environment({"AWS_BATCH_JOB_ARRAY_INDEX": "3", "AWS_BATCH_JOB_ARRAY_SIZE": "10"}) == Share(3, 10)


@pytest.mark.parametrize("text", ["1/0", "-1/3", "1", "a/b", "1/2/3", "1/ 2", "/"])
def test_a_share_that_is_none_is_refused(text: str):
    with pytest.raises(UsageError):
        share_from_text(text)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("0/2",), "'nothing' is no building command"),
        (("0/2", "--", "audit"), "'audit' is no building command"),
        (("2", "--", "ingest", "phantom"), "'2' is no building command"),
        (("0/2", "--", "ingest", "phantom"), "Missing option '--store'"),
        (("0/2", "--", "ingest", "phantom", "--help"), "builds nothing"),
        (("--", "ingest", "phantom", "--store", "{tmp}"), "which share"),
    ],
)
def test_a_wrong_line_says_so_and_does_nothing(words: tuple[str, ...], what: str, tmp_path: Path):
    told = fovea("run-shard", *(word.replace("{tmp}", str(tmp_path / "store")) for word in words))
    assert told.returncode == 2
    assert what in told.stderr
    assert not (tmp_path / "store").exists()
