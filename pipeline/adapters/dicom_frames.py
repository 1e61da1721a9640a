"""One frame out of a DICOM data set: stored grey values, or 8-bit RGB. No window, no inversion.

Each transfer syntax has exactly one decoder, named here, so what else is installed never changes a pixel. A
licence under which fovea cannot be shipped is never needed: 12-bit JPEG Extended stays an error without it.
"""

from typing import TYPE_CHECKING

import numpy as np

from pipeline.adapters.dicom_lossless import check_lossless
from pipeline.adapters.dicom_tags import text_of
from pipeline.adapters.dicom_windows import eight_bits
from schemas.errors import InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

PIXELS_MAX = 400_000_000  # as for other images: a bomb is larger
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
PALETTE = "PALETTE COLOR"
NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation")
INSTALL = "pip install 'fovea[dicom]'"
GPL = "convert it first, or install pylibjpeg-libjpeg yourself (GPLv3: fovea neither ships nor needs it)"

NATIVE = ("ImplicitVRLittleEndian", "ExplicitVRLittleEndian", "ExplicitVRBigEndian", "DeflatedExplicitVRLittleEndian")
DECODER_OF = {  # pydicom's keyword of the transfer syntax → its plugin
    **dict.fromkeys(NATIVE, ""),
    "JPEGBaseline8Bit": "pillow",
    "JPEGExtended12Bit": "pillow",  # 8 bits; pylibjpeg for 12
    "JPEGLossless": "gdcm",
    "JPEGLosslessSV1": "gdcm",
    "JPEGLSLossless": "pyjpegls",
    "JPEGLSNearLossless": "pyjpegls",
    "JPEG2000Lossless": "pylibjpeg",
    "JPEG2000": "pylibjpeg",
    "HTJ2KLossless": "pylibjpeg",
    "HTJ2KLosslessRPCL": "pylibjpeg",
    "HTJ2K": "pylibjpeg",
    "RLELossless": "pydicom",  # slower than pylibjpeg-rle, which panics on damaged bytes instead of raising
}


def frame_pixels(ds: "Dataset", frame: int) -> np.ndarray:
    """Grey: integers [height, width] as stored. Colour: uint8 RGB [height, width, 3]."""
    _check(ds, frame)
    pixels, found = _decoded(ds, frame)
    kind = text_of(ds, "PhotometricInterpretation")
    if kind in GREY:
        return _shaped(pixels, 2, kind)
    if kind == PALETTE:
        return _palette(_shaped(pixels, 2, kind), ds)
    if found["photometric_interpretation"] != "RGB" or pixels.dtype.kind != "u":
        raise InputError(f"photometric interpretation {kind} was not converted to RGB")
    rgb = _shaped(pixels, 3, kind)
    return rgb if rgb.dtype == np.uint8 else eight_bits(np.clip(rgb / (2 ** int(ds.BitsStored) - 1), 0, 1))


def n_frames(ds: "Dataset") -> int:
    number = ds.get("NumberOfFrames")
    return 1 if number in (None, "", 0) else int(number)


def _check(ds: "Dataset", frame: int) -> None:
    if "PixelData" not in ds:
        if "FloatPixelData" in ds or "DoubleFloatPixelData" in ds:
            raise InputError("floating-point pixels are not supported")
        raise InputError("truncated: it ends before its pixel data" if "Rows" in ds else "no pixel data: not an image")
    if absent := [keyword for keyword in NEEDED if ds.get(keyword) is None]:
        raise InputError(f"{', '.join(absent)} missing: no image without")
    kind = text_of(ds, "PhotometricInterpretation")
    if kind not in (*GREY, *COLOUR, PALETTE):
        raise InputError(f"photometric interpretation {kind or '(none)'} is not supported")
    if not 0 <= frame < n_frames(ds):
        raise InputError(f"no frame {frame}: the file has {n_frames(ds)}", fix="count frames from 0")
    n_pixels = int(ds.Rows) * int(ds.Columns)
    if not 0 < n_pixels <= PIXELS_MAX:
        raise InputError(f"{ds.Columns} x {ds.Rows} pixels; expected 1 to {PIXELS_MAX}")
    if ds.get("HighBit") not in (None, ds.BitsStored - 1):
        raise InputError(f"high bit {ds.HighBit} is not the last of the {ds.BitsStored} bits stored")


def _decoded(ds: "Dataset", frame: int) -> tuple[np.ndarray, dict]:
    from pydicom.encaps import get_frame
    from pydicom.pixels import get_decoder

    uid = _transfer_syntax(ds)
    if uid.keyword not in DECODER_OF:
        raise InputError(f"transfer syntax {uid.name} is not supported", fix="convert the file, e.g. to explicit VR")
    plugin = DECODER_OF[uid.keyword]
    is_12_bit = uid.keyword == "JPEGExtended12Bit" and int(ds.BitsStored) != 8
    plugin = "pylibjpeg" if is_12_bit else plugin
    decoder = get_decoder(uid)
    if plugin and plugin not in decoder.available_plugins:
        what = "12-bit JPEG Extended" if is_12_bit else uid.name
        raise InputError(f"no decoder for {what} is installed", fix=GPL if is_12_bit else INSTALL)
    if plugin == "gdcm":
        size = {"width_px": ds.Columns, "height_px": ds.Rows, "n_samples": ds.get("SamplesPerPixel", 1)}
        stream = get_frame(ds.PixelData, frame, number_of_frames=n_frames(ds))
        check_lossless(stream, bits_allocated=ds.BitsAllocated, **size)
    return decoder.as_array(ds, index=frame, decoding_plugin=plugin)


def _transfer_syntax(ds: "Dataset") -> "UID":
    """The one named in the file; a file without meta information can only be native, as it was parsed."""
    from pydicom import uid

    if named := getattr(ds, "file_meta", {}).get("TransferSyntaxUID"):
        return named
    if ds["PixelData"].is_undefined_length:
        raise InputError("compressed pixels, and no transfer syntax says how")
    is_implicit, is_little = ds.original_encoding
    if is_implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if is_little else uid.ExplicitVRBigEndian


def _palette(index: np.ndarray, ds: "Dataset") -> np.ndarray:
    """The palette's colours without alpha; of 16 bits the high byte, right for an 8-bit v kept as 256 v or 257 v."""
    from pydicom.pixels import apply_color_lut

    colours = apply_color_lut(index, ds)[..., :3]
    return colours if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)


def _shaped(pixels: np.ndarray, n_axes: int, kind: str) -> np.ndarray:
    if pixels.ndim != n_axes or (n_axes == 3 and pixels.shape[2] != 3):
        raise InputError(f"pixels of shape {pixels.shape} do not fit photometric interpretation {kind}")
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
