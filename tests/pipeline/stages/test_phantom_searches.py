"""On the phantom every rule of the search is exercised: no stop reason and no side of δ is a rarity."""

from collections import Counter

import pytest

from pipeline.core.hunt import SearchConfig
from pipeline.stages.build_trajectories import BuildTrajectories, build_trajectories
from pipeline.stages.expert_options import EXPERT_DEFAULTS
from pipeline.stages.ingest import ingest
from pipeline.stages.phantom_source import PhantomSource
from pipeline.stages.trajectory_counts import counts
from schemas.reader import Store

SHARE_MIN = 0.05
UPSTREAM = "ingest/phantom/default"


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """240 questions of level L1, seen as the command lets the annotations expert see the phantom."""
    store = Store(tmp_path_factory.mktemp("phantom") / "store")
    ingest(store, PhantomSource(seed=0, n_train=240))
    settings = tuple(EXPERT_DEFAULTS["annotations", "phantom"].items())
    stage = BuildTrajectories(
        store.root, store.head().version, UPSTREAM, "annotations", settings, SearchConfig(), seed=0
    )
    return store, build_trajectories(store, stage).slice.key


def test_every_question_has_at_least_four_candidates(searched):
    store, _ = searched
    calls = store.snapshot().records("expert_calls")
    assert all(len(call.candidates) >= 4 for call in calls if call.mode == "scan")


def test_every_stop_reason_is_common(searched):
    store, key = searched
    stops = counts(store, key)["stop_reasons"]
    assert stops.keys() == {"confident", "length", "exhausted"}
    assert min(stops.values()) >= SHARE_MIN * sum(stops.values()), stops


def test_both_sides_of_the_gain_are_common(searched):
    store, _ = searched
    rows = store.snapshot().records("trajectories")
    sides = Counter(step.delta_c >= row.rule.gain_min for row in rows for step in row.steps if step.delta_c is not None)
    has_side = [
        sum(
            any((step.delta_c or 0) >= row.rule.gain_min for step in row.steps if step.mode == "drill") for row in rows
        ),
        sum(any((step.delta_c or 0) < row.rule.gain_min for step in row.steps if step.mode == "drill") for row in rows),
    ]
    assert min(sides.values()) >= SHARE_MIN * sides.total(), sides
    assert min(has_side) >= SHARE_MIN * len(rows), has_side


def test_six_variants_cost_at_most_two_and_a_half_times_the_calls_of_plain_grn(searched):
    store, key = searched
    found = counts(store, key)
    assert found["expert_calls"]["ratio"] <= 2.5
    assert sum(found["cvs_variants_per_question"].values()) == 240
