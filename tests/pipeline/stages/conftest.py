"""One store of drawn radiographs, built by the commands themselves, for all tests of stages."""

from pathlib import Path

import pytest

from schemas.reader import Store
from tests.processes import PHANTOM, fovea


@pytest.fixture(scope="session")
def phantom_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """v1 is the ingest, v2 adds trajectories, both by one worker: look, but do not touch."""
    root: Path = tmp_path_factory.mktemp("phantom") / "store"
    fovea("ingest", *PHANTOM, "--store", root, check=True)
    fovea("build-trajectories", "--source", "phantom", "--expert", "annotations", "--store", root, check=True)
    return Store(root)
