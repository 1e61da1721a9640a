"""A store that cannot be written is read as ever, and a build says in plain words that it cannot write."""

import json
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from schemas.reader import Store
from tests.pipeline.harsh_machines import Disk, fovea_without_privilege, has_namespaces
from tests.processes import PHANTOM, bytes_of

INGEST = ("ingest", *PHANTOM)
SEARCH = ("build-trajectories", "--source", "phantom", "--expert", "annotations")
NEEDS = (pytest.mark.skipif(not has_namespaces(), reason="no mount namespaces here"), pytest.mark.slow)
MOUNTED = pytest.param("a read-only disk", marks=NEEDS)
Fovea = Callable[..., CompletedProcess[str]]


@pytest.fixture(params=["permissions", MOUNTED])
def read_only(
    request: pytest.FixtureRequest, phantom_store: Store, tmp_path: Path
) -> Iterator[tuple[Path, Path, Fovea]]:
    """The store as commands see it, as the test sees it, and the command."""
    if request.param == "permissions":
        root = tmp_path / "store"
        shutil.copytree(phantom_store.root, root)
        allow(root, 0)
        yield root, root, fovea_without_privilege
        allow(root, stat.S_IWUSR)
        return
    with Disk(tmp_path / "disk") as disk:
        disk.remount("size=32m")
        shutil.copytree(phantom_store.root, disk.seen / "store")
        disk.remount("ro")
        yield disk.root / "store", disk.seen / "store", disk.fovea


def allow(root: Path, write: int) -> None:
    for path in [root, *root.rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) | write)


def test_it_is_read_and_a_build_says_that_it_cannot_write(read_only: tuple[Path, Path, Fovea], phantom_store: Store):
    store, seen, fovea = read_only
    asked = fovea("sql", "SELECT count(*) AS n FROM questions", "--store", store, "--json")
    assert (asked.returncode, json.loads(asked.stdout)) == (0, {"columns": ["n"], "rows": [[152]]})
    assert fovea("audit", "--store", store).returncode == 0
    for line, root in (((*SEARCH, "--seed", 1), store), (INGEST, store / "another")):
        told = fovea(*line, "--store", root)
        assert (told.returncode, told.stdout) == (1, "")
        what, where, fix = told.stderr.splitlines()
        assert what.startswith("error cannot write: ")
        assert "Permission denied" in what or "Read-only file system" in what
        assert where.startswith(f"  where: {store}")
        assert fix == "  fix:   look at free space and permissions"
    assert bytes_of(seen) == bytes_of(phantom_store.root)


@pytest.mark.parametrize("read_only", ["permissions"], indirect=True)
def test_a_build_that_has_nothing_to_write_says_so(read_only: tuple[Path, Path, Fovea]):
    store, _, fovea = read_only
    again = fovea(*SEARCH, "--store", store)
    assert (again.returncode, again.stderr.partition(":")[0]) == (0, "nothing to do"), again.stderr
