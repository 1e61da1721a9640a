"""Small DICOM files written by pydicom with the tags a test names."""

import io

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

UID = generate_uid(entropy_srcs=["fovea tests"])


def image_set(pixels: np.ndarray, **tags: object) -> Dataset:
    """uint8, uint16 or int16 pixels [height, width(, 3)] as a data set; MONOCHROME2, or RGB, unless told otherwise."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = CTImageStorage, UID, "OT"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    ds.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.dtype.itemsize
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    ds.HighBit = ds.BitsStored - 1
    little = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    ds.add_new("PixelData", "OW" if ds.BitsAllocated > 8 else "OB", little + b"\0" * (len(little) % 2))
    return ds


def file_bytes(ds: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def dicom_bytes(pixels: np.ndarray, **tags: object) -> bytes:
    return file_bytes(image_set(pixels, **tags))


def compressed(ds: Dataset, stream: bytes, transfer_syntax: str) -> bytes:
    """The file of `ds` with one compressed frame in place of its pixels."""
    ds.add_new("PixelData", "OB", encapsulate([stream]))
    ds["PixelData"].is_undefined_length = True
    return file_bytes(ds, transfer_syntax)


def item(**tags: object) -> Dataset:
    """A data set to stand in a sequence."""
    ds = Dataset()
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return ds
