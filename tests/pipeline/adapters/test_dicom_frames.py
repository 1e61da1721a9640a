import io

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

from pipeline.adapters.dicom import load_dicom, png_of
from pipeline.adapters.png import write_png
from schemas.errors import InputError
from tests.pipeline.dicom_files import compressed, dicom_bytes, file_bytes, image_set

COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[9, 8, 7], [128, 128, 128], [255, 255, 255]]], np.uint8)


def loaded(data, **how):
    return np.asarray(load_dicom(data, **how))


def slow_ybr(rgb):
    """PS3.3 C.7.6.3.1.2, YBR_FULL, pixel by pixel."""
    r, g, b = (float(part) for part in rgb)
    y = 0.2990 * r + 0.5870 * g + 0.1140 * b
    cb = -0.1687 * r - 0.3313 * g + 0.5000 * b + 128
    cr = 0.5000 * r - 0.4187 * g - 0.0813 * b + 128
    return [min(255, round(part)) for part in (y, cb, cr)]


def test_colour_comes_back_unchanged_and_as_a_colour_png():
    data = dicom_bytes(COLOURS)
    assert np.array_equal(loaded(data), COLOURS)
    assert png_of(data) == write_png(COLOURS)


def test_colour_by_plane():
    ds = image_set(COLOURS, PlanarConfiguration=1)
    ds.PixelData = COLOURS.transpose(2, 0, 1).tobytes()
    assert np.array_equal(loaded(file_bytes(ds)), COLOURS)


def test_luminance_and_chroma_are_converted():
    ybr = np.array([[slow_ybr(rgb) for rgb in row] for row in COLOURS], np.uint8)
    back = loaded(dicom_bytes(ybr, PhotometricInterpretation="YBR_FULL")).astype(int)
    assert abs(back - COLOURS).max() <= 2  # two roundings


def test_deep_colour_is_scaled_by_its_bits():
    deep = np.array([[[0, 2048, 4095]]], np.uint16)
    assert loaded(dicom_bytes(deep, BitsStored=12)).tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize("factor", [256, 257])
def test_palettes_are_applied(factor):
    ds = image_set(np.array([[0, 1, 2, 9]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for name, ramp in (("Red", [0, 10, 255]), ("Green", [5, 5, 5]), ("Blue", [255, 1, 0])):
        ds.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [3, 0, 16])
        words = (np.array(ramp) * factor).astype("<u2").tobytes()
        ds.add_new(f"{name}PaletteColorLookupTableData", "OW", words)
    assert loaded(file_bytes(ds)).tolist() == [[[0, 5, 255], [10, 5, 1], [255, 5, 0], [255, 5, 0]]]


def test_one_bit_masks_are_black_and_white():
    ds = image_set(np.zeros((2, 8), np.uint8))
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit, ds.PixelData = 0, bytes([0b00000101, 0b10000000])  # the first pixel is the lowest bit
    assert loaded(file_bytes(ds)).tolist() == [[255, 0, 255, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 255]]


def test_frames_are_told_apart_and_counted():
    frames = np.arange(24, dtype=np.uint8).reshape(6, 4)
    ds = image_set(frames, NumberOfFrames=3)
    ds.Rows = 2
    for frame in range(3):
        assert np.array_equal(loaded(file_bytes(ds), frame=frame), frames[2 * frame : 2 * frame + 2])
    with pytest.raises(InputError, match="no frame 3: the file has 3"):
        load_dicom(file_bytes(ds), frame=3)


def test_unused_high_bits_are_ignored_and_signs_kept():
    stored = np.array([[0x0FFF, 0xF001, 0x0800]], np.uint16)  # an old overlay in the four bits above
    tags = {"WindowCenter": 2048, "WindowWidth": 4096}
    assert loaded(dicom_bytes(stored, BitsStored=12, **tags)).tolist() == [[255, 0, 128]]
    signed = np.array([[-2048, 0, 2047]], np.int16)
    assert loaded(dicom_bytes(signed & 0x0FFF, BitsStored=12)).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
def test_eight_bit_jpeg_is_what_pillow_reads(syntax):
    pixels, jpeg = np.arange(0, 256, 4, np.uint8).reshape(8, 8), io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG")
    data = compressed(image_set(pixels), jpeg.getvalue(), syntax)
    assert np.array_equal(loaded(data), np.asarray(Image.open(jpeg)))


def test_windows_are_not_for_colour():
    with pytest.raises(InputError, match="in colour"):
        load_dicom(dicom_bytes(COLOURS), window=0)


@pytest.mark.parametrize("kind", ["ARGB", "CMYK", "YBR_PARTIAL_420", ""])
def test_other_colour_spaces_are_refused_by_name(kind):
    with pytest.raises(InputError, match=kind or "missing|none"):
        load_dicom(dicom_bytes(COLOURS, PhotometricInterpretation=kind))
