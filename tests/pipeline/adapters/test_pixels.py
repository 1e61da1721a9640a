"""Image files: readable or refused in the same words everywhere, hashed as bytes and as pixels."""

import hashlib
import io
import random
import struct

import numpy as np
import pytest
from PIL import Image as Pillow

from pipeline.adapters.hashes import picture_hashes
from pipeline.adapters.pixels import decode, grey_levels, pixel_sha256, stored_image
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


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "I;16", "F"])
@pytest.mark.parametrize("size", [(700, 301), (3, 2), (1, 5000)])
def test_the_pixel_hash_is_that_of_mode_size_and_all_pixels(mode: str, size: tuple[int, int]):
    levels = np.random.default_rng(0).integers(0, 256, size[::-1], np.uint8)
    picture = Pillow.fromarray(levels.astype(np.uint16) * 100 if mode == "I;16" else levels)
    picture = picture if mode == "I;16" else picture.convert(mode)
    head = f"{mode} {size[0]} {size[1]}\n".encode()
    assert pixel_sha256(picture) == hashlib.sha256(head + picture.tobytes()).hexdigest()


STEPS = np.kron(np.random.default_rng(1).permutation(64).reshape(8, 8) * 4, np.ones((16, 16))).astype(np.uint8)


def in_mode(mode: str) -> Pillow.Image:
    match mode:
        case "I" | "F":
            return Pillow.fromarray((STEPS * 200.0 - 7000).astype({"I": np.int32, "F": np.float32}[mode]))
        case "La":
            return Pillow.fromarray(STEPS).convert("LA").convert("La")
        case "LAB":
            rest = np.full_like(STEPS, 128)
            return Pillow.merge("LAB", [Pillow.fromarray(band) for band in (STEPS, rest, rest)])
        case "PA":
            return Pillow.fromarray(STEPS).convert("P").convert("PA")
    return Pillow.fromarray(STEPS).convert(mode)


@pytest.mark.parametrize("mode", ["L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_hashes_see_the_same_grey_in_every_mode(mode: str):
    levels = grey_levels(in_mode(mode))
    assert levels.dtype == np.uint8
    assert np.abs(levels.astype(int) - STEPS).max() <= 1


@pytest.mark.parametrize("mode", ["I", "F"])
def test_deep_levels_are_stretched_over_the_scale(mode: str):
    levels = grey_levels(in_mode(mode))
    assert (levels.min(), levels.max()) == (0, 255)
    assert np.abs(levels - STEPS * (255 / 252)).max() <= 0.5
    assert picture_hashes(levels).pdq == picture_hashes(STEPS).pdq


def test_values_that_are_no_number_and_flat_deep_pictures_are_grey_too():
    odd = np.array([[np.nan, np.inf], [10.0, 20.0]], np.float32)
    assert grey_levels(Pillow.fromarray(odd)).tolist() == [[0, 0], [128, 255]]
    assert grey_levels(Pillow.fromarray(np.full((3, 3), 900, np.uint16))).max() == 0
    assert set(np.unique(grey_levels(Pillow.fromarray(STEPS).convert("1")))) == {0, 255}


def test_a_stored_image_carries_the_hashes_of_what_is_seen():
    image = stored_image(encoded(STEPS), "a.png", source="s", licence="CC0-1.0", modality=None)
    assert image.hashes == picture_hashes(STEPS)
    assert None not in (image.hashes.pdq, image.hashes.phash_trimmed)


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
