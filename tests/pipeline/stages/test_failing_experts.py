"""An expert that runs out of memory or takes its worker with it: the build says so, and no row is lost or made up."""

import shutil
from pathlib import Path

import pytest

from schemas.reader import Store
from tests.pipeline.harsh_machines import fovea_in, patched
from tests.processes import bytes_of, fovea

SEARCH = ("build-trajectories", "--source", "phantom", "--expert", "annotations")
PATCH = """
import os, signal
from pipeline.adapters.experts.annotations import AnnotationsExpert
answer = AnnotationsExpert.answer
def harmed(self, asks):
    if any(ask.question.question_id in {ids} for ask in asks):
        {harm}
    return answer(self, asks)
AnnotationsExpert.answer = harmed
"""  # the expert's id is the same as ever, so that a healthy one may go on


@pytest.fixture
def ingested(phantom_store: Store, tmp_path: Path) -> Path:
    """A copy of the store as it was before any trajectories."""
    root = tmp_path / "store"
    shutil.copytree(phantom_store.root, root, ignore=shutil.ignore_patterns("trajectories", "expert_calls", "v2.json"))
    return root


def harmful(folder: Path, store: Store, harm: str, first: str = "") -> dict[str, str]:
    """An environment in which the annotations expert does harm when one question of the last train shard is asked."""
    train = [row.question_id for row in store.snapshot().records("questions", split="train")]
    return patched(folder, first + PATCH.format(ids={train[-1]}, harm=harm))


def check_goes_on(root: Path, phantom_store: Store, n_records: int) -> None:
    """Nothing was committed, finished shards were kept, and a healthy expert finishes the build as if nothing was."""
    assert Store(root).versions() == [1]
    assert len(list(root.glob("work/trajectories/*.json"))) == n_records
    assert fovea(*SEARCH, "--store", root).returncode == 0
    assert bytes_of(root) == bytes_of(phantom_store.root)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_memory_that_runs_out_is_an_error_for_people(
    workers: int, phantom_store: Store, ingested: Path, tmp_path: Path
):
    environ = harmful(tmp_path / "patch", phantom_store, "raise MemoryError")
    told = fovea_in(environ, *SEARCH, "--store", ingested, "--workers", workers)
    assert (told.returncode, told.stdout) == (1, "")
    assert "Traceback" not in told.stderr, told.stderr
    what, where, fix = told.stderr.splitlines()
    assert "memory" in what
    assert "train/" in where
    assert "--workers" in fix
    if workers == 1:
        check_goes_on(ingested, phantom_store, 3)  # the test split, two of the three train shards


ONE_ATTEMPT = "from pipeline.adapters import engine_job; engine_job.ATTEMPTS = 1"  # for the sake of time


def test_a_shard_that_kills_its_worker_is_named_and_the_rest_is_finished(
    phantom_store: Store, ingested: Path, tmp_path: Path
):
    environ = harmful(tmp_path / "patch", phantom_store, "os.kill(os.getpid(), signal.SIGKILL)", ONE_ATTEMPT)
    told = fovea_in(environ, *SEARCH, "--store", ingested, "--workers", 2)
    assert (told.returncode, told.stdout) == (1, "")
    what, where, fix = told.stderr.splitlines()
    assert what.startswith("error shard train/")
    assert what.endswith("/128 killed its worker 1 times")
    assert where == "  where: stage trajectories"
    assert "the 4 finished shards are kept" in fix
    check_goes_on(ingested, phantom_store, 4)
