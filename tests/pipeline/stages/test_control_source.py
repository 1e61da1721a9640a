"""Control copies: the same questions, pictures that cannot answer them."""

import io
import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from pipeline.stages.control_source import ControlSource, control_of
from pipeline.stages.ingest import ingest
from schemas.errors import InputError, UsageError
from schemas.manifest import sha256_of
from schemas.reader import Store
from schemas.records import Hashes, Image, Question
from tests.pipeline.small_stores import INGEST, asked, drawn_image, put_questions
from tests.processes import fovea


def control(store: Store, kind: str, split: str = "test") -> ControlSource:
    return ControlSource(store.root, store.head().version, INGEST, kind, split)


def copies(store: Store, kind: str):
    built = ingest(store, control(store, kind))
    snapshot = store.snapshot()
    questions = snapshot.records("questions", slices=[built.slice.key])
    return snapshot, {one.question_id.split("/")[-1]: one for one in questions}


def originals(store: Store):
    found = store.snapshot().records("questions", split="test", slices=[INGEST])
    return {one.question_id.split("/")[-1]: one for one in found}


@pytest.mark.parametrize("kind", ["blank", "noise", "shuffled"])
def test_words_stay_and_pictures_go(own_store: Store, kind: str):
    before = originals(own_store)
    snapshot, after = copies(own_store, kind)
    assert after.keys() == before.keys()
    for name, copy in after.items():
        old = before[name]
        assert (copy.question, copy.answer, copy.options, copy.split) == (old.question, old.answer, old.options, "test")
        assert copy.source == f"drawn-{kind}"
        assert copy.regions == ()
        assert set(copy.image_ids).isdisjoint(old.image_ids)
        sizes = [Pillow.open(io.BytesIO(snapshot.images.data(one))).size for one in (*copy.image_ids, *old.image_ids)]
        assert len(set(sizes)) == 1


def test_blank_is_grey_and_noise_is_noise(own_store: Store):
    snapshot, blank = copies(own_store, "blank")
    pixels = np.asarray(Pillow.open(io.BytesIO(snapshot.images.data(next(iter(blank.values())).image_ids[0]))))
    assert set(np.unique(pixels)) == {128}
    snapshot, noise = copies(own_store, "noise")
    pixels = [np.asarray(Pillow.open(io.BytesIO(snapshot.images.data(one.image_ids[0])))) for one in noise.values()]
    assert all(60 < each.std() < 90 for each in pixels)  # uniform over 256 levels: 73.9
    assert len({each.tobytes() for each in pixels}) == len({one.image_ids for one in originals(own_store).values()})


def test_shuffled_pictures_are_those_of_the_split_each_as_often(own_store: Store):
    before = originals(own_store)
    _, after = copies(own_store, "shuffled")
    swaps = {(before[name].image_ids, copy.image_ids) for name, copy in after.items()}
    assert len(swaps) == len({old for old, _ in swaps}) == len({new for _, new in swaps})
    assert {old for old, _ in swaps} == {new for _, new in swaps}


def test_a_control_crosses_to_a_worker_without_its_images(own_store: Store):
    source = control(own_store, "shuffled")
    source.read(source.plan()[0])
    assert len(pickle.dumps(source)) < 2_000


@pytest.mark.parametrize(("kind", "error"), [("mirrored", UsageError), ("blank", InputError)])
def test_what_cannot_be_copied_is_refused(own_store: Store, kind: str, error: type):
    with pytest.raises(error):
        control(own_store, kind, "validation").plan()


def test_the_command_makes_an_audited_slice(own_store: Store, tmp_path: Path):
    line = ("ingest", "control", "--of", "drawn", "--kind", "noise", "--store", own_store.root, "--json")
    made = json.loads(fovea(*line, check=True).stdout)
    assert made["slice"] == "ingest/drawn-noise/default"
    again = json.loads(fovea(*line, check=True).stdout)
    assert not again["did_work"]
    assert json.loads(fovea("audit", "--store", own_store.root, "--json", check=True).stdout)["problems"] == []


def store_of(root: Path, images: Sequence[Image], asked_of: Sequence[tuple[int, ...]]) -> Store:
    """One test question for each tuple of image numbers."""
    questions: list[Question] = []
    for number, each in enumerate(asked_of):
        ids = tuple(images[one].image_id for one in each)
        questions.append(asked(number, images[each[0]], split="test", image_ids=ids, regions=()))
    store = Store(root)
    put_questions(store, images, questions)
    return store


def hashes(seed: int) -> Hashes:
    """Of a picture that is near no other seed's."""
    generator = np.random.default_rng(seed)
    one, mirror, trimmed = (generator.bytes(32).hex() for _ in range(3))
    return Hashes(one, mirror, trimmed, one[:16], mirror[:16], trimmed[:16])


@pytest.mark.parametrize(
    "true_of_both", [{"pixel_sha256": "same"}, {"origin": "nih:1.png"}, {"hashes": hashes(0)}], ids=str
)
def test_shuffled_never_hands_back_the_picture_under_another_id(true_of_both: dict[str, object], tmp_path: Path):
    """Half of the pictures are one picture, so every order has neighbours that are."""
    images = [drawn_image(number) for number in range(8)]
    images = [
        replace(each, **true_of_both) if at % 2 else replace(each, hashes=hashes(at + 1))
        for at, each in enumerate(images)
    ]
    store = store_of(tmp_path / "store", images, [(number,) for number in range(8)])
    before = originals(store)
    _, after = copies(store, "shuffled")
    same = {image.image_id for image in images[1::2]}
    assert len(after) == 8
    for name, copy in after.items():
        assert copy.image_ids != before[name].image_ids
        assert not (copy.image_ids[0] in same and before[name].image_ids[0] in same)


def test_shuffled_pictures_of_several_share_none_with_their_own(tmp_path: Path):
    images = [drawn_image(number) for number in range(6)]
    store = store_of(tmp_path / "store", images, [(0, 1), (1, 0), (1, 2), (2, 3), (3, 4), (4, 5), (0, 0), (5, 1)])
    before = originals(store)
    _, after = copies(store, "shuffled")
    assert after.keys() == before.keys()
    assert all(set(copy.image_ids).isdisjoint(before[name].image_ids) for name, copy in after.items())


def test_a_question_without_a_partner_is_a_reject(tmp_path: Path):
    images = [drawn_image(number) for number in range(3)]
    store = store_of(tmp_path / "store", images, [(0, 1), (1, 2), (0,), (1,)])
    snapshot, after = copies(store, "shuffled")
    assert len(after) == 2
    assert {one.error_class for one in snapshot.records("rejects")} == {"no_other_images"}


def test_an_answer_put_right_in_the_source_reaches_the_control(tmp_path: Path):
    """The questions and pictures are those of before, but no finished shard stands."""
    images = [drawn_image(number) for number in range(3)]
    store = store_of(tmp_path / "store", images, [(0,), (1,), (2,)])
    copies(store, "blank")
    right = [replace(one, answer="perhaps") for one in store.snapshot().records("questions", slices=[INGEST])]
    put_questions(store, images, right)
    _, after = copies(store, "blank")
    assert {one.answer for one in after.values()} == {"perhaps"}


def test_a_licence_put_right_in_the_source_reaches_the_control(tmp_path: Path):
    images = [drawn_image(number) for number in range(3)]
    store = store_of(tmp_path / "store", images, [(0,), (1,), (2,)])
    copies(store, "shuffled")
    put_questions(store, [replace(one, licence="other") for one in images], list(originals(store).values()))
    snapshot, _ = copies(store, "shuffled")
    assert {one.licence for one in snapshot.records("images", slices=["ingest/drawn-shuffled/default"])} == {"other"}


def test_a_damaged_part_of_another_slice_is_no_concern(tmp_path: Path):
    images = [drawn_image(number) for number in range(6)]
    store = store_of(tmp_path / "store", images[:3], [(0,), (1,), (2,)])
    put_questions(store, images[3:], [], "ingest/other/default")
    for part in store.head().slices["ingest/other/default"].parts:
        (store.root / part.path).unlink()
    source = control(store, "shuffled")
    assert len(source.read(source.plan()[0]).images) == 3


def test_shuffled_pictures_keep_what_is_true_of_them_and_blank_ones_claim_nothing(tmp_path: Path):
    known = {"origin": "nih:1.png", "patient_key": "p", "group_key": "article:PMC1", "modality": "CT"}
    images = [drawn_image(0), replace(drawn_image(1), **known)]
    store = store_of(tmp_path / "store", images, [(0,), (1,)])
    snapshot, _ = copies(store, "shuffled")
    found = {one.image_id: one for one in snapshot.records("images", slices=["ingest/drawn-shuffled/default"])}
    assert {name: getattr(found[images[1].image_id], name) for name in known} == known
    snapshot, _ = copies(store, "blank")
    assert [one.modality for one in snapshot.records("images", slices=["ingest/drawn-blank/default"])] == [None]


def test_a_control_of_a_control_is_refused(own_store: Store):
    ingest(own_store, control(own_store, "shuffled"))
    with pytest.raises(UsageError, match="is a control itself") as caught:
        control_of(own_store, {"of": "drawn-shuffled", "kind": "shuffled"})
    assert "--of drawn" in caught.value.fix


def test_revision_is_raised_when_copies_change(own_store: Store):
    seen = []
    for kind in ("blank", "noise", "shuffled"):
        _, copied = copies(own_store, kind)
        seen += [[name, one.image_ids, one.question_id] for name, one in sorted(copied.items())]
    assert (ControlSource.revision, sha256_of(seen)[:12]) == (2, "5ee933b494c7")
