"""8-bit PNG, grey or RGB, whose bytes we own: stored deflate blocks, no row filter, nothing left to a zlib build.

Only the two checksums come from `zlib`, and those are defined by the format. The price is size
(one byte a pixel, three in colour); it refuses transparency, other depths, and to compress.
"""

import struct
import zlib

import numpy as np

_BLOCK_BYTES_MAX = 65535  # a stored block's length field has 16 bits


def write_png(pixels: np.ndarray) -> bytes:
    """`pixels`, uint8 [height, width] or [height, width, 3], as a complete PNG file (ISO/IEC 15948), or ValueError."""
    if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)) or pixels.ndim < 2 or 0 in pixels.shape:
        raise ValueError(f"expected uint8 [height, width] or [height, width, 3], got {pixels.dtype} {pixels.shape}")
    height, width = pixels.shape[:2]
    flat = pixels.reshape(height, -1)
    rows = np.zeros((height, flat.shape[1] + 1), np.uint8)  # column 0 is each row's filter type: 0, none
    rows[:, 1:] = flat
    colour_type = 0 if pixels.ndim == 2 else 2  # grey, RGB
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)  # depth 8
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", _stored(rows.tobytes())), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _stored(raw: bytes) -> bytes:
    """A zlib stream (RFC 1950) of stored blocks (RFC 1951, 3.2.4)."""
    blocks = [raw[start : start + _BLOCK_BYTES_MAX] for start in range(0, len(raw), _BLOCK_BYTES_MAX)]
    parts = [b"\x78\x01"]
    for number, block in enumerate(blocks, start=1):
        parts.append(struct.pack("<BHH", number == len(blocks), len(block), len(block) ^ 0xFFFF))
        parts.append(block)
    return b"".join(parts) + struct.pack(">I", zlib.adler32(raw))


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
