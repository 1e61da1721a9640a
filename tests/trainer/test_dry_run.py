import json
import sys

import pytest
import torch

import cli
from schemas.errors import CheckpointError, UsageError
from tests.trainer.small_runs import train
from trainer.dry_run import estimate_of, refuse_too_large, told
from trainer.recipe import load_recipe
from trainer.tiny import save_tiny


def printed(monkeypatch, capsys, *words):
    common = ["fovea", "train", "--store", "nowhere", "--out", "nothing", "--dry-run"]
    monkeypatch.setattr(sys, "argv", [*common, *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code in (0, None)
    return capsys.readouterr().out


@pytest.fixture
def config_alone(lines, small, tmp_path):
    folder = save_tiny(small, lines, 0, tmp_path / "base")
    for path in folder.iterdir():
        if path.name != "config.json":
            path.unlink()
    return folder


def test_the_configuration_is_all_that_is_read(config_alone, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ["--recipe", "medeyes", "--set", f"model.base={config_alone}", "--json"]
    found = json.loads(printed(monkeypatch, capsys, *words))
    assert found["parameters"]["total"] > found["parameters"]["trained"] > 0
    parts = {name: sum(found[name].values()) for name in ("resident", "rollout", "update")}
    assert found["peak"] >= parts["resident"] + max(parts["rollout"], parts["update"])
    assert (found["device"], found["world_size"], found["sharding"]) == ("cpu", 1, "none")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_people_are_told_in_lines(monkeypatch, capsys):
    text = printed(monkeypatch, capsys, "--recipe", "tiny", "--device", "cuda")
    assert text.startswith("parameters ")
    assert "peak about" in text.splitlines()[-1]


def test_the_number_of_processes_is_torchruns(config_alone, monkeypatch, capsys):
    words = ["--recipe", "medeyes", "--set", f"model.base={config_alone}", "--set", "run.sharding=zero3", "--json"]
    alone = json.loads(printed(monkeypatch, capsys, *words))
    monkeypatch.setenv("WORLD_SIZE", "4")
    shared = json.loads(printed(monkeypatch, capsys, *words))
    assert (shared["world_size"], shared["sharding"]) == (4, "zero3")
    assert shared["peak"] < alone["peak"]


def test_the_tiny_model_is_the_one_that_a_run_makes(lines):
    recipe = load_recipe("tiny")
    found = estimate_of(recipe)
    from trainer.tiny import make_tiny

    model, *_ = make_tiny(recipe.tiny, lines, 0)
    assert found.parameters["total"] == sum(one.numel() for one in model.parameters())


def test_more_prompts_than_rows_that_live_take_no_more_caches(config_alone):
    few, many = (
        estimate_of(load_recipe("medeyes", [f"model.base={config_alone}", f"run.prompts_per_step={n}"])).rollout
        for n in (17, 170)
    )
    for part in ("row caches", "prompt caches", "logits"):
        assert few[part] == many[part] > 0


def test_a_model_that_is_not_there_and_one_of_another_kind_are_named(tmp_path, config_alone):
    with pytest.raises(CheckpointError, match="no configuration"):
        estimate_of(load_recipe("medeyes", [f"model.base={tmp_path / 'gone'}"]))
    path = config_alone / "config.json"
    path.write_text(path.read_text().replace('"qwen2_5_vl"', '"qwen2_vl"'))
    with pytest.raises(CheckpointError, match="qwen2_vl"):
        estimate_of(load_recipe("medeyes", [f"model.base={config_alone}"]))


def test_a_run_that_no_gpu_could_hold_is_refused_and_one_on_the_cpu_is_not(monkeypatch):
    found = estimate_of(load_recipe("tiny"), "cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (found.peak - 1, 10**12))
    with pytest.raises(UsageError, match="GPU memory") as error:
        refuse_too_large(found, "cuda")
    assert "run.max_tokens" in error.value.fix
    refuse_too_large(found, "cpu")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (found.peak, 10**12))
    refuse_too_large(found, "cuda:0")


def test_a_run_says_it_before_it_loads_anything(run_store, recipe_path, tmp_path, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.running.prepare", stop)
    with pytest.raises(KeyboardInterrupt):
        train(run_store, tmp_path / "run", recipe_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines == told(estimate_of(load_recipe(str(recipe_path))))
