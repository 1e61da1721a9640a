"""Puts this folder on the path, so that tests below it can import `small_stores`, and shares one read-only store."""

import shutil
import sys
from pathlib import Path

import pytest

from schemas.reader import Store

sys.path.insert(0, str(Path(__file__).parent))
from small_stores import small_store


@pytest.fixture(scope="session")
def searched_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A sound store, built once: look, but do not touch."""
    return small_store(tmp_path_factory.mktemp("searched") / "store")


@pytest.fixture
def own_store(searched_store: Store, tmp_path: Path) -> Store:
    """A copy of the sound store, to be spoiled."""
    shutil.copytree(searched_store.root, tmp_path / "store")
    return Store(tmp_path / "store")
