"""A worker refuses to work for a build whose store or code it does not have, and gives known errors back."""

import os
from pathlib import Path

import pytest

from pipeline.adapters.ray_worker import Builder, RayWorker, code_digest
from pipeline.adapters.work import Shard
from schemas.errors import FoveaError, InputError, StoreError
from tests.small_stages import Numbers, Refusing


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    tmp_path.joinpath("mark").touch()
    return tmp_path / "mark"


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # workers change it


def test_a_worker_that_does_not_see_the_store_says_so(mark: Path):
    mark.unlink()
    told = RayWorker().set_up(Builder("there", os.getcwd(), mark, code_digest()), Numbers())
    assert isinstance(told, StoreError)
    assert str(mark) in (told.fix or "")


def test_another_fovea_on_another_machine_is_refused(mark: Path):
    told = RayWorker().set_up(Builder("there", os.getcwd(), mark, "another"), Numbers())
    assert isinstance(told, FoveaError)
    assert told.what == "another fovea is installed there"
    assert RayWorker().set_up(Builder("there", os.getcwd(), mark, code_digest()), Numbers()) is None


def test_relative_paths_are_of_the_builders_folder(mark: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir("/")
    assert RayWorker().set_up(Builder("there", str(mark.parent), Path("mark"), code_digest()), Numbers()) is None
    assert Path.cwd() == mark.parent


def test_a_known_error_is_given_back_whole(mark: Path, tmp_path: Path):
    worker = RayWorker()
    assert worker.set_up(Builder("there", os.getcwd(), None, code_digest()), Refusing()) is None
    told = worker.run(tmp_path, Shard("odd", 1, (-1,)))
    assert isinstance(told, InputError)
    assert (told.what, told.where, told.fix) == ("number is negative", "odd", "count up")
