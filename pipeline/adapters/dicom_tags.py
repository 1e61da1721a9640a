"""The grey-scale rule of one frame, read from the tags of a DICOM data set.

Reads display tags only, and computes nothing with pixels. In enhanced multi-frame files the frame's own functional
group counts before the shared one, and that before the top level (PS3.3 C.7.6.16).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pipeline.adapters.dicom_grey import GreyRule, Rescale
from pipeline.adapters.dicom_windows import Table, Window
from schemas.errors import InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

View = TypeVar("View", Table, Window)


def grey_rule(ds: "Dataset", frame: int) -> GreyRule:
    if ds.get("PresentationLUTSequence"):
        raise InputError("a Presentation LUT Sequence is not supported", fix="export the image with its look applied")
    low, high = stored_range(ds)
    modality = _modality(ds, frame, low)
    reach = np.array([low, high], np.float64)
    is_signed = bool((reach if modality is None else modality.look_up(reach)).min() < 0)
    is_monochrome1 = text_of(ds, "PhotometricInterpretation") == "MONOCHROME1"
    return GreyRule(
        stored_range=(low, high),
        padding=_padding(ds),
        modality=modality,
        views=_views(ds, frame, is_signed),
        is_inverted=is_monochrome1 or text_of(ds, "PresentationLUTShape") == "INVERSE",
        is_hounsfield=_is_hounsfield(ds, frame, modality),
    )


def stored_range(ds: "Dataset") -> tuple[int, int]:
    bits = int(ds.BitsStored)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if ds.PixelRepresentation else (0, 2**bits - 1)


def text_of(ds: "Dataset", keyword: str) -> str:
    """A code string in capitals without blanks around it; "" where it is absent."""
    return str(ds.get(keyword) or "").strip().upper()


def _group(ds: "Dataset", frame: int, name: str) -> "Dataset":
    """Where an attribute of `frame` is to be looked for: the functional group `name`, or the data set itself."""
    own, shared = ds.get("PerFrameFunctionalGroupsSequence"), ds.get("SharedFunctionalGroupsSequence")
    for groups, at in ((own, frame), (shared, 0)):
        if groups and at < len(groups) and (items := groups[at].get(name)):
            return items[0]
    return ds


def _modality(ds: "Dataset", frame: int, low: int) -> Rescale | Table | None:
    if items := ds.get("ModalityLUTSequence"):
        return _table(ds, items[0], is_signed=low < 0)
    group = _group(ds, frame, "PixelValueTransformationSequence")
    slope, intercept = group.get("RescaleSlope"), group.get("RescaleIntercept")
    if slope is None and intercept is None:
        return None
    return Rescale(1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))


def _is_hounsfield(ds: "Dataset", frame: int, modality: Rescale | Table | None) -> bool:
    """CT is in HU after its rescale, unless the file names another unit."""
    unit = text_of(_group(ds, frame, "PixelValueTransformationSequence"), "RescaleType")
    return text_of(ds, "Modality") == "CT" and isinstance(modality, Rescale) and unit in ("", "HU")


def _views(ds: "Dataset", frame: int, is_signed: bool) -> tuple[Table | Window | InputError, ...]:
    """What the file offers; an impossible view harms nobody who does not choose it."""
    group = _group(ds, frame, "FrameVOILUTSequence")
    tables = [_possible(_table, ds, item, is_signed) for item in group.get("VOILUTSequence") or ()]
    centers, widths = _numbers(group, "WindowCenter"), _numbers(group, "WindowWidth")
    if len(centers) != len(widths):
        return (*tables, InputError(f"{len(centers)} window centres, but {len(widths)} widths"))
    function = text_of(group, "VOILUTFunction") or "LINEAR"
    pairs = zip(centers, widths, strict=True)
    return (*tables, *(_possible(Window, center, width, function) for center, width in pairs))


def _possible(make: Callable[..., View], *parts: object) -> View | InputError:
    try:
        return make(*parts)
    except InputError as error:
        return error


def _numbers(ds: "Dataset", keyword: str) -> list[float]:
    """The values of a tag that may hold none, one or several."""
    value = ds.get(keyword)
    if value is None or value == "":
        return []
    return [float(one) for one in (value if hasattr(value, "__len__") and not isinstance(value, str) else [value])]


def _table(ds: "Dataset", item: "Dataset", is_signed: bool) -> Table:
    n_entries, first, bits = (int(part) for part in item.LUTDescriptor)
    n_entries = n_entries % 65536 or 65536  # 0 stands for 65,536; a signed VR makes large counts negative
    if is_signed and first >= 32768:
        first -= 65536  # two's complement, read with the unsigned VR of its neighbours ...
    elif not is_signed and first < 0:
        first += 65536  # ... or with the signed one
    data = item.LUTData
    if isinstance(data, bytes):
        is_bytes = len(data) < 2 * n_entries  # 8-bit entries packed in words
        order = "<" if ds.original_encoding[1] else ">"
        data = np.frombuffer(data, np.uint8 if is_bytes else f"{order}u2")
    entries = np.atleast_1d(np.asarray(data, np.float64))[:n_entries]
    if len(entries) < n_entries or not 1 <= bits <= 16:
        raise InputError(f"a look-up table of {n_entries} entries with {bits} bits has {len(entries)}")
    return Table(first, entries, bits)


def _padding(ds: "Dataset") -> tuple[int, int] | None:
    """Stored values that are no image (PS3.3 C.7.5.1.1.2), as a closed range."""
    ends = [ds.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    found = [_as_stored(int(end), ds) for end in ends if end is not None]
    return (min(found), max(found)) if ends[0] is not None else None


def _as_stored(value: int, ds: "Dataset") -> int:
    """A padding value as pixels read it: files give it the VR of the other sign, 63536 for −2000."""
    span = 2 ** int(ds.BitsAllocated)
    if ds.PixelRepresentation and value >= span // 2:
        return value - span
    return value + span if value < 0 and not ds.PixelRepresentation else value
