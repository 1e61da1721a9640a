import struct

import numpy as np
import pytest

from pipeline.adapters.dicom import load_dicom
from pipeline.adapters.dicom_lossless import check_lossless
from schemas.errors import InputError
from tests.pipeline.dicom_files import compressed, image_set

SIZE = {"width_px": 6, "height_px": 4, "n_samples": 1, "bits_allocated": 8}
FRAME = b"\x08\0\x04\0\x06\x01\x01\x11\0"  # 8 bits, 4 x 6, one component
HUFFMAN = b"\0" + bytes([0, 2, 2] + 13 * [0]) + bytes([0, 1, 2, 3])
SCAN = b"\x01\x01\0\x01\0\0"  # one component, its table 0, predictor 1


def segment(marker, body):
    return struct.pack(">HH", marker, len(body) + 2) + body


def stream(frame=FRAME, huffman=HUFFMAN, scan=SCAN, before=b""):
    parts = (segment(0xFFC3, frame), segment(0xFFC4, huffman), segment(0xFFDA, scan))
    return b"\xff\xd8" + before + b"".join(parts) + b"\x12\x34\xff\xd9"


def adobe(transform):
    return segment(0xFFEE, b"Adobe\0\x64\0\0\0\0" + transform)


@pytest.mark.parametrize("before", [b"", segment(0xFFE0, b"JFIF\0"), segment(0xFFFE, b"a remark"), adobe(b"\x01")])
def test_a_whole_header_passes(before):
    check_lossless(stream(before=before), **SIZE)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xd9", "no start"),
        (stream()[:20], "ends before its scan"),
        (stream(before=b"\xff\xe0\xff\xff"), "ends before its scan"),
        (stream(before=segment(0xFFC0, FRAME)), "unexpected marker FFC0"),
        (stream(before=adobe(b"\x02")), "colour transform"),
        (stream(before=adobe(b"")), "colour transform"),
        (stream(frame=b"\x08\0\x04\0\x07\x01\x01\x11\0"), r"\[4, 7, 1\] do not fit the tags' 8 and \[4, 6, 1\]"),
        (stream(frame=b"\x0c" + FRAME[1:]), "12 bits"),
        (stream(frame=FRAME + b"\0"), "do not fit"),
        (stream(huffman=b"\0" + bytes([3] + 15 * [0]) + b"\0\1\2"), "Huffman"),  # three codes of one bit
        (stream(huffman=HUFFMAN[:-1]), "Huffman"),
        (stream(huffman=HUFFMAN[:-1] + b"\x11"), "Huffman"),  # a difference of 17 bits
        (stream(huffman=b"\x10" + HUFFMAN[1:]), "Huffman"),  # a table of the lossy process
        (stream(scan=b"\x01\x07\0\x01\0\0"), "components that it does not have"),
        (stream(scan=b""), "components that it does not have"),
        (stream(scan=b"\x01\x01\0\0\x3f\0"), "another process"),
    ],
)
def test_a_damaged_header_is_refused_before_the_decoder_sees_it(data, words):
    with pytest.raises(InputError, match=words):
        check_lossless(data, **SIZE)
    with pytest.raises(InputError, match=words):
        load_dicom(compressed(image_set(np.zeros((4, 6), np.uint8)), data, "1.2.840.10008.1.2.4.70"))
