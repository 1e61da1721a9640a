"""Image files: decode once, say clearly when that fails, and hash what was seen."""

import hashlib
import io
import struct
import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from pipeline.adapters.hashes import picture_hashes
from schemas.errors import InputError
from schemas.records import Image

Pillow.MAX_IMAGE_PIXELS = 400_000_000  # a whole-slide thumbnail passes, a decompression bomb does not
Pillow.core.set_blocks_max(4)  # Pillow keeps memory for the next picture, which then costs no page faults
RUN_BYTES = 1 << 16
BOMBS = (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning)
BROKEN = (OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, struct.error, *BOMBS)  # seen from Pillow


def decode(data: bytes, *, where: object = None) -> Pillow.Image:
    """The decoded image; InputError when the bytes are no readable image."""
    try:
        with warnings.catch_warnings():  # of odd metadata; a bomb is an error at its first warning
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            image = Pillow.open(io.BytesIO(data))
            image.load()
    except BROKEN as error:
        # the words of UnidentifiedImageError hold a memory address; rejects must not differ between runs
        what = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(
            f"not a readable image: {what}", where=where, fix="replace the file or drop its rows"
        ) from error
    return image


def pixel_sha256(image: Pillow.Image) -> str:
    """sha256 of mode, size and decoded pixels: the same for lossless re-encodings of one picture."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # palette indices alone do not say what is seen
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height}\n".encode())
    for run in _raw(image):
        digest.update(run)
    return digest.hexdigest()


def _raw(image: Pillow.Image) -> Iterator[bytes]:
    """What `image.tobytes()` gives, a run at a time: a copy of a whole picture costs more than its hash."""
    encoder = Pillow._getencoder(image.mode, "raw", (image.mode,))
    encoder.setimage(image.im, (0, 0, *image.size))
    state = 0
    while not state:
        _, state, run = encoder.encode(max(RUN_BYTES, 4 * image.width))
        yield run
    if state < 0:
        raise InputError(f"pixels of mode {image.mode} cannot be read", fix="store the picture as 8-bit PNG")


def grey_levels(image: Pillow.Image) -> NDArray[np.uint8]:
    """[height, width] luminance, as hashes see it; opacity is left out.

    Levels of more than 8 bits are stretched so that the least is 0 and the greatest 255: windows are not known here.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        levels = np.nan_to_num(np.asarray(image, np.float64), posinf=0.0, neginf=0.0)
        low, span = levels.min(), np.ptp(levels) or 1.0
        return np.rint((levels - low) / span * 255).astype(np.uint8)
    if image.mode == "LAB":  # Pillow knows no way from it
        return np.asarray(image.getchannel("L"))
    if image.mode not in ("1", "L", "LA", "RGB", "RGBA"):
        image = image.convert("LA" if image.mode == "La" else "RGB")
    return np.asarray(image.convert("L"))


def stored_image(
    data: bytes,
    path: str,
    *,
    source: str,
    licence: str,
    modality: str | None,
    where: object = None,
    sha256: str | None = None,
) -> Image:
    """The record of an image file as it will be stored, byte for byte; `sha256` of the bytes where it is known."""
    picture = decode(data, where=where or path)
    return Image(
        image_id=sha256 or hashlib.sha256(data).hexdigest(),
        data=data,
        path=path,
        width=picture.width,
        height=picture.height,
        modality=modality,
        pixel_sha256=pixel_sha256(picture),
        source=source,
        licence=licence,
        hashes=picture_hashes(grey_levels(picture)),
    )
