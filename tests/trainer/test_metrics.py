import subprocess
import sys
from pathlib import Path

import pytest

import cli
from tests.trainer.small_runs import steps_of, train
from trainer.metrics import EVERY_STEP, GRPO, METRICS, PER_STREAM, STREAMS, WARM, is_clocked
from trainer.runlog import RunLog

ROOT = Path(cli.__file__).parent


def test_a_run_writes_these_names_and_no_other(whole_run):
    lines = RunLog(whole_run).steps()
    written = {phase: set().union(*(one for one in lines if one["phase"] == phase)) for phase in ("warm", "grpo")}
    assert written["warm"] == EVERY_STEP.keys() | WARM.keys()
    assert written["grpo"] == METRICS.keys() - WARM.keys()
    seldom = {f"{stream}/grad_norm" for stream in STREAMS}
    assert all(set(one) >= written[one["phase"]] - seldom for one in lines)


def test_numbers_of_clocks_are_those_that_steps_of_leaves_out(whole_run):
    for line, kept in zip(RunLog(whole_run).steps(), steps_of(whole_run), strict=True):
        assert {name for name in line if not is_clocked(name)} == set(kept)
        assert set(line) - set(kept) >= {"seconds"}


def test_a_batch_without_a_distribution_names_nothing_else(run_store, recipe_path, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.facts.GroupFacts.is_finite", False)
    run = train(run_store, tmp_path / "run", recipe_path, "warm.kind=none", "loss.kl=0", stop=1)
    (line,) = RunLog(run).steps()
    assert line["is_finite"] == 0.0
    assert line["loss"] is None
    assert set(line) <= set(METRICS)


def test_everything_has_a_meaning_and_no_name_is_there_twice():
    assert len(METRICS) == len(EVERY_STEP) + len(WARM) + len(GRPO) + len(STREAMS) * len(PER_STREAM)
    assert all(about.meaning and about.meaning == about.meaning.strip() for about in METRICS.values())


@pytest.mark.parametrize("name", ["groups_dropped", "policy|expert/negatives_zeroed", "seconds"])
def test_the_command_explains_them_without_torch(name):
    code = "import sys; sys.argv[1:] = ['train', '--help-metrics']; import atexit, cli\n"
    code += "atexit.register(lambda: print('torch' in sys.modules)); cli.main()"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert any(line.split()[0] == name for line in said.splitlines())
    assert said.endswith("False\n")
