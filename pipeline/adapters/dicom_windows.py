"""Grey-scale transforms of DICOM as exact formulas: windows and look-up tables to [0, 1] (PS3.3 C.11.1, C.11.2).

They know numbers only, no file. Nothing here guesses a window from an image.
"""

from dataclasses import dataclass
from math import isfinite

import numpy as np

from schemas.errors import InputError

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
MINMAX = "minmax"  # not a window of the file: the least value black, the greatest white

# Centre and width in Hounsfield units. Source: Radiopaedia, "Windowing (CT)", typical values; where it gives a
# range or two values, the choice is ours: subdural the middles, stroke the wider one, bone that of the spine.
NAMED_HU = {
    "abdomen": (50.0, 400.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
    "liver": (30.0, 150.0),
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
    "soft": (50.0, 400.0),
    "stroke": (40.0, 40.0),
    "subdural": (75.0, 215.0),
    "temporal": (600.0, 2800.0),
}


@dataclass(frozen=True, slots=True)
class Window:
    """A centre c and a width w in units of the modality (HU in CT), and the function that reads them."""

    center: float
    width: float
    function: str = "LINEAR"

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise InputError(f"VOI LUT Function {self.function!r} is none of {', '.join(FUNCTIONS)}")
        is_wide = self.width >= 1 if self.function == "LINEAR" else self.width > 0
        if not (isfinite(self.center) and isfinite(self.width) and is_wide):
            what = f"{self.function} window of centre {self.center:g} and width {self.width:g} is not possible"
            raise InputError(what)

    def unit(self, x: np.ndarray) -> np.ndarray:
        """`x` to [0, 1] by the function.

        LINEAR        (x − (c − 0.5)) / (w − 1) + 0.5, clipped; a step after c − 0.5 if w = 1
        LINEAR_EXACT  (x − c) / w + 0.5, clipped
        SIGMOID       1 / (1 + exp(−4 (x − c) / w)), which reaches neither 0 nor 1

        Source: PS3.3 C.11.2.1.2.1, C.11.2.1.3.2, C.11.2.1.3.1.
        """
        if self.function == "SIGMOID":
            return 0.5 + 0.5 * np.tanh(2 * (x - self.center) / self.width)  # the same curve; exp would overflow
        if self.function == "LINEAR_EXACT":
            return np.clip((x - self.center) / self.width + 0.5, 0, 1)
        if self.width == 1:
            return np.where(x > self.center - 0.5, 1.0, 0.0)
        return np.clip((x - (self.center - 0.5)) / (self.width - 1) + 0.5, 0, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A look-up table: `entries[0]` belongs to the input `first`; inputs before and after take the end entries."""

    first: int
    entries: np.ndarray  # float64 [n]
    bits: int  # of an entry; 2**bits - 1 is full scale, whether or not an entry reaches it

    def look_up(self, x: np.ndarray) -> np.ndarray:
        """The entry of each input; an input between two integers goes to the nearer, upwards from a half."""
        at = np.clip(np.floor(x + 0.5) - self.first, 0, len(self.entries) - 1)
        return self.entries[at.astype(np.intp)]

    def unit(self, x: np.ndarray) -> np.ndarray:
        return np.clip(self.look_up(x) / (2**self.bits - 1), 0, 1)


def stretched(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """`x` to [0, 1] between two values, clipped; 0.5 where they are equal, which inverts to itself."""
    if low == high:
        return np.full(x.shape, 0.5)
    return np.clip((x - low) / (high - low), 0, 1)


def eight_bits(unit: np.ndarray) -> np.ndarray:
    """[0, 1] to uint8: floor(255 u + 1/2).

    255 u is first cut to 9 decimals, so that float noise never decides a half: u and 1 − (1 − u) agree.
    """
    return np.floor(np.round(255 * unit, 9) + 0.5).astype(np.uint8)
