"""Every test file inside the pydicom wheel: the picture it gives, or the words of its error."""

from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pydicom
import pytest

from pipeline.adapters.dicom import DicomFacts, facts_of, is_dicom, load_dicom
from schemas.errors import InputError

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())

NO_PIXELS, NOT_DICOM = "no pixel data: not an image", "not a DICOM file"
TWELVE_BITS = "no decoder for 12-bit JPEG Extended"
# file, or pattern of files → "width x height mode", or a part of the error; the first that fits counts
TABLE = {
    "693_J2KI.dcm": "512x512 L",  # JPEG 2000, 14 bits signed, window, padding
    "CT_small.dcm": "128x128 L",  # rescale, no window
    "ExplVR_BigEnd.dcm": "80x60 RGB",
    "ExplVR_*NoMeta.dcm": NO_PIXELS,  # plans without a preamble
    "GDCMJ2K_TextGBR.dcm": "400x400 RGB",
    "J2K_pixelrep_mismatch.dcm": "512x512 L",
    "JPEG-lossy.dcm": TWELVE_BITS,
    "JPGExtended.dcm": TWELVE_BITS,
    "JPEG2000-embedded-sequence-delimiter.dcm": "Error decoding the J2K data",  # the delimiter ends it for pydicom
    "JPEG2000.dcm": "256x1024 L",
    "JPEGLSNearLossless_08.dcm": "10x45 L",
    "JPEGLSNearLossless_16.dcm": "10x50 L",
    "MR_truncated.dcm": "less than expected (8130 vs 8192 bytes)",
    "MR_small*.dcm": "64x64 L",
    "SC_jpeg_no_color_transform*.dcm": "256x256 RGB",
    "SC_rgb_jpeg.dcm": "256x256 RGB",
    "SC_rgb_jpeg_app14_dcmd.dcm": "256x256 RGB",
    "SC_rgb_jpeg_dcmd.dcm": "256x256 RGB",
    "SC_rgb_small_odd*.dcm": "3x3 RGB",
    "SC_*.dcm": "100x100 RGB",
    "UN_sequence.dcm": NO_PIXELS,
    "badVR.dcm": "ValueError: invalid literal for int() with base 10: '1A'",  # its number of frames
    "dicomdirtests/DICOMDIR*": NO_PIXELS,
    "dicomdirtests/README.txt": NOT_DICOM,
    "dicomdirtests/TINY_ALPHA/DICOMDIR": NO_PIXELS,
    "dicomdirtests/TINY_ALPHA/README": NOT_DICOM,
    "dicomdirtests/TINY_ALPHA/*": NO_PIXELS,
    "dicomdirtests/*": "16x16 L",  # CR in MONOCHROME1, CT, MR
    "empty_charset_LEI.dcm": NO_PIXELS,
    "examples_jpeg2k.dcm": "640x480 RGB",
    "examples_overlay.dcm": "484x300 L",  # two windows
    "examples_palette.dcm": "800x350 RGB",
    "examples_rgb_color.dcm": "320x240 RGB",
    "examples_ybr_color.dcm": "320x240 RGB",  # 30 frames
    "image_dfl.dcm": "512x512 L",  # deflated
    "liver_*1frame.dcm": "512x512 L",  # masks of one bit
    "meta_missing_tsyntax.dcm": "Rows, Columns, BitsAllocated",
    "nested_priv_SQ.dcm": "Rows, Columns, BitsAllocated",
    "no_meta.dcm": NOT_DICOM,  # begins with a stray byte
    "no_meta_group_length.dcm": NO_PIXELS,
    "priv_SQ.dcm": NO_PIXELS,
    "reportsi*.dcm": NO_PIXELS,
    "rtdose*.dcm": "10x10 L",  # 32 bits
    "rtplan*.dcm": NO_PIXELS,
    "rtstruct.dcm": NO_PIXELS,  # no preamble, implicit
    "test-SR.dcm": NO_PIXELS,
    "waveform_ecg.dcm": NO_PIXELS,
    "README.txt": NOT_DICOM,
    "crayons.icc": NOT_DICOM,
    "*.dump": NOT_DICOM,
    "*.json": NOT_DICOM,
    "zipMR.gz": NOT_DICOM,
}


def row_of(name):
    return next((pattern for pattern in TABLE if fnmatch(name, pattern)), None)


def picture(name, **how):
    return np.asarray(load_dicom((FOLDER / name).read_bytes(), **how))


@pytest.mark.parametrize("name", FILES)
def test_each_file_loads_or_says_why_not(name):
    data, row, failure = (FOLDER / name).read_bytes(), row_of(name), None
    try:
        image = load_dicom(data, where=name)
        outcome = f"{image.width}x{image.height} {image.mode}"
    except InputError as error:
        outcome, failure = error.what, error
    assert failure is None or (failure.where == name and failure.fix)
    if row is not None:  # a file of a newer pydicom has no row, and only must not fail otherwise
        assert TABLE[row] in outcome
    assert is_dicom(data) == (NOT_DICOM not in outcome)


def test_the_table_has_no_row_without_a_file_and_these_files_have_rows():
    assert set(TABLE) == {row_of(name) for name in FILES} - {None}
    assert sum(row_of(name) is not None for name in FILES) >= 165


@pytest.mark.parametrize(
    ("names", "window"),
    [
        (
            ["MR_small.dcm", *(f"MR_small_{kind}.dcm" for kind in ("RLE", "bigendian", "expb", "implicit", "padded"))],
            None,
        ),
        (["MR_small.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"], "minmax"),
        (["SC_rgb_rle.dcm", "SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit.dcm", "SC_rgb_rle_2frame.dcm"], None),
        (["SC_rgb_rle.dcm", "SC_rgb_gdcm_KY.dcm", "SC_rgb_jpeg_gdcm.dcm"], None),  # JPEG 2000, JPEG lossless
        (["SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm"], None),
        (["liver_1frame.dcm", "liver_expb_1frame.dcm"], None),
        (["rtdose.dcm", "rtdose_expb.dcm", "rtdose_rle.dcm", "rtdose_1frame.dcm"], None),
        (["SC_jpeg_no_color_transform.dcm", "SC_rgb_jpeg.dcm", "SC_rgb_jpeg_dcmd.dcm"], None),
    ],
)
def test_one_picture_in_several_encodings_is_one_picture(names, window):
    first = picture(names[0], window=window)
    assert len(np.unique(first)) > 1
    for name in names[1:]:
        assert np.array_equal(picture(name, window=window), first), name


def slow_grey(name, center, width, slope=1, intercept=0):
    """A LINEAR window over rescaled values, pixel by pixel in whole numbers: 255 y + 1/2, rounded down."""
    out = []
    for x in pydicom.dcmread(FOLDER / name).pixel_array.ravel().tolist():
        value = slope * x + intercept
        twice = 2 * value - (2 * center - 1)  # 2 (x − (c − 0.5))
        y_times = 255 * (twice + (width - 1))  # 255 y · 2 (w − 1)
        out.append(min(255, max(0, (y_times + (width - 1)) // (2 * (width - 1)))))
    return out


@pytest.mark.parametrize(
    ("name", "how", "slow"),
    [
        ("MR_small.dcm", {}, (600, 1600)),
        ("693_J2KI.dcm", {}, (40, 100, 1, -1024)),
        ("693_J2KI.dcm", {"window": "lung"}, (-600, 1500, 1, -1024)),
        ("CT_small.dcm", {"window": "bone"}, (400, 1800, 1, -1024)),
        ("J2K_pixelrep_mismatch.dcm", {"window": 2}, (40, 200)),
        ("examples_overlay.dcm", {}, (450, 790)),
        ("examples_overlay.dcm", {"window": 1}, (200, 443)),
    ],
)
def test_windows_of_real_files_pixel_by_pixel(name, how, slow):
    assert picture(name, **how).ravel().tolist() == slow_grey(name, *slow)


def test_a_ct_without_window_goes_from_its_least_to_its_greatest_value():
    raw = pydicom.dcmread(FOLDER / "CT_small.dcm").pixel_array
    assert (raw.min() - 1024, raw.max() - 1024) == (-896, 1167)
    expected = [(255 * 2 * (x - 128) + 2063) // (2 * 2063) for x in raw.ravel().tolist()]  # 2063 = 1167 + 896
    assert picture("CT_small.dcm").ravel().tolist() == expected


def test_a_real_monochrome1_file_is_inverted_after_its_window():
    name = "dicomdirtests/77654033/CR1/6154"
    ds = pydicom.dcmread(FOLDER / name)
    values = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    unit = (values - 1599.5) / 2799 + 0.5  # centre 1600, width 2800
    assert ds.PhotometricInterpretation == "MONOCHROME1"
    assert np.array_equal(picture(name), np.floor(255 * (1 - unit) + 0.5))


def test_frames_of_a_film_differ_and_end():
    frames = [picture("examples_ybr_color.dcm", frame=frame) for frame in (0, 29)]
    assert not np.array_equal(*frames)
    with pytest.raises(InputError, match="no frame 30: the file has 30"):
        picture("examples_ybr_color.dcm", frame=30)
    facts = facts_of((FOLDER / "examples_ybr_color.dcm").read_bytes())
    assert facts == DicomFacts("US", width_px=320, height_px=240, n_frames=30)


def test_twelve_bit_jpeg_names_the_way_out_and_its_licence():
    with pytest.raises(InputError) as caught:
        picture("JPGExtended.dcm")
    assert "pylibjpeg-libjpeg" in caught.value.fix
    assert "GPL" in caught.value.fix


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "JPEG2000.dcm", "SC_rgb_jpeg.dcm", "SC_rgb_jpeg_gdcm.dcm", "image_dfl.dcm"]
)
@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_truncated_files_never_give_a_picture(name, part):
    data = (FOLDER / name).read_bytes()
    with pytest.raises(InputError):
        load_dicom(data[: int(part * len(data))])
