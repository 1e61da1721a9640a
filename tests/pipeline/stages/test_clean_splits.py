"""Splits that share nothing: what straddles goes to one side whole, what does not stays, and each move is told."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.stages.clean_splits import REVISION, CleanSplits
from pipeline.stages.ingest import ingest, moved_rows
from schemas.errors import InputError, UsageError
from schemas.reader import Store
from schemas.records import Hashes, Image, Question
from tests.pipeline.small_stores import drawn_image

SPLITS = ("train", "validation", "test")
ONE_PICTURE = Hashes("3c" * 32, "a5" * 32, "3c" * 32, "3c" * 8, "a5" * 8, "3c" * 8)


@dataclass(frozen=True, slots=True)
class Rows:
    """A source whose shards are given; one question is (split, image numbers)."""

    asked: tuple[tuple[str, tuple[int, ...]], ...]
    changes: dict[int, dict[str, object]] = field(default_factory=dict, hash=False)  # of images, by number
    shard_rows: int = 3
    name: str = "rows"
    revision: int = 1
    licence: str = "CC0-1.0"

    def config(self):
        return {}

    def plan(self):
        n = self.shard_rows
        return [
            SourceShard(str(at), tuple(range(at, min(at + n, len(self.asked))))) for at in range(0, len(self.asked), n)
        ]

    def digest(self, shard):
        return shard.key

    def read(self, shard):
        numbers = sorted({number for row in shard.payload for number in self.asked[row][1]})
        images = {number: self.image(number) for number in numbers}
        questions = [self.question(row, images) for row in shard.payload]
        return SourceRows(images=list(images.values()), questions=questions)

    def image(self, number: int) -> Image:
        return replace(drawn_image(number), **self.changes.get(number, {}))

    def question(self, row: int, images: dict[int, Image]) -> Question:
        split, numbers = self.asked[row]
        ids = tuple(images[number].image_id for number in numbers)
        return Question(f"rows/{row}", self.name, split, ids, "what?", "this", "open")


def read_all(source) -> list[Question]:
    return [question for shard in source.plan() for question in source.read(shard).questions]


rows = st.lists(
    st.tuples(st.sampled_from(SPLITS), st.lists(st.integers(0, 11), min_size=1, max_size=3).map(tuple)),
    min_size=1,
    max_size=20,
).map(tuple)


@settings(max_examples=40, deadline=None)
@given(asked=rows)
def test_no_picture_is_in_two_splits_and_nothing_is_lost(asked):
    before, after = read_all(Rows(asked)), read_all(CleanSplits(Rows(asked), "image"))
    assert [one.question_id for one in after] == [one.question_id for one in before]
    homes: dict[str, set[str]] = {}
    for question in after:
        for image_id in question.image_ids:
            homes.setdefault(image_id, set()).add(question.split)
    assert all(len(splits) == 1 for splits in homes.values())
    for old, new in zip(before, after, strict=True):
        assert new.source_split == (None if new.split == old.split else old.split)


@settings(max_examples=40, deadline=None)
@given(asked=rows)
def test_what_lies_in_one_split_stays_there(asked):
    lonely = {
        row
        for row, (split, numbers) in enumerate(asked)
        if all(other == split for other, others in asked if set(numbers) & set(others))
    }
    # a question may hang on another through a third; only direct neighbours are known to be alone here
    alone = {row for row in lonely if sum(bool(set(asked[row][1]) & set(others)) for _, others in asked) == 1}
    after = {one.question_id: one for one in read_all(CleanSplits(Rows(asked), "image"))}
    assert all(after[f"rows/{row}"].source_split is None for row in alone)


def test_a_straddling_picture_goes_where_the_sizes_point():
    asked = tuple(("train", (number,)) for number in range(60)) + tuple(("test", (number,)) for number in range(60))
    moved = [one for one in read_all(CleanSplits(Rows(asked), "image")) if one.source_split]
    assert {(one.source_split, one.split) for one in moved} == {("train", "test"), ("test", "train")}
    assert len(moved) == 60  # one row of each picture gives way
    assert 15 <= sum(one.split == "train" for one in moved) <= 45


def test_splits_keep_about_their_sizes_when_all_of_the_small_one_straddles():
    """As in VQA-RAD: each test picture is in train too, and most of train is in no other split."""
    shared = [(split, (number,)) for number in range(60) for split in ("train", "train", "test")]
    asked = (*shared, *(("train", (number,)) for number in range(100, 300)))
    after = read_all(CleanSplits(Rows(asked), "image"))
    assert 42 <= sum(one.split == "test" for one in after) <= 78


@pytest.mark.parametrize(
    ("by", "change", "is_one"),
    [
        ("image", {"origin": "nih:00000001_000.png"}, True),
        ("image", {"pixel_sha256": "same"}, True),
        ("image", {"hashes": ONE_PICTURE}, True),
        ("image", {"patient_key": "same"}, False),
        ("patient", {"patient_key": "same"}, True),
        ("patient", {"group_key": "article:PMC1"}, True),
    ],
)
def test_what_makes_two_pictures_one(by, change, is_one):
    asked = (("train", (0,)), ("test", (40,)), ("test", (20,)))
    source = Rows(asked, {0: change, 40: change, 20: {"patient_key": "other"}})
    first, second, third = read_all(CleanSplits(source, by))
    assert (first.split == second.split) is is_one
    assert third.split == "test"


def test_by_patient_needs_patients():
    with pytest.raises(InputError, match="tells of no patient"):
        CleanSplits(Rows((("train", (0,)),)), "patient").plan()


def test_an_unknown_key_is_wrong_usage():
    with pytest.raises(UsageError, match="image or patient"):
        CleanSplits(Rows(()), "reader")


def test_a_store_says_what_was_moved(tmp_path: Path):
    asked = tuple((split, (number,)) for number in range(8) for split in ("train", "test"))
    store = Store(tmp_path / "store")
    built = ingest(store, CleanSplits(Rows(asked), "image"))
    questions = store.snapshot().records("questions")
    assert sum(one.source_split is not None for one in questions) == 8
    moves = moved_rows(store, built)
    assert moves.keys() <= {"train to test", "test to train"}
    assert sum(moves.values()) == 8
    assert built.slice.config["split_by"] == "image"


def test_a_shard_is_another_one_when_other_rows_of_it_move():
    """A row in a later shard may move rows of an earlier one, whose own input is what it was."""
    source = CleanSplits(Rows((("train", (0,)),)), "image")
    shard = source.plan()[0]
    assert source.digest(shard) != source.digest(replace(shard, moved=(("rows/0", "test"),)))


def test_revision_is_raised_when_rows_move_elsewhere():
    asked = tuple((SPLITS[number % 3], (number // 2,)) for number in range(30))
    moved = "".join(one.split[:2] for one in read_all(CleanSplits(Rows(asked), "image")))
    assert (REVISION, moved) == (2, "trtrtrtrvavavavatetetetetrtrtrtrvavatrtrtetetetetrtrtetevava")
