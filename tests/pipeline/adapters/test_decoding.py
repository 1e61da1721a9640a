"""Images come decoded when asked for, and only so many pixels of them stay in memory."""

import io

import pytest
from PIL import Image

from pipeline.adapters.decoding import Decoder


@pytest.fixture
def stored():
    """Five 8 × 5 drawings, and every reading of them."""
    read: list[str] = []

    def data(image_id: str) -> bytes:
        read.append(image_id)
        file = io.BytesIO()
        Image.new("L", (8, 5), int(image_id)).save(file, "png")
        return file.getvalue()

    return data, read


def test_an_image_is_decoded_once_while_there_is_room(stored):
    data, read = stored
    decoder = Decoder(data, pixels_max=80)
    assert [decoder.image(name).getpixel((0, 0)) for name in "1212"] == [1, 2, 1, 2]
    assert read == ["1", "2"]
    assert decoder.image("1") is decoder.image("1")


def test_the_one_used_longest_ago_makes_room(stored):
    data, read = stored
    decoder = Decoder(data, pixels_max=80)
    for name in "12131":
        decoder.image(name)
    assert read == ["1", "2", "3"]
    decoder.image("2")
    assert read == ["1", "2", "3", "2"]


def test_an_image_larger_than_the_room_is_kept_alone(stored):
    data, read = stored
    decoder = Decoder(data, pixels_max=1)
    for name in "1122":
        assert decoder.image(name).size == (8, 5)
    assert read == ["1", "2"]


def test_a_size_needs_no_pixels(stored):
    data, _ = stored
    decoder = Decoder(lambda name: data(name)[:45])  # the head of the file and no more
    assert decoder.size("1") == (8, 5)
    with pytest.raises(OSError, match="truncated"):
        decoder.image("1")


def test_the_size_of_a_kept_image_is_not_read_again(stored):
    data, read = stored
    decoder = Decoder(data)
    decoder.image("1")
    assert (decoder.size("1"), read) == ((8, 5), ["1"])
