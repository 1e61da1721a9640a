"""Six steps in one go equal any number of interrupted ones, to the bit; what could not be equal is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import cli
from pipeline.stages.ingest import ingest
from pipeline.stages.phantom_source import PhantomSource
from schemas.errors import CheckpointError, UsageError
from schemas.reader import Store
from tests.trainer.small_runs import SIDE_PX, steps_of, train, weights_of
from trainer.checkpoints import Checkpoints
from trainer.running import start

ROOT = Path(cli.__file__).parent
DEATHS = {  # where the process is killed: checkpoint it goes on from, lines that are whole
    "before-the-first-checkpoint": (None, 0),
    "between-line-and-checkpoint": (0, 2),  # in the warm start
    "in-a-checkpoint": (3, 4),  # of the first step of GRPO
    "in-a-line": (4, 5),
}


@pytest.fixture(scope="module")
def killed(run_store, recipe_path, tmp_path_factory):
    """The folder of each run, left as SIGKILL left it."""
    folder = tmp_path_factory.mktemp("killed")
    outs = {where: folder / where for where in DEATHS}
    command = [sys.executable, "-m", "tests.trainer.dying_runs", run_store.root, recipe_path, *outs.values()]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [word for where in DEATHS for word in (where, "-9")], done.stderr
    return outs


def assert_same_run(run, whole):
    assert steps_of(run) == steps_of(whole)
    for step in (3, 6):
        assert weights_of(run, step) == weights_of(whole, step)


@pytest.mark.parametrize("where", DEATHS)
def test_a_killed_run_goes_on_as_if_it_had_not_been(killed, whole_run, run_store, recipe_path, where):
    out, (latest, n_lines) = killed[where], DEATHS[where]
    assert Checkpoints(out).latest() == latest
    assert ((out / "steps.jsonl").read_text() if n_lines else "").count("\n") == n_lines
    train(run_store, out, recipe_path, resume=True)
    assert_same_run(out, whole_run)
    assert not list((out / "checkpoints").glob(".*"))


def test_the_weights_do_move_and_both_phases_have_a_hand_in_it(whole_run):
    states = [weights_of(whole_run, step) for step in (0, 3, 4, 6)]
    assert len({one["model.safetensors"] for one in states}) == 4
    assert all(line["is_skipped"] == 0.0 for line in steps_of(whole_run))


def test_stopping_by_hand_and_through_the_command_line(
    run_store, recipe_path, whole_run, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "run"
    words = ["fovea", "train", "--store", run_store.root, "--recipe", recipe_path, "--out", out, "--json"]
    for more, done in (["--stop-after", "3"], 3), (["--resume"], 6), (["--resume", "--stop-after", "2"], 6):
        monkeypatch.setattr(sys, "argv", [*map(str, words), *more])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert left.value.code in (0, None)
        printed = json.loads(capsys.readouterr().out)
        assert (printed["steps_done"], printed["steps"]) == (done, 6)
        assert printed["store_digest"] == run_store.head().digest
    assert_same_run(out, whole_run)


@pytest.fixture
def stopped(whole_run, tmp_path):
    """A copy of the whole run, to be tampered with."""
    return shutil.copytree(whole_run, tmp_path / "run")


def test_another_recipe_is_refused(stopped, run_store, recipe_path):
    for override, what in (("run.seed=1", "run.seed was 0, is 1"), ("run.max_tokens=99", "run.max_tokens was")):
        with pytest.raises(CheckpointError, match=f"cannot be resumed: recipe.{what}"):
            train(run_store, stopped, recipe_path, override, resume=True)


def test_another_store_is_refused_and_the_old_version_of_a_grown_one_is_not(stopped, run_store, recipe_path, tmp_path):
    grown = Store(shutil.copytree(run_store.root, tmp_path / "store"))
    digest = run_store.head().digest
    ingest(grown, PhantomSource(n_test=1, side_px=SIDE_PX, offset=50), name="more")
    with pytest.raises(CheckpointError, match="store_digest") as error:
        train(grown, stopped, recipe_path, resume=True)
    assert f"--version {digest}" in error.value.fix
    how = {"is_resumed": True, "stop_after": None, "device": "cpu", "threads": 1, "json": False}
    start(grown.root, stopped, str(recipe_path), [], version=digest, **how)


def test_another_number_of_threads_is_refused(stopped, run_store, recipe_path):
    how = {"is_resumed": True, "stop_after": None, "version": None, "device": "cpu", "json": False}
    try:
        with pytest.raises(CheckpointError, match="threads was 1, is 2"):
            start(run_store.root, stopped, str(recipe_path), [], threads=2, **how)
    finally:
        torch.set_num_threads(1)


def test_no_run_is_begun_twice_and_none_is_resumed_that_was_not_begun(stopped, run_store, recipe_path, tmp_path):
    before = steps_of(stopped)
    with pytest.raises(UsageError, match="a run here already"):
        train(run_store, stopped, recipe_path)
    assert steps_of(stopped) == before
    (stopped / "run.json").unlink()  # its checkpoints would pass for those of a new run
    with pytest.raises(UsageError, match="a run here already"):
        train(run_store, stopped, recipe_path)
    with pytest.raises(CheckpointError, match="not a run"):
        train(run_store, tmp_path / "nowhere", recipe_path, resume=True)


def test_a_model_that_cannot_be_loaded_leaves_no_run_in_the_way(run_store, recipe_path, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(CheckpointError):
        train(run_store, out, recipe_path, f"model.base='{tmp_path / 'no-model'}'")
    assert not (out / "run.json").exists()
    train(run_store, out, recipe_path, stop=1)
    assert len(steps_of(out)) == 1
