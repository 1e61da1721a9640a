"""Image files: readable or refused in the same words everywhere, hashed as bytes and as pixels."""

import hashlib
import io
import random
import struct

import numpy as np
import pytest
from PIL import Image as Pillow

from pipeline.adapters.pixels import decode, pixel_sha256, stored_image
from schemas.errors import InputError

GREY = np.arange(30 * 20, dtype=np.uint8).reshape(20, 30)


def encoded(pixels=GREY, form="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def test_a_stored_image_keeps_its_bytes():
    data = encoded(form="JPEG")
    image = stored_image(data, "a/b.jpg", source="s", licence="CC0-1.0", modality="CT")
    assert (image.data, image.image_id) == (data, hashlib.sha256(data).hexdigest())
    assert (image.width, image.height, image.path, image.modality) == (30, 20, "a/b.jpg", "CT")


def test_lossless_copies_share_the_pixel_hash_and_other_pictures_do_not():
    plain, packed = encoded(compress_level=0), encoded(compress_level=9)
    assert plain != packed
    assert pixel_sha256(decode(plain)) == pixel_sha256(decode(packed))
    assert pixel_sha256(decode(plain)) != pixel_sha256(decode(encoded(GREY.T.copy())))  # same bytes in another shape
    assert pixel_sha256(decode(plain)) != pixel_sha256(decode(encoded(GREY ^ 1)))


def test_a_palette_is_part_of_the_picture():
    hashes = set()
    for palette in ([0, 0, 0, 255, 255, 255], [0, 0, 0, 255, 0, 0]):
        image = Pillow.fromarray(GREY % 2).convert("P")
        image.putpalette(palette)
        hashes.add(pixel_sha256(image))
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "unknown format"),
        (b"not an image at all", "unknown format"),
        (encoded()[:60], "truncated"),
        (encoded(form="JPEG")[:400], "truncated"),
    ],
)
def test_a_broken_file_is_refused_by_name(data, what):
    with pytest.raises(InputError, match=what) as caught:
        decode(data, where="images/x.png")
    assert caught.value.where == "images/x.png"
    assert "0x" not in str(caught.value)  # an address would make rejects differ between runs


def test_a_decompression_bomb_is_refused_before_it_is_unpacked():
    header = struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54)
    header += struct.pack("<IiiHHIIiiII", 40, 25_000, 20_000, 1, 24, 0, 0, 0, 0, 0, 0)
    with pytest.raises(InputError, match="exceeds limit"):
        decode(header)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF"])
def test_damage_of_any_kind_is_an_input_error_or_an_image(form):
    whole, draw = encoded(form=form), random.Random(form)
    n_refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 6)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            decode(bytes(damaged[: draw.randint(1, len(damaged))]))
        except InputError:
            n_refused += 1
    assert n_refused > 50
