"""The phantom source: exact counts, ranges apart, growth that appends, and records the tables accept."""

import hashlib
import io
import json
from dataclasses import asdict
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from PIL import Image as Pillow

from pipeline.core.phantom import phantom
from pipeline.stages.phantom_source import BASES, PhantomSource
from schemas.boxes import inside
from schemas.errors import UsageError
from schemas.records import ANSWER_KINDS
from schemas.rows import to_table

SMALL = PhantomSource(seed=5, n_train=66, n_validation=2, n_test=1, side_px=112)


def everything(source):
    found = [source.read(shard) for shard in source.plan()]
    return [image for rows in found for image in rows.images], [item for rows in found for item in rows.questions]


@pytest.fixture(scope="module")
def records():
    return everything(SMALL)


def test_counts_and_splits(records):
    images, questions = records
    assert len(images) == 69
    assert {split: sum(q.split == split for q in questions) for split in BASES} == {
        "train": 66,
        "validation": 2,
        "test": 1,
    }
    assert {image for q in questions for image in q.image_ids} == {image.image_id for image in images}
    assert len({image.image_id for image in images}) == 69


def test_records_fit_their_tables(records):
    images, questions = records
    assert to_table("images", images).num_rows == 69
    assert to_table("questions", questions).num_rows == 69
    assert {q.answer_kind for q in questions} <= set(ANSWER_KINDS)
    assert all(q.answer in q.options for q in questions if q.answer_kind == "choice")
    assert all(inside(region.box_xyxy_px, (112, 112)) for q in questions for region in q.regions)
    assert all(q.regions for q in questions)


def test_names_say_level_seed_and_index(records):
    images, questions = records
    assert (images[0].path, images[0].licence) == ("phantom/L1/5/0.png", "CC0-1.0")
    assert (questions[0].question_id, questions[-1].question_id) == ("phantom/L1/5/0/0", "phantom/L1/5/65/0")
    assert len({q.question_id for q in questions}) == len({q.patient_key for q in questions}) == 69


def test_the_stored_file_is_the_drawing(records):
    images, _ = records
    stored = np.asarray(Pillow.open(io.BytesIO(images[1].data)))
    assert np.array_equal(stored, phantom(5, 1, "L1", 112).pixels)


def test_growth_appends_shards_and_keeps_whole_ones():
    def named(source):
        return [(shard.key, source.digest(shard)) for shard in source.plan()]

    before = named(PhantomSource(seed=5, n_train=128, n_test=64))
    after = named(PhantomSource(seed=5, n_train=300, n_test=64))
    assert after[: len(before)] == before
    assert len(after) == len(before) + 3


def test_two_offsets_share_no_image():
    taken, fresh = (
        {
            index
            for shard in PhantomSource(seed=5, n_train=100, n_test=5, offset=offset).plan()
            for index in shard.payload
        }
        for offset in (0, 100)
    )
    assert len(taken) == len(fresh) == 105
    assert not taken & fresh


@pytest.mark.parametrize("other", [{"seed": 6}, {"level": "L2"}, {"side_px": 224}])
def test_what_changes_the_image_changes_config_and_digest(other):
    plain, changed = PhantomSource(seed=5, n_train=1), PhantomSource(**{"seed": 5, "n_train": 1, **other})
    assert plain.config() != changed.config()
    assert plain.digest(plain.plan()[0]) != changed.digest(changed.plan()[0])


def test_source_and_shard_survive_the_way_to_a_worker():
    source = PhantomSource(seed=5, n_test=2, side_px=112)
    copy, shard = ForkingPickler.loads(ForkingPickler.dumps((source, source.plan()[0])))
    assert copy.read(shard) == source.read(source.plan()[0])


@pytest.mark.parametrize(
    "options",
    [{"level": "L9"}, {"n_train": -1}, {"offset": -1}, {"n_test": 10, "offset": 999_999_991}, {"side_px": 111}],
)
def test_impossible_sizes_are_refused(options):
    with pytest.raises(UsageError):
        PhantomSource(seed=1, **options)


def test_nothing_asked_is_nothing_given():
    assert PhantomSource(seed=1).plan() == []


def test_revision_is_raised_when_records_change():
    """Golden: if this digest moves, raise PhantomSource.revision, which finished work shards are reused by."""
    images, questions = everything(PhantomSource(seed=5, level="L3", n_train=2, n_test=1))
    what = [asdict(question) for question in questions] + [[image.image_id, image.path] for image in images]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
    assert (PhantomSource.revision, digest) == (2, "5a27e5320eb6")
