"""What the command line gets wrong is said in a sentence, before anything is written."""

import sys

import pytest

import cli
from schemas.errors import UsageError
from tests.trainer.small_runs import train
from trainer.policy import Policy, refuse_absent_device
from trainer.running import start


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99", "cpu:1", ""])
def test_a_device_that_is_not_there_is_refused_before_the_store_is_read(tmp_path, device):
    how = {"is_resumed": False, "stop_after": None, "version": None, "threads": 1, "json": False}
    with pytest.raises(UsageError, match="no device") as error:
        start(tmp_path / "no-store", tmp_path / "run", "tiny", [], device=device, **how)
    assert "cpu" in error.value.fix
    with pytest.raises(UsageError, match="no device"):
        Policy.load(tmp_path, device=device)
    assert not (tmp_path / "run").exists()


def test_gpus_are_those_that_torch_reaches(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for device in ("cpu", "cuda", "cuda:0", "cuda:1"):
        refuse_absent_device(device)
    with pytest.raises(UsageError, match="cuda:2"):
        refuse_absent_device("cuda:2")


def test_a_file_is_no_folder_of_a_run(run_store, recipe_path, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UsageError, match="not the folder of a run"):
        train(run_store, tmp_path / "run", recipe_path)
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("words", [["--threads", "0"], ["--stop-after", "-1"]])
def test_numbers_that_no_run_could_use_are_wrong_usage(run_store, recipe_path, tmp_path, monkeypatch, words):
    common = ["fovea", "train", "--store", run_store.root, "--recipe", recipe_path, "--out", tmp_path / "run"]
    monkeypatch.setattr(sys, "argv", [*map(str, common), *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert not (tmp_path / "run").exists()
