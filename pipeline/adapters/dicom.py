"""DICOM files (extra `dicom`) as the 8-bit pictures a store holds; every failure is an InputError.

Only pixels leave: no tag passes into a picture, and the patient's number is handed back by itself, for hashing only.
Decoding, windowing, inversion and rounding are told in `dicom_frames`, `dicom_tags` and `dicom_grey`.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pillow

from pipeline.adapters.dicom_frames import GREY, INSTALL, frame_pixels, n_frames
from pipeline.adapters.dicom_grey import grey_pixels
from pipeline.adapters.dicom_tags import grey_rule, text_of
from pipeline.adapters.png import write_png
from schemas.errors import InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PREAMBLE_BYTES = 128
MAGIC = b"DICM"
REPLACE = "replace the file or drop its rows"
# The first element of a file without a preamble: group 0002 or 0008, then its VR in either byte order, ...
_TAG = rb"(?:[\x02\x08]\x00[\x00-\xff]\x00|\x00[\x02\x08]\x00[\x00-\xff])"
_EXPLICIT = re.compile(_TAG + rb"(?:UL|OB|CS|DA|TM|UI|SH|DT)")
_IMPLICIT = re.compile(rb"[\x02\x08]\x00[\x00\x01\x05\x08\x12\x16\x18]\x00")  # ... or an even length that fits
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True)
class DicomFacts:
    """What a source may know about a file and about nobody in it."""

    modality: str | None  # DICOM's code: CR, DX, CT, MR, US …
    width_px: int
    height_px: int
    n_frames: int


def is_dicom(data: bytes) -> bool:
    """`DICM` after a preamble of 128 bytes; or, without one, a first element of group 0002 or 0008.

    The second form is that of old files and of data sets cut out of a network transfer. No format of
    pictures starts so. Anything else is refused, also what pydicom reads with `force`.
    """
    if data[PREAMBLE_BYTES : PREAMBLE_BYTES + len(MAGIC)] == MAGIC or _EXPLICIT.match(data):
        return True
    length = int.from_bytes(data[4:8], "little")
    return bool(_IMPLICIT.match(data)) and length % 2 == 0 and 8 + length < len(data)


def load_dicom(data: bytes, *, window: str | int | None = None, frame: int = 0, where: object = None) -> Pillow.Image:
    """One frame as a picture of mode L or RGB.

    window: null takes the file's first (a VOI table before a window), an index (0 or "0") any of them, `minmax`
    none, a name of `dicom_windows.NAMED_HU` one in Hounsfield units (CT only).
    """
    return Pillow.fromarray(_pixels(data, window, frame, where))


def png_of(data: bytes, *, window: str | int | None = None, frame: int = 0, where: object = None) -> bytes:
    """The same picture as a PNG whose bytes depend on its pixels alone."""
    return write_png(_pixels(data, window, frame, where))


def facts_of(data: bytes, *, where: object = None) -> DicomFacts:
    with _located(where), _explained(may_quote=False):
        ds = _read(data, with_pixels=False)
        modality = text_of(ds, "Modality")
        is_code = re.fullmatch(r"[A-Z0-9_ ]{1,16}", modality)  # anything else may be a remark about somebody
        return DicomFacts(modality if is_code else None, int(ds.Columns), int(ds.Rows), n_frames(ds))


def patient_id(data: bytes, *, where: object = None) -> str | None:
    """The file's PatientID, for `patients.patient_key` and nothing else; null where it is absent or blank."""
    with _located(where), _explained(may_quote=False):
        return str(_read(data, with_pixels=False).get("PatientID") or "").strip() or None


def _pixels(data: bytes, window: str | int | None, frame: int, where: object) -> np.ndarray:
    with _located(where):
        with _explained(may_quote=True):
            ds = _read(data, with_pixels=True)
            pixels = frame_pixels(ds, frame)
            rule = grey_rule(ds, frame) if text_of(ds, "PhotometricInterpretation") in GREY else None
        if rule is not None:
            is_index = isinstance(window, str) and window.isdecimal()
            return grey_pixels(pixels, rule, int(window) if is_index else window)
        if window is not None:
            raise InputError(f"window {window!r} is for grey values, this image is in colour", fix="leave it out")
        return pixels


def _read(data: bytes, with_pixels: bool) -> "Dataset":
    if not is_dicom(data):
        raise InputError("not a DICOM file: no DICM after the preamble, no DICOM element at the start")
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise InputError("reading DICOM needs the extra `dicom`", fix=INSTALL) from error
    return dcmread(io.BytesIO(data), force=True, stop_before_pixels=not with_pixels)


@contextmanager
def _located(where: object) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(error.what, where=where, fix=error.fix or REPLACE) from error


@contextmanager
def _explained(may_quote: bool) -> Iterator[None]:
    """Whatever a file makes pydicom raise, as an InputError; its warnings about odd tags stay unsaid.

    Bytes of strangers fail in too many ways to list, so all of Exception is caught. Its words are passed on where
    only display tags are looked at, as they may quote one; a memory address in them would differ between runs.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        words = ": " + _ADDRESS.sub("", " ".join(str(error).split())) if may_quote else ""
        raise InputError(f"not a readable DICOM file: {type(error).__name__}{words}") from error
