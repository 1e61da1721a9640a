"""A disk that fills up ends a build with a clear error and a whole store; with space again, the bytes are the same."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.reader import Store
from tests.pipeline.harsh_machines import (
    Disk,
    fovea_with_files_of,
    has_namespaces,
    strays,
)
from tests.processes import PHANTOM, bytes_of, fovea

INGEST = ("ingest", *PHANTOM)
SEARCH = ("build-trajectories", "--source", "phantom", "--expert", "annotations")
FULL = ("No space left on device", "File too large")
needs_namespaces = pytest.mark.skipif(not has_namespaces(), reason="no unprivileged mount namespaces here")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with Disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def ingested(phantom_store: Store, tmp_path: Path) -> Path:
    """A copy of the store, work shards too, as it was before any trajectories."""
    root = tmp_path / "store"
    shutil.copytree(phantom_store.root, root, ignore=shutil.ignore_patterns("trajectories", "expert_calls", "v2.json"))
    return root


def check_told(told: subprocess.CompletedProcess[str], store: Path) -> None:
    """Exit 1; what went wrong, where, and what to do; no traceback."""
    assert (told.returncode, told.stdout) == (1, "")
    what, where, fix = told.stderr.splitlines()
    assert what.startswith("error cannot write: ")
    assert any(reason in what for reason in FULL)
    assert where.startswith(f"  where: {store}")
    assert fix == "  fix:   look at free space and permissions"


def check_whole(store: Path, phantom_store: Store) -> None:
    """Nothing is published that an undisturbed build does not publish, and nothing half lies anywhere."""
    assert bytes_of(store).items() <= bytes_of(phantom_store.root).items()
    assert strays(store) == set()
    assert list(store.glob("work/tmp/*")) == []


def check_readable(store: Path, version: int) -> None:
    assert Store(store).versions() == list(range(1, version + 1))
    if version:
        assert len(Store(store).snapshot().records("questions")) == 152


@pytest.mark.parametrize(("limit", "n_records"), [(20_000, 0), (1_000_000, 5)])  # in the first shard, in packing
def test_a_file_too_large_for_ingest(limit: int, n_records: int, phantom_store: Store, tmp_path: Path):
    check_told(fovea_with_files_of(limit, *INGEST, "--store", tmp_path), tmp_path)
    check_whole(tmp_path, phantom_store)
    assert len(list(tmp_path.glob("work/ingest/*.json"))) == n_records
    check_readable(tmp_path, 0)
    if n_records == 5:
        assert fovea(*INGEST, "--store", tmp_path).returncode == 0
        assert bytes_of(tmp_path) == ingest_of(phantom_store)


def test_a_part_too_large_for_trajectories(phantom_store: Store, ingested: Path):
    check_told(fovea_with_files_of(100_000, *SEARCH, "--store", ingested), ingested)
    check_whole(ingested, phantom_store)
    check_readable(ingested, 1)
    assert len(list(ingested.glob("work/trajectories/*.json"))) == 5
    assert fovea(*SEARCH, "--store", ingested).returncode == 0
    assert bytes_of(ingested) == bytes_of(phantom_store.root)


@pytest.mark.slow
@needs_namespaces
def test_a_disk_that_fills_up_in_ingest_and_grows(phantom_store: Store, disk: Disk):
    store, seen = disk.root / "store", disk.seen / "store"
    disk.remount("size=2m")
    check_told(disk.fovea(*INGEST, "--store", store), store)
    check_whole(seen, phantom_store)
    check_readable(seen, 0)
    disk.remount("size=16m")
    assert disk.fovea(*INGEST, "--store", store).returncode == 0
    assert bytes_of(seen) == ingest_of(phantom_store)


@pytest.mark.slow
@needs_namespaces
def test_a_disk_that_is_full_before_each_file_in_turn(phantom_store: Store, disk: Disk):
    """Folders count too. The manifest and the catalog are the last two."""
    store, seen = disk.root / "store", disk.seen / "store"
    n_refused, n_inodes = 0, 2
    disk.remount(f"size=16m,nr_inodes={n_inodes}")
    for line in (INGEST, SEARCH):
        while (told := disk.fovea(*line, "--store", store)).returncode:
            check_told(told, store)
            check_whole(seen, phantom_store)
            n_refused, n_inodes = n_refused + 1, n_inodes + 1
            disk.remount(f"nr_inodes={n_inodes}")
    assert n_refused > 50
    assert bytes_of(seen) == bytes_of(phantom_store.root)
    assert (seen / "catalog" / "init.sql").read_bytes() == (phantom_store.root / "catalog" / "init.sql").read_bytes()


def ingest_of(store: Store) -> dict[str, str]:
    """What the store published before its trajectories."""
    named = {part.path for _, part in store.load(1).parts()} | {"manifests/v1.json"}
    return {path: digest for path, digest in bytes_of(store.root).items() if path in named}
