"""A lossless JPEG's header, checked before GDCM sees it: over a damaged one GDCM ends the whole process.

Only the segments before the scan are read (ISO/IEC 10918-1 annex B), no pixel is decoded. Damage inside the scan is
GDCM's business, which then gives wrong pixels or an error: a format without checksums cannot do better.
"""

import struct
from collections.abc import Iterator
from typing import NoReturn

from schemas.errors import InputError

SOI, SOF3, DHT, SOS, APP14 = 0xFFD8, 0xFFC3, 0xFFC4, 0xFFDA, 0xFFEE
HARMLESS = {*range(0xFFE0, 0xFFF0), 0xFFFE, 0xFFDD} - {APP14}  # application data, comments, restart interval
ADOBE_TRANSFORM_AT, ADOBE_TRANSFORMS = 11, (0, 1)  # none or YCbCr; YCCK has four samples


def check_lossless(stream: bytes, *, width_px: int, height_px: int, n_samples: int, bits_allocated: int) -> None:
    """InputError unless the header is whole, of process 14, and of the image that the tags describe."""
    expected = (height_px, width_px, n_samples)
    components: list[int] = []
    for marker, body in _segments(stream):
        if marker == SOF3:
            precision, *size = struct.unpack_from(">BHHB", body)
            components = list(body[6::3])
            if tuple(size) != expected or not 2 <= precision <= bits_allocated or len(body) != 6 + 3 * n_samples:
                _refuse(f"{precision} bits and {size} do not fit the tags' {bits_allocated} and {list(expected)}")
        elif marker == DHT:
            _check_huffman(body)
        elif marker == APP14 and body.startswith(b"Adobe"):
            if len(body) <= ADOBE_TRANSFORM_AT or body[ADOBE_TRANSFORM_AT] not in ADOBE_TRANSFORMS:
                _refuse("unknown colour transform")
        elif marker == SOS:
            _check_scan(body, components)
            return
        elif marker not in HARMLESS and marker != APP14:
            _refuse(f"unexpected marker {marker:04X}")
    _refuse("it ends before its scan")


def _segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, body) of each segment; of a stream cut off, as many as are whole."""
    if stream[:2] != SOI.to_bytes(2):
        _refuse("no start of image")
    at = 2
    while at + 4 <= len(stream):
        marker, length = struct.unpack_from(">HH", stream, at)
        if length < 2 or at + 2 + length > len(stream):
            return
        yield marker, stream[at + 4 : at + 2 + length]
        at += 2 + length


def _check_huffman(body: bytes) -> None:
    """One or more tables: class and number, 16 counts by code length, then as many values of at most 16."""
    at = 0
    while at < len(body):
        counts = body[at + 1 : at + 17]
        values = body[at + 17 : at + 17 + sum(counts)]
        room = 1
        for count in counts:
            room = 2 * room - count
            if room < 0:
                _refuse("impossible Huffman table")
        if body[at] > 3 or len(counts) < 16 or len(values) < sum(counts) or max(values, default=0) > 16:
            _refuse("impossible Huffman table")
        at += 17 + sum(counts)


def _check_scan(body: bytes, components: list[int]) -> None:
    """All components in one scan or the first of several, predictor 1 to 7, no spectral end."""
    count = body[0] if body else 0
    named, tables = list(body[1 : 1 + 2 * count : 2]), body[2 : 2 + 2 * count : 2]
    if not count or len(body) != 4 + 2 * count or not set(named) <= set(components):
        _refuse("a scan of components that it does not have")
    predictor, last, _ = body[-3:]
    if not 1 <= predictor <= 7 or last or any(table & 15 or table >> 4 > 3 for table in tables):
        _refuse("a scan of another process")


def _refuse(why: str) -> NoReturn:
    raise InputError(f"damaged lossless JPEG: {why}")
