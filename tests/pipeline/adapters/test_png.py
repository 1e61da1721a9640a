import hashlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.adapters.png import write_png


def test_bytes_are_pinned():
    ramp = (np.arange(300 * 448) * 7 % 251).astype(np.uint8).reshape(300, 448)  # three stored blocks
    assert hashlib.sha256(write_png(ramp)).hexdigest() == (
        "3cd7c175daf101e13946eac934ac9cba00b467b7664bcbb1e0865faa413d0849"
    )


def test_smallest_file_is_written_out_in_full():
    assert write_png(np.array([[200]], np.uint8)) == bytes.fromhex(
        "89504e470d0a1a0a"
        "0000000d49484452000000010000000108000000003a7e9b55"
        "0000000d494441547801010200fdff00c800ca00c9ad6323b2"
        "0000000049454e44ae426082"
    )


def test_smallest_file_in_colour_is_written_out_in_full():
    assert write_png(np.array([[[10, 20, 200]]], np.uint8)) == bytes.fromhex(
        "89504e470d0a1a0a"
        "0000000d4948445200000001000000010802000000907753de"
        "0000000f494441547801010400fbff000a14c8011200e769658053"
        "0000000049454e44ae426082"
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), st.integers(1, 700), st.sampled_from([(), (3,)]), st.integers(0, 2**32))
def test_pillow_reads_back_the_same_pixels(height, width, channels, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8)
    with Image.open(io.BytesIO(write_png(pixels))) as image:
        assert image.mode == ("RGB" if channels else "L")
        assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 4, 1), (4, 4, 3, 3), (0, 4), (4, 0, 3), (4,), ()])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="uint8"):
        write_png(np.zeros(shape, np.uint8))


def test_other_depths_are_refused():
    with pytest.raises(ValueError, match="float64"):
        write_png(np.zeros((4, 4)))
