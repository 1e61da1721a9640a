"""The sides of the training benches: they do what they say, need little, and are equal where they must be."""

import json
import subprocess
import sys
from importlib import import_module, util
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from pipeline.stages.bench_training import Case, Runner, Side
from pipeline.stages.bench_training_step import command
from tests.processes import ROOT
from trainer.bench.case import make_environment, make_policy, noise, recorded
from trainer.bench.updates import _side, dapo

SMALL = Case(image_tokens=4, group=2, turn_tokens=4, crop_tokens=4, vocabulary=320, repeats=1)
WITHOUT = """
import importlib.machinery, json, sys
from types import SimpleNamespace
hidden = {"accelerate", "datasets", "duckdb", "pandas", "peft", "qwen_vl_utils", "rich", "trl", "typer"}
find = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in hidden else find(name, path, target)
importlib.machinery.PathFinder.find_spec = staticmethod(find_spec)
from trainer.bench import parity, rollouts, steps
case = SimpleNamespace(**json.loads(sys.argv[1]))
print(json.dumps([parity.run(case, ""), rollouts.run(case, "fork"), steps.run(case, "ours")]))
"""


def case_of(**changed) -> SimpleNamespace:
    told = {name: getattr(SMALL, name) for name in SMALL.__slots__} | changed
    return SimpleNamespace(**Case(**told).told())


def test_our_sides_need_torch_and_transformers_alone():
    told = json.dumps(Case(**{name: getattr(SMALL, name) for name in SMALL.__slots__} | {"crops": 1}).told())
    line = [sys.executable, "-c", WITHOUT, told]
    ran = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    apart, rolled, stepped = json.loads(ran.stdout.splitlines()[-1])
    assert apart["shared"] <= 1e-6
    assert rolled["facts"]["written"] == 2 * 2 * 4
    assert stepped["facts"]["written"] == 2 * 4
    assert stepped["facts"]["row"] > stepped["facts"]["prompt"] + 2 * 4 + 4
    assert [list(run) for run in stepped["runs"]] == [["rollout", "update", "optimizer"]] * 2


@pytest.mark.parametrize("crops", [0, 1])
def test_every_rung_has_the_same_gradient(crops: int):
    """Exact in float64: what is timed against each other is the same update."""
    case = case_of(crops=crops, first_looks=1, group=3, turn_tokens=36, dtype="float64")
    policy = make_policy(case)
    rows = recorded(case, policy)
    policy.banned.zero_()
    grads = {}
    for name in ("tree", "shared prompt", "vision once", "cached features", "packed head", "naive", "full logits"):
        policy.model.zero_grad(set_to_none=True)
        policy.language_model.config._attn_implementation = "fovea"
        _side(case, name, policy, rows, dapo(rows))()
        grads[name] = {which: one.grad for which, one in policy.model.named_parameters()}
    wanted = grads.pop("naive")
    for name, found in grads.items():
        worst = max(float((found[which] - one).norm() / (one.norm() + 1e-6)) for which, one in wanted.items())
        assert worst < 1e-6, name


def test_recorded_rollouts_share_as_many_first_looks_as_asked_for():
    case = case_of(crops=1, first_looks=2, group=6)
    rows = recorded(case, make_policy(case))
    first = {(row.ids[row.n_prompt : row.n_prompt + 4], row.image_keys[1]) for row in rows}
    assert len(first) == 2
    assert len({row.ids for row in rows}) == 6


def test_a_fork_reads_no_token_twice_and_generate_reads_all_again():
    counts = {}
    for side in ("fork", "generate"):
        for crops in (0, 2):
            case = case_of(crops=crops, prompts=2)
            facts = import_module("trainer.bench.rollouts").run(case, side)["facts"]
            assert facts["written"] == 2 * 2 * (crops + 1) * 4
            counts[side, crops] = facts["forwarded"]
    case = case_of(crops=2, prompts=2)
    policy = make_policy(case)
    rows = recorded(case, policy)
    longest = 2 * rows[0].n_prompt + 4 * (len(rows[0].ids) - rows[0].n_prompt)  # two prompts, and four rows of the rest
    assert counts["fork", 2] <= longest
    assert counts["generate", 2] > 2 * longest
    assert counts["generate", 0] > counts["fork", 0]


def test_a_row_of_unequal_length_ends_where_it_should():
    case = case_of(prompts=2, lengths="uneven", live=2, turn_tokens=9)
    sides = [
        import_module("trainer.bench.rollouts").run(case, side)["facts"]["written"] for side in ("fork", "generate")
    ]
    assert sides[0] == sides[1] < 4 * 9


def test_the_scripted_environment_answers_as_often_as_the_case_says():
    case = case_of(crops=2)
    policy = make_policy(case)
    environment = make_environment(case, policy)
    (scene,) = environment.scenes({1: noise(case.image_tokens, 1)})
    episode = environment.start(scene, "policy", "one")
    seen = [environment.take(episode, (5, 6, 7, 8)) for _ in range(3)]
    assert [one is not None for one in seen] == [True, True, False]
    assert episode.is_over
    assert len({image.key for image in episode.images}) == 3


@pytest.mark.skipif(util.find_spec("trl") is None, reason="no TRL here: it is in the extra `bench`")
def test_a_bench_against_trl_from_end_to_end(tmp_path: Path):
    app = typer.Typer()
    app.command()(command)
    words = ["--against", "trl", "--image-tokens", "4", "--groups", "2", "--rounds", "1", "--repeats", "1", "--json"]
    settings = ["turn_tokens=4", "crops=2", "crop_tokens=4", "micro_batch=2"]
    words += [word for one in settings for word in ("--set", one)]
    made = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out.jsonl"), "--plot", str(tmp_path / "x.svg")])
    assert made.exit_code == 0, made.exception
    report = json.loads(made.stdout)
    assert report["parity"].keys() == {"shared", "trl_loss", "trl_gradient"}
    assert max(report["parity"].values()) <= 1e-5
    (row,) = report["rows"]
    assert row["ours"]["facts"] == row["theirs"]["facts"]
    assert row["ours"]["facts"]["written"] == 3 * 4
    assert row["ratio"] == pytest.approx(row["theirs"]["cpu_s"] / row["ours"]["cpu_s"], abs=0.01)
    assert row["theirs"]["phases_cpu_s"].keys() == {"rollout", "update", "optimizer"}
    assert report["config"]["trl"]["per_device_train_batch_size"] == 2
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
    known = Runner(tmp_path / "out.jsonl", minutes=0.0)
    assert known.run(Side("ours", Case(**row["case"])))["facts"] == row["ours"]["facts"]
