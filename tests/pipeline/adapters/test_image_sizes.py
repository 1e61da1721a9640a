"""The size of every image of a store is that of its picture, whatever its id is made of."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from pipeline.adapters.image_sizes import ID, ImageSizes
from schemas.errors import StoreError
from schemas.reader import Store
from tests.pipeline.small_stores import asked, drawn_image, put_questions


def test_sizes_are_those_of_the_pictures(tmp_path: Path):
    store = Store(tmp_path / "store")
    images = [drawn_image(number, (12 + number, 80 - number)) for number in range(60)]
    put_questions(store, images[:40], [asked(0, images[0])])
    put_questions(store, images[30:], [], "ingest/drawn/other")  # ten in both
    snapshot = store.snapshot()
    sizes = ImageSizes.of(snapshot)
    assert len(sizes.keys) == 70
    for image in images:
        assert sizes.size(image.image_id) == Pillow.open(io.BytesIO(snapshot.images.data(image.image_id))).size
    assert type(sizes.size(images[0].image_id)[0]) is int


def test_an_image_that_is_in_no_part_is_named(tmp_path: Path):
    store = Store(tmp_path / "store")
    put_questions(store, [drawn_image(0)], [])
    for image_id in ("00" * 32, "ff" * 32, drawn_image(1).image_id):
        with pytest.raises(StoreError, match=f"{image_id[:12]}… is in no part"):
            ImageSizes.of(store.snapshot()).size(image_id)


def test_ids_with_zeros_at_their_ends_are_told_apart():
    ids = sorted(["00" * 32, "00" * 31 + "01", "01" + "00" * 31, "01" * 31 + "00", "01" * 32, "ff" * 32])
    keys = np.frombuffer(bytes.fromhex("".join(ids)), ID)
    sizes = ImageSizes(keys, np.arange(12, dtype=np.int32).reshape(6, 2))
    assert [sizes.size(each) for each in ids] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)]
