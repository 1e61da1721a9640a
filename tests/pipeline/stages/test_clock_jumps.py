"""Clocks that jump, and files from the future or the past, change no byte and cost no running build its files."""

import os
import random
import shutil
from pathlib import Path

import pytest

from pipeline.adapters.sources.nih_cxr14 import NihCxr14
from pipeline.stages.gc import sweep
from pipeline.stages.ingest import ingest
from schemas.reader import Store
from tests.pipeline.harsh_machines import fovea_in, patched
from tests.pipeline.labelled_sets import put_csv, put_png
from tests.processes import PHANTOM, bytes_of

DAY_S = 86_400
SEARCH = ("build-trajectories", "--source", "phantom", "--expert", "annotations")
JUMPS = """
import random, time
real, chance = time.time, random.Random(7)
def jumped():
    return real() + chance.choice((-40, -1, 0, 2, 4000)) * 86_400 + chance.uniform(-9_000, 9_000)
time.time, time.time_ns = jumped, lambda: int(jumped() * 1e9)
"""  # monotonic clocks stay as they are, as they do on real machines
SET_AHEAD = "import time; real = time.time; time.time = lambda: real() + 90 * 86_400"  # as a file server in the past


def redated(folder: Path, seed: int) -> None:
    """Every file and folder gets a time between 1970 and ninety days from now."""
    chance, now_s = random.Random(seed), int(Path(folder).stat().st_mtime)
    for path in [folder, *sorted(folder.rglob("*"))]:
        stamp_s = chance.choice((0, 1, now_s - 400 * DAY_S, now_s + 2, now_s + 90 * DAY_S))
        os.utime(path, (stamp_s, stamp_s))


def test_a_jumping_clock_and_files_of_any_age_change_no_byte(phantom_store: Store, tmp_path: Path):
    jumping, store = patched(tmp_path / "patch", JUMPS), tmp_path / "store"
    assert fovea_in(jumping, "ingest", *PHANTOM, "--store", store).returncode == 0
    redated(store, 1)
    assert fovea_in(jumping, *SEARCH, "--store", store).returncode == 0
    redated(store, 2)
    again = fovea_in(jumping, *SEARCH, "--store", store)
    assert again.stderr.startswith("nothing to do: trajectories/phantom/annotations is unchanged (5 shards reused, v2)")
    assert bytes_of(store) == bytes_of(phantom_store.root)
    catalog = (store / "catalog" / "init.sql").read_bytes()
    assert catalog == (phantom_store.root / "catalog" / "init.sql").read_bytes()


@pytest.fixture
def nih(tmp_path: Path) -> NihCxr14:
    """Three radiographs."""
    root = tmp_path / "nih"
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    )
    names = [f"{number:08d}_000.png" for number in range(3)]
    rows = [(name, "Effusion", 0, number, 50, "F", "PA", 32, 24, 0.1, 0.1) for number, name in enumerate(names)]
    put_csv(root / "Data_Entry_2017_v2020.csv", header, rows)
    for number, name in enumerate(names):
        put_png(root / "images" / name, number)
    return NihCxr14(root)


def test_the_times_of_input_files_do_not_count(nih: NihCxr14, tmp_path: Path):
    store = Store(tmp_path / "store")
    first = ingest(store, nih)
    assert len(store.snapshot().records("images")) == 3
    for seed in range(3):
        redated(nih.root, seed)
        again = ingest(store, nih)
        assert (again.n_reused, again.is_new) == (first.n_shards, False)


def test_an_input_that_changed_is_noticed_though_its_time_and_size_are_the_same(nih: NihCxr14, tmp_path: Path):
    store, image = Store(tmp_path / "store"), nih.root / "images" / "00000001_000.png"
    ingest(store, nih)
    before = image.stat()
    image.write_bytes(image.read_bytes()[:-30] + bytes(30))
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = ingest(store, nih)
    assert again.is_new
    assert [reject.error_class for reject in store.snapshot().records("rejects")] == ["unreadable_image"]


@pytest.fixture
def building(phantom_store: Store, tmp_path: Path) -> Path:
    """A store in which a builder is at work: its shards, parts and half a file are there, its manifest is not yet."""
    root = tmp_path / "store"
    shutil.copytree(phantom_store.root, root)
    (root / "manifests" / "v2.json").unlink()
    (root / "work" / "tmp" / "1-half").write_bytes(b"half a fi")
    return root


@pytest.mark.parametrize("patch", [SET_AHEAD, JUMPS], ids=["ahead", "jumps"])
def test_gc_with_another_clock_than_the_disk_takes_nothing_from_a_running_build(
    patch: str, building: Path, tmp_path: Path
):
    before = files(building)
    swept = fovea_in(patched(tmp_path / "patch", patch), "gc", "--store", building, "--delete", "--work")
    assert swept.stderr.startswith("nothing to remove\nkept "), swept.stderr
    assert files(building) == before


def test_gc_takes_nothing_from_a_running_build_whose_files_are_dated_anyhow(building: Path):
    """A file that was copied or unpacked has an old time, but it has just come."""
    before = files(building)
    redated(building, 3)
    assert sweep(Store(building), grace_s=DAY_S, delete=True, with_work=True).found == ()
    assert files(building) == before


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
