"""What a remote model is shown: sizes by the stated rule, 8 bits, the pixels of the look and nothing else."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.adapters.experts.views import data_url, drill_view, scan_view


def opened(url: str) -> Image.Image:
    head, _, body = url.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


@pytest.mark.parametrize(
    ("size", "longest", "multiple", "expected"),
    [
        ((448, 448), 1008, 28, (448, 448)),
        ((640, 480), 1008, 28, (644, 476)),  # nothing is enlarged but by rounding
        ((2016, 1008), 1008, 28, (1008, 504)),
        ((3000, 100), 1008, 28, (1008, 28)),
        ((10, 10), 1008, 28, (28, 28)),
        ((1007, 500), 1000, 28, (980, 504)),  # never above the longest side
        ((640, 480), 320, 1, (320, 240)),
    ],
)
def test_size_of_a_scan(size, longest, multiple, expected):
    assert scan_view(Image.new("L", size), longest, multiple).size == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(28, 300), st.sampled_from([1, 14, 28, 32]))
def test_sides_are_multiples_within_the_longest(width, height, longest, multiple):
    size = scan_view(Image.new("L", (width, height)), longest, multiple).size
    assert all(side % multiple == 0 for side in size)
    assert max(size) <= max(longest, multiple)


def test_a_small_look_is_enlarged_and_shows_only_itself():
    pixels = np.zeros((100, 200), np.uint8)
    pixels[20:40, 50:90] = 200
    view = drill_view(Image.fromarray(pixels), (50.0, 20.0, 90.0, 40.0), 448, 28)
    assert view.size == (448, 224)
    assert np.asarray(view).min() == 200


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "HSV", "LAB", "PA"])
def test_every_kind_of_image_is_shown_with_8_bits(mode):
    shown = opened(data_url(scan_view(Image.new(mode, (56, 56)), 1008, 28)))
    assert shown.mode in ("L", "RGB")
    assert shown.size == (56, 56)


def test_a_grey_picture_in_three_channels_is_sent_in_one_with_the_same_pixels():
    levels = np.random.default_rng(0).integers(0, 256, (301, 203), np.uint8)
    three = Image.fromarray(np.repeat(levels[:, :, None], 3, axis=2))
    look = (20.0, 30.0, 90.0, 100.0)
    for view, plain in (
        (scan_view(three, 140, 28), three.resize((84, 140), Image.Resampling.BICUBIC)),
        (drill_view(three, look, 140, 28), three.crop((20, 30, 90, 100)).resize((140, 140), Image.Resampling.BICUBIC)),
    ):
        shown = opened(data_url(view))
        assert shown.mode == "L"
        assert np.array_equal(np.asarray(shown.convert("RGB")), np.asarray(plain))


@pytest.mark.parametrize("place", [(0, 0), (7, 11), (202, 300)])
def test_one_coloured_pixel_is_colour(place):
    picture = Image.new("RGB", (203, 301), (90, 90, 90))
    for colour in ((91, 90, 90), (90, 91, 90), (90, 90, 91)):
        one = picture.copy()
        one.putpixel(place, colour)
        assert opened(data_url(scan_view(one, 1008, 1))).getpixel(place) == colour


def test_nothing_that_the_file_said_is_sent_and_the_image_is_not_touched():
    image = Image.new("L", (56, 56), 7)
    image.info = {"patient": "Doe", "icc_profile": b"x", "transparency": 0}
    url = data_url(scan_view(image, 1008, 28))
    assert opened(url).info == {}
    assert np.asarray(opened(url)).tolist() == np.full((56, 56), 7).tolist()
    assert image.info == {"patient": "Doe", "icc_profile": b"x", "transparency": 0}
