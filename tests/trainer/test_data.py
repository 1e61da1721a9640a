from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trainer.data
from schemas.errors import UsageError
from schemas.reader import Snapshot
from tests.doubles import question
from tests.trainer.small_runs import SLICE
from trainer.data import Scenes, TrainData, ingest_of, load_train_data, questions_of, take
from trainer.dialogue import Dialogue
from trainer.environment import Environment


def asked(n):
    return tuple(question(f"q{number:03d}") for number in range(n))


def ids(questions):
    return [one.question_id for one in questions]


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 12), first=st.integers(0, 40), size=st.integers(0, 30), seed=st.integers(0, 3))
def test_a_piece_is_cut_from_one_endless_sequence(n, first, size, seed):
    endless = ids(take(asked(n), 0, first + size, seed))
    assert ids(take(asked(n), first, size, seed)) == endless[first:]
    for epoch in range((first + size) // n):
        assert sorted(endless[epoch * n : (epoch + 1) * n]) == ids(asked(n))


def test_order_depends_on_seed_and_epoch_alone():
    epochs = [ids(take(asked(12), 12 * epoch, 12, seed)) for seed in (0, 1) for epoch in range(3)]
    assert len({tuple(one) for one in epochs}) == 6
    assert epochs[:3] == [ids(take(asked(12), 12 * epoch, 12, 0)) for epoch in range(3)]


def test_steps_are_pieces_in_a_row():
    data = TrainData(asked(5), {})
    steps = [one for step in range(5) for one in data.at(step, 3, seed=7)]
    assert ids(steps) == ids(take(asked(5), 0, 15, 7))
    assert set(Counter(ids(steps)).values()) == {3}


@pytest.fixture(scope="module")
def snapshot(run_store):
    return run_store.snapshot()


def test_only_the_train_split_is_read(snapshot):
    data = load_train_data(snapshot, snapshot.slice(SLICE), "cvs", 6)
    stored = snapshot.records("questions", slices=["ingest/phantom/default"])
    assert {one.split for one in stored} == {"train", "test"}
    assert ids(data.questions) == sorted(one.question_id for one in stored if one.split == "train")
    everyone = [one for many in data.trajectories.values() for one in many]
    assert {one.split for one in everyone} == {"train"}
    assert {one.origin for one in everyone} == {"cvs"}
    assert data.trajectories.keys() <= set(ids(data.questions))


@dataclass(frozen=True)
class Answered:
    """The store as it would be if its expert had answered every question of every split by itself."""

    snapshot: Snapshot

    def records(self, *what, **which):
        return self.snapshot.records(*what, **which)

    def each(self, *what, **which):
        return (replace(one, answer=one.answer or "yes") for one in self.snapshot.each(*what, **which))


@dataclass(frozen=True)
class Repacked:
    """The store with the rows of its shards in another order."""

    snapshot: Snapshot

    def records(self, *what, **which):
        return self.snapshot.records(*what, **which)[::-1]

    def each(self, *what, **which):
        return iter(list(self.snapshot.each(*what, **which))[::-1])


def test_the_order_of_questions_knows_nothing_of_the_shards(snapshot):
    stored, repacked = (load_train_data(one, snapshot.slice(SLICE), "cvs", 2) for one in (snapshot, Repacked(snapshot)))
    assert repacked == stored
    assert ids(repacked.at(3, 4, 1)) == ids(stored.at(3, 4, 1))


def test_answers_of_an_expert_on_other_splits_stay_out(snapshot):
    data = load_train_data(Answered(snapshot), snapshot.slice(SLICE), "grn", 6)
    assert {one.split for many in data.trajectories.values() for one in many} == {"train"}
    assert len(data.trajectories) == len(data.questions) == 6


@pytest.mark.parametrize(("origin", "variants"), [("grn", [0]), ("random", [0]), ("cvs", [1, 2, 3])])
def test_trajectories_of_one_origin_in_the_order_of_variants(snapshot, origin, variants):
    data = load_train_data(snapshot, snapshot.slice(SLICE), origin, 6)
    longest = max(data.trajectories.values(), key=len)
    assert [one.variant for one in longest] == variants
    assert {one.origin for one in longest} == {origin}


def test_no_more_trajectories_than_asked_for(snapshot):
    slice_ = snapshot.slice(SLICE)
    for most in (1, 2):
        kept = load_train_data(snapshot, slice_, "cvs", most).trajectories.values()
        assert max(map(len, kept)) == most
    assert load_train_data(snapshot, slice_, "none", 6).trajectories == {}


def test_what_a_slice_lacks_is_named(snapshot):
    with pytest.raises(UsageError, match="scan_only"):
        load_train_data(snapshot, snapshot.slice(SLICE), "scan_only", 6)
    with pytest.raises(UsageError, match="no questions in split validation"):
        questions_of(snapshot, "ingest/phantom/default", "validation")
    with pytest.raises(UsageError, match="made from nothing"):
        ingest_of(replace(snapshot.slice(SLICE), inputs={}))
    assert ingest_of(snapshot.slice(SLICE)) == "ingest/phantom/default"


def test_scenes_are_kept_while_they_are_in_use(snapshot, policy, small_recipe, monkeypatch):
    monkeypatch.setattr(trainer.data, "IMAGES_KEPT", 2)
    scenes = Scenes(snapshot, Environment(Dialogue(policy.processor, small_recipe.dialogue), small_recipe.view))
    first, second, third, *_ = questions_of(snapshot, "ingest/phantom/default", "train")
    kept = scenes(first)
    scenes(second)
    assert scenes(first) is kept
    scenes(third)
    assert list(scenes.kept) == [first.question_id, third.question_id]
    assert scenes(first) is kept
    assert kept.size(0) == (112, 112)
    assert scenes(second).question == second


def test_scenes_are_kept_by_their_bytes_too(snapshot, policy, small_recipe, monkeypatch):
    scenes = Scenes(snapshot, Environment(Dialogue(policy.processor, small_recipe.dialogue), small_recipe.view))
    first, second, third, *_ = questions_of(snapshot, "ingest/phantom/default", "train")
    one = scenes(first)
    n_bytes = 112 * 112 + one.encoded[0].pixel_values.numel() * 4
    monkeypatch.setattr(trainer.data, "BYTES_KEPT", 2 * n_bytes)
    scenes(second)
    assert len(scenes.kept) == 2
    scenes(third)
    assert list(scenes.kept) == [second.question_id, third.question_id]
    monkeypatch.setattr(trainer.data, "BYTES_KEPT", n_bytes - 1)
    assert scenes(first).question == first
    assert list(scenes.kept) == [first.question_id]
