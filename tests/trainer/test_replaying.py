"""A recorded run is done again and held against its record; the first difference is named and ends it."""

import json
import math
import shutil
import sys

import pytest

import cli
import trainer.loop
from pipeline.stages.ingest import ingest
from pipeline.stages.phantom_source import PhantomSource
from schemas.errors import CheckpointError, StoreError, TrainingError
from schemas.reader import Store
from tests.trainer.small_runs import SIDE_PX, steps_of, train, weights_of
from trainer.recipe import load_recipe
from trainer.replaying import replay
from trainer.runlog import RunLog
from trainer.tiny import save_tiny


@pytest.fixture
def fovea(run_store, monkeypatch, capsys):
    """`fovea train --store … --json` with more words: exit code, the object, what was said on stderr."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["fovea", "train", "--store", str(run_store.root), "--json", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return left.value.code or 0, json.loads(said.out) if said.out else None, said.err

    return call


def again(run, store, out, stop_after=None):
    replay(run, str(store.root), out, stop_after=stop_after, device="cpu", threads=1, json=False)
    return out


@pytest.fixture
def copied(whole_run, tmp_path):
    """A copy of the whole run, to be tampered with."""
    return shutil.copytree(whole_run, tmp_path / "run")


def tamper(run, step, **changed):
    log = RunLog(run)
    lines = [line | (changed if line["step"] == step else {}) for line in log.steps()]
    log.steps_path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_run_equals_itself(fovea, whole_run, tmp_path):
    code, told, said = fovea("--replay", whole_run, "--out", tmp_path / "new")
    assert (code, told["steps_equal"], told["checkpoints_equal"]) == (0, 6, [0, 3, 4, 6])
    assert told["difference"] is None
    assert told["unlike"] == []
    assert "warning" not in said
    assert steps_of(tmp_path / "new") == steps_of(whole_run)


@pytest.mark.parametrize(("phase", "step", "name"), [("warm", 1, "grad_norm"), ("grpo", 4, "policy/entropy")])
def test_the_first_difference_is_named_and_ends_the_run(fovea, copied, tmp_path, phase, step, name):
    is_ = RunLog(copied).steps()[step][name]
    was = math.nextafter(is_, 9.0)
    tamper(copied, step, **{name: was})
    tamper(copied, 5, loss=7.0)
    code, told, said = fovea("--replay", copied, "--out", tmp_path / "new")
    assert code == 1
    assert told["difference"] == {"step": step, "name": name, "was": was, "is": is_}
    assert told["steps_equal"] == step
    assert f"error step {step}: {name} was {was}, is {is_}" in said
    assert len(RunLog(tmp_path / "new").steps()) == step + 1


@pytest.mark.parametrize(
    ("changed", "what"), [({"news": 1}, "news was 1, is absent"), ({"loss": None}, "was None, is ")]
)
def test_a_number_that_only_one_of_them_has_is_a_difference(copied, run_store, tmp_path, changed, what):
    tamper(copied, 0, **changed)
    with pytest.raises(TrainingError, match=what):
        again(copied, run_store, tmp_path / "new", stop_after=1)


def test_clocks_may_differ(copied, run_store, tmp_path):
    tamper(copied, 0, seconds=-1.0)
    again(copied, run_store, tmp_path / "new", stop_after=1)
    assert len(RunLog(tmp_path / "new").steps()) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_weights_are_compared_byte_by_byte(copied, run_store, tmp_path, name):
    path = copied / "checkpoints" / "step-000003" / name
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(TrainingError, match=f"step 3: checkpoint {name} was [0-9a-f]+, is [0-9a-f]+"):
        again(copied, run_store, tmp_path / "new")
    assert len(RunLog(tmp_path / "new").steps()) == 4


def test_the_last_checkpoint_is_compared_too(copied, run_store, tmp_path):
    path = copied / "checkpoints" / "step-000006" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(TrainingError, match="step 6: checkpoint"):
        again(copied, run_store, tmp_path / "new")


def test_a_run_that_was_stopped_and_resumed_and_one_with_a_step_that_failed(
    run_store, recipe_path, tmp_path, monkeypatch
):
    """Three of its six steps were done, in two goes; the loss of step 1 was not finite."""
    imitate = trainer.loop.imitate

    def spoilt(policy, batch, weights, recipe, *more, **others):
        metrics = imitate(policy, batch, weights, recipe, *more, **others)
        return metrics | {"loss": math.inf} if spoilt.calls.append(1) or len(spoilt.calls) == 2 else metrics

    spoilt.calls = []
    monkeypatch.setattr(trainer.loop, "imitate", spoilt)
    run = train(run_store, tmp_path / "run", recipe_path, stop=2)
    train(run_store, run, recipe_path, resume=True, stop=3)
    assert [line["is_finite"] for line in steps_of(run)] == [1.0, 0.0, 1.0]
    spoilt.calls = []
    new = again(run, run_store, tmp_path / "new")
    assert steps_of(new) == steps_of(run)
    assert weights_of(new, 3) == weights_of(run, 3)
    with pytest.raises(TrainingError, match="step 1: loss was None, is "):
        again(run, run_store, tmp_path / "healthy")


def test_what_may_change_bits_is_told_and_not_refused(fovea, copied, tmp_path):
    about = RunLog(copied).read()
    about["versions"]["numpy"], about["threads"] = "1.0", 7
    RunLog(copied).begin(about)
    code, told, said = fovea("--replay", copied, "--out", tmp_path / "new", "--stop-after", 1)
    assert (code, told["steps_equal"], told["steps_done"]) == (0, 1, 1)
    assert [one.split(",")[0] for one in told["unlike"]] == ["threads was 7", "versions.numpy was 1.0"]
    assert "warning: bits may differ: threads was 7, is 1" in said


def test_another_store_is_refused_and_a_grown_one_is_not(copied, run_store, tmp_path):
    grown = Store(shutil.copytree(run_store.root, tmp_path / "grown"))
    ingest(grown, PhantomSource(n_test=1, side_px=SIDE_PX, offset=50), name="more")
    again(copied, grown, tmp_path / "new", stop_after=1)
    other = Store(tmp_path / "other")
    ingest(other, PhantomSource(n_train=6, n_test=5, side_px=SIDE_PX))
    with pytest.raises(StoreError, match=run_store.head().digest[:8]):
        again(copied, other, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_another_base_model_is_refused(run_store, recipe_path, small_recipe, tmp_path):
    base = save_tiny(small_recipe.tiny, ["Look."], 0, tmp_path / "base")
    recipe = load_recipe(str(recipe_path), [f"model.base={base}"])
    run = tmp_path / "run"
    about = {"recipe": recipe.plain(), "base": "0" * 64, "store_digest": run_store.head().digest}
    RunLog(run).begin(about)
    with pytest.raises(CheckpointError, match="another base model: its identity was 0000"):
        again(run, run_store, tmp_path / "new")


@pytest.mark.parametrize("more", [["--recipe", "tiny"], ["--set", "run.seed=1"], ["--resume"], ["--version", "v1"]])
def test_a_replay_takes_its_settings_from_the_record(fovea, whole_run, tmp_path, more):
    code, told, said = fovea("--replay", whole_run, "--out", tmp_path / "new", *more)
    assert (code, told) == (2, None)
    assert "--replay takes recipe" in said


def test_no_run_is_no_record(fovea, tmp_path):
    code, _, said = fovea("--replay", tmp_path / "nothing", "--out", tmp_path / "new")
    assert code == 1
    assert "not a run" in said
