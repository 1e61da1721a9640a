"""Stored grey values → 8 bits, in the order of the standard: modality, window, inversion, rounding.

Works on the distinct values of a frame, at most 65,536 in practice, so a step costs nothing per pixel. The rule is
read elsewhere; this module sees no tag. Overlays are not burned in, contrast is never equalised.

Inverting comes after the window, once, for MONOCHROME1 or an INVERSE presentation. Padding is black, whichever
end of the scale the file puts it at. A frame that brings no window is shown whole: display values of up to 8 bits
by their full range, so that they stay what they were; deeper ones from their least to their greatest value. That
loses nothing and needs no parameter; percentiles would clip the small bright thing that somebody asks about.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.adapters.dicom_windows import MINMAX, NAMED_HU, Table, Window, eight_bits, stretched
from schemas.errors import InputError

TABLE_VALUES_MAX = 1 << 17  # a span up to here is counted, a wider one sorted
DISPLAY_BITS_MAX = 8


@dataclass(frozen=True, slots=True)
class Rescale:
    """slope · x + intercept"""

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.slope) and np.isfinite(self.intercept) and self.slope):
            raise InputError(f"rescale slope {self.slope:g} and intercept {self.intercept:g} leave no image")

    def look_up(self, x: np.ndarray) -> np.ndarray:
        return self.slope * x + self.intercept


@dataclass(frozen=True, slots=True)
class GreyRule:
    """All that a file says about showing a frame of its grey values."""

    stored_range: tuple[int, int]  # what BitsStored and PixelRepresentation allow
    padding: tuple[int, int] | None = None  # stored values, both ends included
    modality: Rescale | Table | None = None
    views: tuple[Table | Window | InputError, ...] = ()  # tables before windows; an impossible one is its error
    is_inverted: bool = False
    is_hounsfield: bool = False

    @property
    def is_display(self) -> bool:
        """Whether stored values are display values already."""
        low, high = self.stored_range
        is_plain = self.modality is None or self.modality == Rescale(1, 0)
        return is_plain and high - low < 2**DISPLAY_BITS_MAX


def grey_pixels(stored: np.ndarray, rule: GreyRule, window: str | int | None) -> np.ndarray:
    """uint8 of the shape of `stored` (integers); `window`: a name, "minmax", an index of `rule.views`, or null."""
    levels, index = distinct(stored)
    is_padding = np.zeros(levels.shape, bool)
    if rule.padding is not None:
        is_padding = (levels >= rule.padding[0]) & (levels <= rule.padding[1])
    x = levels.astype(np.float64)
    values = x if rule.modality is None else rule.modality.look_up(x)
    unit = _unit(values, values[~is_padding], rule, window)
    grey = eight_bits(1 - unit if rule.is_inverted else unit)
    grey[is_padding] = 0
    return grey[index]


def distinct(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values that occur, sorted, and for each pixel which of them it has: np.unique, by counting."""
    low, high = int(stored.min()), int(stored.max())
    if high - low >= TABLE_VALUES_MAX:
        levels, index = np.unique(stored, return_inverse=True)
        return levels, index.reshape(stored.shape)
    offset = stored.astype(np.int64) - low
    occurs = np.bincount(offset.ravel(), minlength=high - low + 1) > 0
    return np.flatnonzero(occurs) + low, (np.cumsum(occurs) - 1)[offset]


def _unit(values: np.ndarray, seen: np.ndarray, rule: GreyRule, window: str | int | None) -> np.ndarray:
    if isinstance(window, str) and window != MINMAX:
        return _named(window, rule).unit(values)
    if window != MINMAX and (rule.views or window is not None):
        return _view(rule.views, window or 0).unit(values)
    if window is None and rule.is_display:
        return stretched(values, *rule.stored_range)
    if not seen.size:
        return np.zeros(values.shape)  # padding only
    return stretched(values, seen.min(), seen.max())


def _named(name: str, rule: GreyRule) -> Window:
    if name not in NAMED_HU:
        raise InputError(f"there is no window called {name!r}", fix=f"one of {', '.join([*NAMED_HU, MINMAX])}")
    if not rule.is_hounsfield:
        raise InputError(
            f"window {name!r} is in Hounsfield units, this image is not (CT with a rescale to HU)",
            fix="leave the window out for images other than CT, or give the index of one of their own",
        )
    return Window(*NAMED_HU[name])


def _view(views: tuple[Table | Window | InputError, ...], index: int) -> Table | Window:
    if not 0 <= index < len(views):
        raise InputError(f"no window {index}: the image has {len(views)}", fix="count from 0, or leave the window out")
    view = views[index]
    if isinstance(view, InputError):
        raise InputError(view.what, fix=f"use another window, e.g. {MINMAX!r}")
    return view
