"""Image files: decode once, say clearly when that fails, and hash what was seen."""

import hashlib
import io
import struct
import warnings

from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from schemas.errors import InputError
from schemas.records import Image

Pillow.MAX_IMAGE_PIXELS = 400_000_000  # a whole-slide thumbnail passes, a decompression bomb does not
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
    head = f"{image.mode} {image.width} {image.height}\n".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()


def stored_image(
    data: bytes, path: str, *, source: str, licence: str, modality: str | None, where: object = None
) -> Image:
    """The record of an image file as it will be stored, byte for byte."""
    picture = decode(data, where=where or path)
    return Image(
        image_id=hashlib.sha256(data).hexdigest(),
        data=data,
        path=path,
        width=picture.width,
        height=picture.height,
        modality=modality,
        pixel_sha256=pixel_sha256(picture),
        source=source,
        licence=licence,
    )
