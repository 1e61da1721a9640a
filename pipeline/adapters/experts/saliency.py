"""The expert that has only eyes: centre-surround contrast, for any image and any question, on a CPU.

c = z / (1 + z) with the z of `contrast`. A scan looks at three scales of a small grey copy; a drill looks again inside
its crop, at the crop's own resolution, down to one octave finer, and moves the box to where the contrast is highest.
It reads neither question nor annotation, names nothing but bright and dark, and finds nothing in a flat image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.adapters.experts.contrast import Sums, contrast, suppressed, windows
from schemas.boxes import Box, centre
from schemas.experts import Ask, Candidate, Drill, ExpertIdentity, Failure, Seen
from schemas.frames import crop_box

REVISION = 1
SCALES = (1 / 16, 1 / 8, 1 / 4)  # sides of the windows of a scan, in shorter sides of the image
FINER = (1.0, math.sqrt(0.5), 0.5)  # of a drill, in sides of the region asked about
BANDS = ((2 / 3, "strong"), (1 / 2, "clear"), (0.0, "faint"))  # words by least confidence
VIA_MODE = {"HSV": "RGB", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}  # what Pillow does not turn grey in one step


@dataclass(frozen=True, slots=True)
class SaliencyExpert:
    """`work_px`: longest side of the grey copy that a scan or a drill works on; nothing is ever enlarged.

    `confidence_min`: least confidence of a scanned box; 0.2 is a difference of a quarter of the ring's deviation.
    """

    work_px: int = 256
    boxes_max: int = 8
    confidence_min: float = 0.2

    def __post_init__(self) -> None:
        if type(self.work_px) is not int or not 32 <= self.work_px <= 2048:
            raise ValueError(f"work_px must be a whole number from 32 to 2048, got {self.work_px!r}")
        if type(self.boxes_max) is not int or self.boxes_max < 1:
            raise ValueError(f"boxes_max must be a positive whole number, got {self.boxes_max!r}")
        if not isinstance(self.confidence_min, float) or not 0 < self.confidence_min < 1:
            raise ValueError(f"confidence_min must be in (0, 1), got {self.confidence_min!r}")

    @property
    def identity(self) -> ExpertIdentity:
        settings = (("boxes_max", self.boxes_max), ("confidence_min", self.confidence_min), ("work_px", self.work_px))
        return ExpertIdentity("saliency", str(REVISION), settings)

    def answer(self, asks: Sequence[Ask]) -> list[Seen | Failure]:
        images = {ask.image_id: ask.image for ask in asks}
        greys = {image_id: to_grey(image) for image_id, image in images.items()}
        return [self._answer(greys[ask.image_id], ask) for ask in asks]

    def _answer(self, grey: Image.Image, ask: Ask) -> Seen:
        return self._drill(grey, ask.query) if isinstance(ask.query, Drill) else self._scan(grey)

    def _scan(self, grey: Image.Image) -> Seen:
        view = _View.of(grey, (0, 0, *grey.size), self.work_px)
        sides = (round(min(view.sums.shape) * scale) for scale in SCALES)
        boxes = np.concatenate([windows(view.sums.shape, side, side, max(1, side // 4)) for side in sides])
        z = contrast(view.sums, boxes)
        kept = suppressed(boxes, _confidence(np.abs(z)), self.confidence_min, self.boxes_max)
        found = tuple(view.candidate(boxes[index], z[index]) for index in kept)
        return Seen(found, ", ".join(_words(each, grey.width) for each in found) or "nothing stands out")

    def _drill(self, grey: Image.Image, query: Drill) -> Seen:
        """The strongest window centred in the region asked about; where none fits or all is flat, confidence 0."""
        view = _View.of(grey, crop_box(query.look_xyxy_px, grey.size), self.work_px)
        asked = view.inward(query.box_xyxy_px)
        sizes = [(round((asked[2] - asked[0]) * part), round((asked[3] - asked[1]) * part)) for part in FINER]
        grids = [windows(view.sums.shape, w, h, max(1, min(w, h) // 8), asked) for w, h in sizes]
        boxes = np.concatenate(grids)
        z = contrast(view.sums, boxes)
        if not np.any(z):
            return Seen((Candidate(query.box_xyxy_px, query.label, 0.0),), "nothing stands out here")
        best = int(np.argmax(np.abs(z)))
        found = view.candidate(boxes[best], z[best])
        return Seen((found,), _words(found, grey.width))


@dataclass(frozen=True, slots=True)
class _View:
    """A block of the image at working resolution, and the way back to pixels of the stored image."""

    sums: Sums
    origin_px: tuple[int, int]
    scale: tuple[float, float]  # stored pixels per working pixel

    @classmethod
    def of(cls, grey: Image.Image, block: tuple[int, int, int, int], work_px: int) -> "_View":
        width, height = block[2] - block[0], block[3] - block[1]
        shrink = min(1.0, work_px / max(width, height))
        small = max(1, round(width * shrink)), max(1, round(height * shrink))
        pixels = grey.resize(small, Image.Resampling.BOX, box=block)
        return cls(Sums.of(np.asarray(pixels)), block[:2], (width / small[0], height / small[1]))

    def inward(self, box: Box) -> Box:
        return tuple((edge - self.origin_px[i % 2]) / self.scale[i % 2] for i, edge in enumerate(box))

    def candidate(self, window: np.ndarray, z: float) -> Candidate:
        box = tuple(float(self.origin_px[i % 2] + edge * self.scale[i % 2]) for i, edge in enumerate(window))
        return Candidate(box, "bright spot" if z > 0 else "dark spot", float(_confidence(abs(z))))


def to_grey(image: Image.Image) -> Image.Image:
    """8-bit grey of any mode; more than 8 bits are stretched from their least to their greatest finite value."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_stretched(np.asarray(image, dtype=np.float64)))
    if image.mode == "LAB":
        return image.getchannel("L")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(VIA_MODE.get(image.mode, image.mode)).convert("L")


def _stretched(values: np.ndarray) -> np.ndarray:
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, dtype=np.uint8)
    low, high = values[finite].min(), values[finite].max()
    levels = (np.where(finite, values, low) - low) / (max(high - low, np.finfo(np.float64).tiny)) * 255
    return np.rint(levels).astype(np.uint8)


def _confidence(z: np.ndarray) -> np.ndarray:
    return z / (1 + z)


def _words(candidate: Candidate, width_px: int) -> str:
    """Band, label and side of the image, e.g. "clear bright spot on the left"."""
    band = next(word for least, word in BANDS if candidate.confidence >= least)
    side = "left" if centre(candidate.box_xyxy_px)[0] < width_px / 2 else "right"
    return f"{band} {candidate.label} on the {side}"
