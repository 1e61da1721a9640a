"""What a manifest names is never touched, what is young stays, and a rebuild mends what was thrown away."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters import ages
from pipeline.stages.gc import sweep
from pipeline.stages.ingest import ingest
from pipeline.stages.phantom_source import PhantomSource
from schemas.errors import StoreError
from schemas.reader import Store
from tests.processes import bytes_of, fovea

DAY_S = 86_400


def source(seed: int = 0) -> PhantomSource:
    return PhantomSource(n_train=2, n_test=1, side_px=112, seed=seed)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """v1, v2, and what a builder that was killed in the midst of a third left behind."""
    one = Store(tmp_path / "store")
    ingest(one, source())
    ingest(one, source(seed=1))
    ingest(one, source(seed=2))
    (one.manifests / "v3.json").unlink()
    (one.root / "work" / "tmp" / "123-abc").write_bytes(b"half a fi")
    return one


def files(store: Store, *patterns: str) -> set[str]:
    paths = (path for pattern in patterns for path in store.root.glob(pattern) if path.is_file())
    return {str(path.relative_to(store.root)) for path in paths}


def named(store: Store) -> set[str]:
    return {part.path for number in store.versions() for _, part in store.load(number).parts()}


def everything(store: Store) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()}


def test_what_no_version_names_is_found_and_nothing_is_touched(store: Store):
    before = everything(store)
    result = sweep(store, grace_s=0)
    unnamed = files(store, "data/**/*") - named(store)
    assert len(unnamed) >= 3  # images, questions of two splits
    assert {one.path for one in result.found} == unnamed | {"work/tmp/123-abc"}
    assert {one.path: one.bytes for one in result.found} == {
        one.path: (store.root / one.path).stat().st_size for one in result.found
    }
    assert everything(store) == before


def test_deleting_leaves_every_version_whole(store: Store):
    before = {path: digest for path, digest in bytes_of(store.root).items() if path in named(store) or path[0] == "m"}
    sweep(store, grace_s=0, delete=True)
    assert bytes_of(store.root) == before
    assert files(store, "data/**/*") == named(store)
    assert files(store, "work/tmp/*") == set()
    for version in ("v1", "v2"):
        assert len(store.snapshot(version).records("images")) == 3
    assert sweep(store, grace_s=0).found == ()


def test_what_is_young_stays(store: Store, monkeypatch: pytest.MonkeyPatch):
    before = everything(store)
    young = sweep(store, grace_s=DAY_S, delete=True)
    assert (young.found, len(young.kept)) == ((), len(sweep(store, grace_s=0).found))
    assert everything(store) == before
    now_s = time.time()
    monkeypatch.setattr(ages, "_disk_clock_s", lambda folder: now_s + DAY_S + 60)
    assert sweep(store, grace_s=DAY_S, delete=True).kept == ()
    assert files(store, "data/**/*") == named(store)


def test_an_old_file_under_a_new_name_is_young(store: Store):
    """A builder that packs a part again renames over the leftover of a killed one."""
    path = store.root / "data" / "part"
    path.write_bytes(b"x")
    os.utime(path, (0, 0))
    assert "data/part" in {one.path for one in sweep(store, grace_s=DAY_S).kept}


def test_work_goes_only_when_asked_and_a_rebuild_runs_again(store: Store):
    work = files(store, "work/ingest/*")
    assert work
    sweep(store, grace_s=0, delete=True)
    assert files(store, "work/ingest/*") == work
    before = bytes_of(store.root)
    result = sweep(store, grace_s=0, delete=True, with_work=True)
    assert {one.path for one in result.found} == work
    assert (files(store, "work/**/*"), bytes_of(store.root)) == (set(), before)
    built = ingest(store, source(seed=1))
    assert (built.n_reused, built.is_new, bytes_of(store.root)) == (0, False, before)


def test_what_was_fetched_from_the_hub_stays_whole(store: Store):
    """A unit counts as fetched as long as its folder is there."""
    fetched = store.root / "work" / "hub" / "owner--set" / ("0" * 40) / "data" / "train.parquet"
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(b"rows")
    result = sweep(store, grace_s=0, delete=True, with_work=True)
    assert any(one.kind == "work" for one in result.found)
    assert fetched.read_bytes() == b"rows"


def test_what_cannot_be_deleted_is_an_error_for_people(store: Store, monkeypatch: pytest.MonkeyPatch):
    def refused(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(StoreError, match="cannot delete: Permission denied"):
        sweep(store, grace_s=0, delete=True)


def test_a_stage_that_wrote_lately_keeps_all_its_work(store: Store, monkeypatch: pytest.MonkeyPatch):
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + DAY_S + 60)
    latest = store.root / "work" / "ingest" / "latest.json"
    latest.write_text("{}")
    os.utime(latest, (now_s + DAY_S, now_s + DAY_S))
    result = sweep(store, grace_s=DAY_S, with_work=True)
    assert not any(one.kind == "work" for one in result.found)
    assert {one.path for one in result.kept} == files(store, "work/ingest/*")


def test_links_are_not_followed(store: Store, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("mine")
    (store.root / "data" / "folder").symlink_to(elsewhere)
    (store.root / "data" / "file").symlink_to(elsewhere / "precious")
    sweep(store, grace_s=0, delete=True)
    assert (elsewhere / "precious").read_text() == "mine"


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.docx").write_text("mine")
    with pytest.raises(StoreError, match="no store here"):
        sweep(Store(tmp_path), grace_s=0, delete=True)
    assert (tmp_path / "data" / "thesis.docx").exists()


@pytest.mark.parametrize("version", [1, 2])
def test_a_store_with_a_damaged_manifest_is_left_alone(version: int, store: Store):
    path = store.manifests / f"v{version}.json"
    path.write_bytes(path.read_bytes()[:-2])
    before = everything(store)
    with pytest.raises(StoreError, match="not a manifest"):
        sweep(store, grace_s=0, delete=True, with_work=True)
    assert everything(store) == before


def test_a_part_committed_while_gc_looks_around_stays(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Another builder puts v3 back just when gc has listed the files."""
    leftover, walk, head = sweep(store, grace_s=0).found[0], os.walk, store.head()
    images = replace(head.slices["ingest/phantom/default"].parts[0], path=leftover.path)
    third = head.with_slice(replace(head.slices["ingest/phantom/default"], parts=(images,)))

    def walk_and_commit(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        yield from walk(folder)
        (store.manifests / "v3.json").write_bytes(third.to_bytes())

    monkeypatch.setattr(os, "walk", walk_and_commit)
    assert leftover.path not in {one.path for one in sweep(store, grace_s=0, delete=True).found}
    assert (store.root / leftover.path).exists()


def test_the_command_is_a_dry_run_until_it_is_told_to_delete(store: Store):
    before = everything(store)
    dry = fovea("gc", "--store", store.root, "--grace-h", 0)
    assert (dry.returncode, dry.stdout, everything(store)) == (0, "", before)
    assert dry.stderr.startswith("would remove ")
    assert "  work/tmp/123-abc  9\n" in dry.stderr
    assert dry.stderr.endswith("nothing was touched; to remove them, add --delete\n")

    young = fovea("gc", "--store", store.root, "--delete")
    assert young.stderr.startswith("nothing to remove\nkept ")
    assert everything(store) == before

    told = json.loads(fovea("gc", "--store", store.root, "--delete", "--grace-h", 0, "--work", "--json").stdout)
    assert (told["deleted"], told["files"], told["kept_files"]) == (True, len(told["found"]), 0)
    assert told["bytes"] == sum(one["bytes"] for one in told["found"])
    assert {one["kind"] for one in told["found"]} == {"part", "temporary", "work"}
    assert not any((store.root / one["path"]).exists() for one in told["found"])
    assert files(store, "data/**/*") == named(store)


def test_answers_of_experts_go_only_when_they_are_named(store: Store):
    kept = store.root / "work" / "calls" / "0123456789abcdef" / "one.parquet"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"paid for")
    sweep(store, grace_s=0, delete=True, with_work=True)
    assert kept.is_file()
    found = sweep(store, grace_s=0, delete=True, with_calls=True).found
    assert [(one.kind, one.path) for one in found] == [("calls", str(kept.relative_to(store.root)))]
    assert not kept.exists()
