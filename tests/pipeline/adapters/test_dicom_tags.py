import numpy as np
import pytest
from pydicom.uid import ExplicitVRBigEndian

from pipeline.adapters.dicom import load_dicom
from pipeline.adapters.dicom_grey import Rescale
from pipeline.adapters.dicom_tags import grey_rule
from pipeline.adapters.dicom_windows import Window
from schemas.errors import InputError
from tests.pipeline.dicom_files import dicom_bytes, file_bytes, image_set, item

DEEP = np.array([[0, 1, 2, 100, 2000, 4095]], np.uint16)
SIGNED = np.array([[-2000, -1024, 0, 40, 1000, 3000]], np.int16)
CT = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -24}


def shown(data, **how):
    return np.asarray(load_dicom(data, **how))[0].tolist()


def lut(entries, first, bits, vr="US", data_vr="US", n_entries=None):
    table = item()
    table.add_new("LUTDescriptor", vr, [len(entries) if n_entries is None else n_entries, first, bits])
    table.add_new("LUTData", data_vr, entries if data_vr == "US" else np.array(entries, "<u2").tobytes())
    return table


TABLE = lut([0, 511, 1023], 1, 10)


def test_the_rule_of_a_ct():
    ds = image_set(SIGNED, WindowCenter=[40, -600], WindowWidth=[80, 1500], PixelPaddingValue=-2000, **CT)
    rule = grey_rule(ds, 0)
    assert rule.stored_range == (-32768, 32767)
    assert rule.padding == (-2000, -2000)
    assert rule.modality == Rescale(1, -24)
    assert rule.views == (Window(40, 80), Window(-600, 1500))
    assert rule.is_hounsfield
    assert not rule.is_inverted


@pytest.mark.parametrize(
    ("kind", "shape", "is_inverted"),
    [
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "INVERSE", True),  # as the DX module writes it: once, not twice
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", None, False),
    ],
)
def test_inversion_is_said_in_two_places_and_done_once(kind, shape, is_inverted):
    tags = {"PhotometricInterpretation": kind, "WindowCenter": 50, "WindowWidth": 101}
    data = dicom_bytes(DEEP, **tags | ({"PresentationLUTShape": shape} if shape else {}))
    plain = [1, 4, 6, 255, 255, 255]  # (x + 0.5) / 100 of 255, up to 99.5
    assert shown(data) == ([255 - value for value in plain] if is_inverted else plain)


@pytest.mark.parametrize(
    ("tags", "is_hounsfield"),
    [
        (CT, True),
        (CT | {"RescaleType": "HU"}, True),
        (CT | {"RescaleType": "US"}, False),
        (CT | {"Modality": "MR"}, False),
        ({"Modality": "CT"}, False),
    ],
)
def test_only_rescaled_ct_is_in_hounsfield_units(tags, is_hounsfield):
    data = dicom_bytes(SIGNED, **tags)
    if is_hounsfield:
        assert shown(data, window="brain")[:3] == [0, 0, 0]
        assert shown(data, window="brain")[3] == 52  # 16 HU: 255 ((16 − 39.5) / 79 + 0.5) = 51.6
    else:
        with pytest.raises(InputError, match="Hounsfield"):
            shown(data, window="brain")


def test_views_are_tables_then_windows_and_the_index_may_be_text():
    tags = {"WindowCenter": [50, 2048], "WindowWidth": [100, 4096], "VOILUTFunction": "LINEAR_EXACT"}
    data = dicom_bytes(DEEP, VOILUTSequence=[TABLE], **tags)
    assert shown(data) == shown(data, window=0) == shown(data, window="0") == [0, 0, 127, 255, 255, 255]
    assert shown(data, window=1) == shown(data, window="1") == [0, 3, 5, 255, 255, 255]
    assert shown(data, window=2)[-2:] == [125, 255]
    with pytest.raises(InputError, match="no window 3: the image has 3"):
        shown(data, window=3)


@pytest.mark.parametrize("data_vr", ["US", "OW"])
def test_a_modality_table_comes_before_the_window(data_vr):
    table = lut([10, 20, 30], 1, 8, data_vr=data_vr)
    window = {"WindowCenter": 20, "WindowWidth": 20, "VOILUTFunction": "LINEAR_EXACT"}
    assert shown(dicom_bytes(DEEP, ModalityLUTSequence=[table], **window)) == [0, 0, 128, 255, 255, 255]
    assert shown(dicom_bytes(DEEP, ModalityLUTSequence=[table])) == [0, 0, 128, 255, 255, 255]  # 10 to 30, no window


def test_tables_start_below_zero_where_values_do():
    entries = [0, 100, 200]
    for first, vr in ((-1024, "SS"), (64512, "US")):  # the same 16 bits
        data = dicom_bytes(SIGNED, VOILUTSequence=[lut(entries, first, 8, vr=vr)])
        assert shown(data) == [0, 0, 200, 200, 200, 200]
    with pytest.raises(InputError, match="a look-up table of 5 entries"):
        shown(dicom_bytes(DEEP, VOILUTSequence=[lut(entries, 0, 8, n_entries=5)]))


def test_a_table_of_65536_entries_says_that_it_has_none():
    whole = lut(list(range(65536)), 0, 16, data_vr="OW", n_entries=0)
    assert shown(dicom_bytes(DEEP * 16, VOILUTSequence=[whole])) == [0, 0, 0, 6, 125, 255]  # x / 65535 of 255


def test_entries_may_be_bytes_in_words_and_words_in_either_order():
    packed = item(LUTDescriptor=[4, 0, 8])
    packed.add_new("LUTData", "OW", bytes([0, 50, 100, 200]))
    assert shown(dicom_bytes(DEEP, VOILUTSequence=[packed])) == [0, 50, 100, 200, 200, 200]
    big = item(LUTDescriptor=[3, 1, 10])
    big.add_new("LUTData", "OW", np.array([0, 511, 1023], ">u2").tobytes())
    data = file_bytes(image_set(DEEP.astype(np.uint8), VOILUTSequence=[big]), ExplicitVRBigEndian)
    assert shown(data) == [0, 0, 127, 255, 255, 255]


def test_tables_start_above_32767_whatever_their_sign():
    """Signed pixels that the rescale brings to 30768 … 35768: no value is negative."""
    entries = [0, 100, 200]
    for first, vr in ((33808, "US"), (33808 - 65536, "SS")):
        data = dicom_bytes(
            SIGNED, VOILUTSequence=[lut(entries, first, 8, vr=vr)], RescaleSlope=1, RescaleIntercept=32768
        )
        assert shown(data) == [0, 0, 0, 0, 0, 200]


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"WindowCenter": 1, "WindowWidth": 0}, "width 0 is not possible"),
        ({"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "CUBIC"),
        ({"WindowCenter": [1, 2], "WindowWidth": 5}, "2 window centres, but 1 widths"),
        ({"VOILUTSequence": [lut([1, 2], 0, 8, n_entries=5)]}, "a look-up table of 5 entries"),
    ],
)
def test_an_impossible_view_is_an_error_only_to_those_who_choose_it(tags, words):
    data = dicom_bytes(SIGNED, **CT | tags)
    for window in (None, 0):
        with pytest.raises(InputError, match=words) as caught:
            shown(data, window=window)
        assert "minmax" in caught.value.fix
    assert shown(data, window="minmax") == shown(dicom_bytes(SIGNED, **CT), window="minmax")
    assert shown(data, window="lung") == shown(dicom_bytes(SIGNED, **CT), window="lung")
    later = dicom_bytes(DEEP, WindowCenter=[1, 2048], WindowWidth=[0, 4096])
    assert shown(later, window=1) == shown(dicom_bytes(DEEP, WindowCenter=2048, WindowWidth=4096))


@pytest.mark.parametrize(("vr", "value"), [("SS", -2000), ("US", 63536)])
def test_padding_is_read_with_the_sign_of_the_pixels(vr, value):
    ds = image_set(SIGNED)
    ds.add_new("PixelPaddingValue", vr, value)
    assert shown(file_bytes(ds)) == [0, 0, 65, 67, 128, 255]  # −1024 to 3000, the padding black
    ds.add_new("PixelPaddingRangeLimit", "SS", -1000)
    assert shown(file_bytes(ds)) == [0, 0, 0, 3, 85, 255]  # 0 to 3000


def test_negative_padding_of_unsigned_pixels_is_their_upper_end():
    ds = image_set(np.array([[63536, 0, 50, 100]], np.uint16))
    ds.add_new("PixelPaddingValue", "SS", -2000)
    assert shown(file_bytes(ds)) == [0, 0, 128, 255]


def test_a_frame_has_its_own_groups_before_the_shared_ones():
    frames = np.concatenate([SIGNED, SIGNED]).reshape(2, 6)
    ds = image_set(frames, Modality="CT", NumberOfFrames=2)
    ds.Rows = 1
    rescale = item(RescaleSlope=1, RescaleIntercept=-24, RescaleType="HU")
    ds.SharedFunctionalGroupsSequence = [
        item(
            PixelValueTransformationSequence=[rescale],
            FrameVOILUTSequence=[item(WindowCenter=0, WindowWidth=1)],
        )
    ]
    ds.PerFrameFunctionalGroupsSequence = [item(), item(FrameVOILUTSequence=[item(WindowCenter=40, WindowWidth=80)])]
    assert grey_rule(ds, 0).views == (Window(0, 1),)
    assert grey_rule(ds, 1).views == (Window(40, 80),)
    assert grey_rule(ds, 1).modality == Rescale(1, -24)
    assert grey_rule(ds, 1).is_hounsfield
    assert shown(file_bytes(ds), frame=1)[3] == 52


def test_a_frame_has_its_own_table_too():
    ds = image_set(DEEP, SharedFunctionalGroupsSequence=[item(FrameVOILUTSequence=[item(VOILUTSequence=[TABLE])])])
    ds.VOILUTSequence = [lut([7, 7], 0, 8)]  # of nobody
    assert shown(file_bytes(ds)) == [0, 0, 127, 255, 255, 255]


def test_a_presentation_table_is_not_guessed_at():
    with pytest.raises(InputError, match="Presentation LUT"):
        shown(dicom_bytes(DEEP, PresentationLUTSequence=[lut([0, 1], 0, 8)]))
