import hashlib
import io
import logging
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataelem import DataElement
from pydicom.uid import MPEG2MPML, ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from pipeline.adapters import dicom_frames
from pipeline.adapters.dicom import DicomFacts, facts_of, is_dicom, load_dicom, patient_id, png_of
from pipeline.adapters.png import write_png
from schemas.errors import InputError
from tests.pipeline.dicom_files import compressed, dicom_bytes, file_bytes, image_set

RAMP = np.arange(0, 240, 10, np.uint8).reshape(4, 6)
DEEP = (np.arange(24, dtype=np.uint16) * 100).reshape(4, 6)


def loaded(data, **how):
    return np.asarray(load_dicom(data, **how))


def test_png_bytes_are_pinned_and_those_of_the_picture():
    data = dicom_bytes(DEEP, WindowCenter=1000, WindowWidth=1500)
    assert hashlib.sha256(png_of(data)).hexdigest() == (
        "d4c2dd1839bc0a3c10c60a2635157d9205724793a5ab1d7e33344387b8067eb4"
    )
    with Image.open(io.BytesIO(png_of(data))) as picture:
        assert picture.mode == "L"
        assert np.array_equal(np.asarray(picture), loaded(data))


def test_display_values_come_back_unchanged_in_every_native_syntax():
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian):
        assert np.array_equal(loaded(file_bytes(image_set(RAMP), syntax)), RAMP)
    assert np.array_equal(loaded(dicom_bytes(RAMP)), RAMP)


def test_the_inverted_twin_in_monochrome1_is_the_same_picture():
    """Pixels 4095 − x with the tag MONOCHROME1 show what x shows; the tag alone shows the negative."""
    tags = {"BitsStored": 12, "WindowCenter": 1000, "WindowWidth": 1500, "VOILUTFunction": "LINEAR_EXACT"}
    original = loaded(dicom_bytes(DEEP, **tags))
    tags |= {"PhotometricInterpretation": "MONOCHROME1"}
    assert np.array_equal(loaded(dicom_bytes(4095 - DEEP, **tags | {"WindowCenter": 3095})), original)
    assert np.array_equal(loaded(dicom_bytes(RAMP, PhotometricInterpretation="MONOCHROME1")), 255 - RAMP)


def test_files_without_preamble_are_known_by_their_first_element():
    whole = dicom_bytes(RAMP)
    bare = io.BytesIO()
    image_set(RAMP).save_as(bare, implicit_vr=True, little_endian=True)
    explicit = io.BytesIO()
    image_set(RAMP).save_as(explicit, implicit_vr=False, little_endian=False)
    for data in (whole, bare.getvalue(), explicit.getvalue()):
        assert is_dicom(data)
        assert np.array_equal(loaded(data), RAMP)
    for data in (
        write_png(RAMP),
        b"\xff\xd8\xff\xe0" * 99,
        b"GIF89a" * 99,
        b"II*\0\x08\0\0\0",
        b"",
        b"\x08\0",
        b"\0" * 400,
    ):
        assert not is_dicom(data)
        with pytest.raises(InputError, match="not a DICOM file"):
            load_dicom(data)


def test_identifying_tags_leave_only_by_their_own_door():
    ds = image_set(DEEP, PatientName="Müßig^Äda", PatientID="PID-4711", PatientBirthDate="19300101", Modality="CR")
    ds.AccessionNumber, ds.InstitutionName, ds.StudyInstanceUID = "ACC-0815", "Charité", "1.2.3.4711"
    ds.add_new((0x0009, 0x0010), "LO", "SECRET MAKER")
    data = file_bytes(ds)
    seen = png_of(data) + repr(facts_of(data)).encode() + repr(load_dicom(data).info).encode()
    for secret in (b"4711", b"0815", b"ig^", b"19300101", b"Charit", b"SECRET"):
        assert secret in data
        assert secret not in seen
    assert seen.startswith(png_of(dicom_bytes(DEEP)))  # the same bytes as of a file that says nothing
    assert patient_id(data) == "PID-4711"
    assert patient_id(dicom_bytes(DEEP)) is None
    assert patient_id(dicom_bytes(DEEP, PatientID="  ")) is None


def test_errors_quote_no_identifying_tag():
    ds = image_set(DEEP, PatientName="Secret^Name", PatientID="Secret")
    ds.PixelData = ds.PixelData[:-8]
    with pytest.raises(InputError, match="less than expected") as caught:
        load_dicom(file_bytes(ds), where="shelf/1.dcm")
    assert caught.value.where == "shelf/1.dcm"
    assert "Secret" not in str(caught.value)
    patient = odd(image_set(DEEP), "PatientID", "LO", "Secret^Name")
    data = file_bytes(patient).replace(b"LO\x0c\0Secret^Name", b"FD\x0c\0Secret^Name")  # a number, says the file
    with pytest.raises(InputError, match="BytesLengthException") as caught:
        patient_id(data)
    assert "Secret" not in str(caught.value)


def test_facts_are_about_the_picture_alone():
    assert facts_of(dicom_bytes(DEEP, Modality="CR")) == DicomFacts("CR", width_px=6, height_px=4, n_frames=1)
    assert facts_of(file_bytes(odd(image_set(DEEP), "Modality", "CS", "Ms. Smith's"))).modality is None


def test_no_memory_address_reaches_an_error():
    """Pillow's words for a stream it does not know hold one; rejects must not differ between runs."""
    with pytest.raises(InputError, match=r"cannot identify image file <_io\.BytesIO object>"):
        load_dicom(compressed(image_set(RAMP), b"no jpeg at all", JPEGBaseline8Bit))


def odd(ds, keyword, vr, value):
    ds[keyword] = DataElement(keyword, vr, value, validation_mode=0)
    return ds


def test_warnings_about_odd_tags_stay_unsaid():
    ds = odd(image_set(RAMP), "PatientAge", "AS", "42")  # lacks its Y, as in the RSNA files
    assert np.array_equal(loaded(file_bytes(ds)), RAMP)


@pytest.mark.parametrize(
    ("tags", "how", "words"),
    [
        ({}, {"frame": 1}, "no frame 1: the file has 1"),
        ({}, {"frame": -1}, "no frame -1"),
        ({"NumberOfFrames": 2}, {"frame": 1}, "less than expected"),
        ({}, {"window": "lung"}, "Hounsfield"),
        ({}, {"window": 0}, "no window 0"),
        ({"WindowCenter": [1, 2], "WindowWidth": 5}, {}, "2 window centres, but 1 widths"),
        ({"WindowCenter": 1, "WindowWidth": 0}, {}, "width 0 is not possible"),
        ({"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, {}, "CUBIC"),
        ({"PhotometricInterpretation": "HSV"}, {}, "HSV is not supported"),
        ({"PhotometricInterpretation": "RGB"}, {}, "RGB"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, {}, "leave no image"),
        ({"Rows": 0}, {}, "pixels; expected 1 to"),
        ({"Rows": None}, {}, "Rows missing"),
        ({"Rows": 65535, "Columns": 65535}, {}, "65535 x 65535 pixels"),
        ({"Rows": 5}, {}, "less than expected"),
    ],
)
def test_what_cannot_be_shown_is_an_input_error(tags, how, words):
    with pytest.raises(InputError, match=words) as caught:
        load_dicom(dicom_bytes(DEEP, **tags), where="7.dcm", **how)
    assert caught.value.where == "7.dcm"
    assert caught.value.fix


def test_other_pixels_and_syntaxes_are_refused_by_name():
    nothing = image_set(DEEP)
    del nothing.PixelData
    with pytest.raises(InputError, match="truncated"):
        load_dicom(file_bytes(nothing))
    nothing.FloatPixelData = b"\0" * 96
    with pytest.raises(InputError, match="floating-point"):
        load_dicom(file_bytes(nothing))
    left = image_set(DEEP, BitsStored=12)
    left.HighBit = 15
    with pytest.raises(InputError, match="high bit 15"):
        load_dicom(file_bytes(left))
    data = compressed(image_set(RAMP), b"stream", MPEG2MPML)
    with pytest.raises(InputError, match=r"syntax MPEG2 .* is not supported"):
        load_dicom(data)
    with pytest.raises(InputError, match=r"syntax 1\.2\.840\.10008\.1\.2\.4\.777 is not supported"):
        load_dicom(data.replace(MPEG2MPML.encode(), b"1.2.840.10008.1.2.4.777"))


def test_missing_parts_are_named_with_the_way_to_get_them(monkeypatch):
    data = compressed(image_set(RAMP), b"stream", JPEGBaseline8Bit)
    monkeypatch.setitem(dicom_frames.DECODER_OF, "JPEGBaseline8Bit", "absent")
    with pytest.raises(InputError, match="no decoder for JPEG Baseline") as caught:
        load_dicom(data)
    assert caught.value.fix == "pip install 'fovea[dicom]'"
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(InputError, match="needs the extra") as caught:
        load_dicom(data)
    assert caught.value.fix == "pip install 'fovea[dicom]'"


@pytest.fixture(scope="module")
def small():
    logging.getLogger("pydicom").disabled = True  # it logs each failure, and there are hundreds
    yield dicom_bytes(DEEP, WindowCenter=1000, WindowWidth=1500, RescaleSlope=2, RescaleIntercept=-5)
    logging.getLogger("pydicom").disabled = False


@settings(max_examples=150, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=4), length=st.integers(0, 800))
def test_damaged_bytes_load_or_raise_an_input_error(small, flips, length):
    data = bytearray(small[:length] if length % 3 == 0 else small)
    for at, value in flips:
        if at < len(data):
            data[at] = value
    for read in (load_dicom, facts_of, patient_id):
        with suppress(InputError):  # anything else fails the test
            assert read(bytes(data)) != ""
