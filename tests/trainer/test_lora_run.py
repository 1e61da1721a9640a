"""A run that trains adapters beside a tower: killed and resumed it is the same to the bit, and it can be evaluated."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cli
from tests.trainer.small_runs import RECIPE, steps_of, train, weights_of
from trainer.checkpoints import Checkpoints
from trainer.evaluate_command import evaluate

ROOT = Path(cli.__file__).parent
FILES = ["adapter_model.safetensors", "optimizer.safetensors", "vision_tower.safetensors"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "lora.toml"
    path.write_text(RECIPE.replace("freeze_vision = false", "freeze_vision = false\nlora_rank = 4\nlora_alpha = 8.0"))
    return path


@pytest.fixture(scope="module")
def whole(run_store, recipe, tmp_path_factory):
    return train(run_store, tmp_path_factory.mktemp("lora") / "run", recipe)


def test_a_run_killed_anywhere_goes_on_to_the_bit(run_store, recipe, whole, tmp_path):
    outs = [tmp_path / where for where in ("in-a-checkpoint", "in-a-line")]
    command = [sys.executable, "-m", "tests.trainer.dying_runs", run_store.root, recipe, *outs]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout.split() == [word for out in outs for word in (out.name, "-9")], done.stderr
    for out in outs:
        train(run_store, out, recipe, resume=True)
        assert steps_of(out) == steps_of(whole)
        for step in (3, 6):
            assert weights_of(out, step) == weights_of(whole, step)


def test_its_checkpoints_hold_what_is_trained_and_nothing_else(whole):
    states = [weights_of(whole, step) for step in (0, 3, 6)]
    assert all(sorted(one) == FILES for one in states)
    for name in ("adapter_model.safetensors", "vision_tower.safetensors"):
        assert len({one[name] for one in states}) == 3
    assert all(line["is_skipped"] == 0.0 for line in steps_of(whole))


def test_it_is_evaluated_also_where_it_was_moved_to(whole, run_store, tmp_path):
    moved = shutil.copytree(whole, tmp_path / "moved")
    told = [evaluate(run, run_store.root, "test", "latest", None, 2, 0.0, "cpu")[1] for run in (whole, moved)]
    assert told[0] == told[1]
    shutil.move(moved / "base", tmp_path / "base")
    with pytest.raises(Exception, match="cannot be loaded"):
        evaluate(moved, run_store.root, "test", "latest", None, 2, 0.0, "cpu")
    assert Checkpoints(moved).latest() == 6
