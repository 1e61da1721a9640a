"""Builders of different things, and a sweep, at the same time in one store: nobody loses a row, nobody waits."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.adapters import commits
from pipeline.core.hunt import SearchConfig
from pipeline.stages.audit import audit
from pipeline.stages.build_trajectories import BuildTrajectories, build_trajectories
from pipeline.stages.gc import sweep
from schemas.reader import Store
from tests.processes import bytes_of, fovea, start

SEARCH = ("build-trajectories", "--source", "phantom", "--expert", "annotations")
SLICE = "trajectories/phantom/annotations"
INGEST = "ingest/phantom/default"
MORE = ("ingest", "phantom", "--train", 140, "--validation", 2, "--test", 20, "--side-px", 112)
DAY_S = 86_400


@pytest.fixture
def ingested(phantom_store: Store, tmp_path: Path) -> Store:
    """A copy of the store as it was before any trajectories."""
    root = tmp_path / "store"
    shutil.copytree(phantom_store.root, root, ignore=shutil.ignore_patterns("trajectories", "expert_calls", "v2.json"))
    return Store(root)


def check_finished(*builders: subprocess.Popen[str]) -> None:
    told = [builder.communicate()[1] for builder in builders]
    assert [builder.returncode for builder in builders] == [0] * len(builders), told


def check_whole(store: Store) -> None:
    """Every part of every version is as its manifest says."""
    for version in store.versions():
        snapshot = store.snapshot(version)
        assert all(snapshot.verified(part).is_file() for _, part in snapshot.manifest.parts())


def test_two_settings_of_one_slice_make_two_versions_each_of_one_of_them(phantom_store: Store, ingested: Store):
    other = (*SEARCH, "--variants", 2)
    check_finished(*[start(*line, "--store", ingested.root) for line in (SEARCH, other)])
    assert ingested.versions() == [1, 2, 3]
    slices = [ingested.load(version).slices[SLICE] for version in (2, 3)]
    assert sorted(one.config["sampler"]["variants"] for one in slices) == [2, 6]
    assert phantom_store.head().slices[SLICE] in slices
    check_whole(ingested)


def test_ingest_and_build_at_once_and_the_next_build_has_every_question(phantom_store: Store, ingested: Store):
    check_finished(*[start(*line, "--store", ingested.root) for line in (SEARCH, MORE)])
    assert ingested.versions() == [1, 2, 3]
    made = ingested.head().slices[SLICE]
    if made.inputs == phantom_store.head().slices[SLICE].inputs:  # the ingest was not yet there when it began
        assert made == phantom_store.head().slices[SLICE]
    fovea(*SEARCH, "--store", ingested.root, check=True)
    snapshot = ingested.snapshot()
    asked = {row.question_id for row in snapshot.records("questions")}
    assert len(asked) == 162
    assert {row.question_id for row in snapshot.records("trajectories")} == asked
    check_whole(ingested)
    assert audit(ingested).problems == ()


def test_a_sweep_during_a_build_takes_nothing_from_it(phantom_store: Store, ingested: Store):
    builder = start(*SEARCH, "--store", ingested.root)
    n_sweeps = n_kept = 0
    while builder.poll() is None:
        swept = sweep(ingested, grace_s=DAY_S, delete=True, with_work=True)
        assert swept.found == ()
        n_sweeps, n_kept = n_sweeps + 1, max(n_kept, len(swept.kept))
    check_finished(builder)
    assert n_sweeps > 5
    assert n_kept > 10  # work shards of the ingest, at least
    assert bytes_of(ingested.root) == bytes_of(phantom_store.root)


@pytest.mark.slow
def test_a_sweep_without_grace_during_a_build_costs_a_rerun_at_most(phantom_store: Store, ingested: Store):
    """Whoever says --grace-h 0 says that nobody builds. If somebody does, a clear word, and all is well in the end."""
    builder = start(*SEARCH, "--store", ingested.root)
    while builder.poll() is None:
        sweep(ingested, grace_s=0, delete=True, with_work=True)
    told = builder.communicate()[1]
    assert builder.returncode == 0 or told.startswith("error "), told
    assert "Traceback" not in told
    fovea(*SEARCH, "--store", ingested.root, check=True)
    assert bytes_of(ingested.root) == bytes_of(phantom_store.root)


def test_parts_that_are_swept_before_a_manifest_names_them_are_written_again(
    phantom_store: Store, ingested: Store, monkeypatch: pytest.MonkeyPatch
):
    put = commits.put_if_absent

    def swept_first(*arguments: object) -> bool:
        monkeypatch.setattr(commits, "put_if_absent", put)
        assert {one.kind for one in sweep(ingested, grace_s=0, delete=True).found} == {"part"}
        return put(*arguments)

    monkeypatch.setattr(commits, "put_if_absent", swept_first)
    settings = (("view_px", 112),)
    stage = BuildTrajectories(ingested.root, 1, INGEST, "annotations", settings, SearchConfig(), 0)
    built = build_trajectories(ingested, stage)
    assert built.is_new
    assert bytes_of(ingested.root) == bytes_of(phantom_store.root)
