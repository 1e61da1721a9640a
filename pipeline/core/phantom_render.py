"""Drawing a phantom: an anatomy and its marks, in a 448-unit frame, onto a grey image of any size.

Every mark is drawn inside the pixels of its own box and nowhere else, so the box is the truth.
Only 1-D coordinate grids are cached; two-dimensional work stays in local patches. Nothing here
chooses: positions, shapes and the noise key are given (`pipeline.core.phantom` draws the lots).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

FRAME_PX = 448  # all geometry below is in units of 1/448 of the image side
TEXTURE_PERIOD = 4.0  # four stored pixels at 448: the first zero of antialiased bicubic reduction to 112
TEXTURE_PEAK = 60.0  # grey levels of the wave's peak at the centre of a finding
NOISE_SD = 5.0

IntBox = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One body. The lungs mirror each other about `centre_x`; the heart leans to the image's right."""

    centre_x: float
    lung_y: float
    lung_rx: float
    lung_ry: float
    gap: float  # from the centre line to a lung's medial edge
    heart: tuple[float, float, float, float]  # centre x, centre y, radius x, radius y
    lung_tone: float
    tissue_tone: float
    rib_phase: float  # in [0, 1)
    rib_spacing: float
    waves: tuple[tuple[float, float, float], ...]  # mottle: cycles per frame in x and y, phase in turns


@dataclass(frozen=True, slots=True)
class Mark:
    """A finding or distractor, filling `box` (integers, frame units); `variety` in [0, 1) varies its shape."""

    kind: str
    box: IntBox
    variety: float
    texture: str = ""  # "striped", "spiculated" or none
    mirrored: bool = False  # its lateral side is the image's right


def draw(anatomy: Anatomy, marks: tuple[Mark, ...], side_px: int, noise_key: int) -> np.ndarray:
    """uint8 [side_px, side_px]; the noise depends on `noise_key` and `side_px` alone, so twins share it."""
    canvas = _body(anatomy, side_px)
    for sign in (-1, 1):
        _lung(canvas, anatomy, sign)
    _heart(canvas, anatomy)
    for mark in marks:
        x0, y0, x1, y1 = box_at(mark.box, side_px)
        _MARKS[mark.kind](canvas[y0:y1, x0:x1], mark)
        if mark.texture:
            canvas[y0:y1, x0:x1] += _texture(mark, (x0, y0, x1, y1), side_px)
    noise = np.random.Generator(np.random.Philox(noise_key)).standard_normal((side_px, side_px), np.float32)
    canvas += NOISE_SD * noise
    canvas += 0.5  # the cast truncates
    return np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)


def box_at(box: IntBox, side_px: int) -> IntBox:
    """A frame box in whole pixels of a `side_px` image, rounded half up; itself at 448."""
    x0, y0, x1, y1 = ((2 * edge * side_px + FRAME_PX) // (2 * FRAME_PX) for edge in box)
    return x0, y0, x1, y1


def lung_level(anatomy: Anatomy, sign: int, x: float | np.ndarray, y: float | np.ndarray) -> np.ndarray:
    """Positive inside the lung (`sign` −1 image left, +1 image right), 0 on its edge, about 1 deep inside.

    Scalars or broadcasting arrays, frame units: 1 − (u/w(v))² − v⁴ cut by a domed diaphragm.
    """
    v = (y - anatomy.lung_y) / anatomy.lung_ry
    width = 0.86 + 0.14 * v  # a lung is narrower at its apex
    medial = anatomy.centre_x + sign * anatomy.gap
    u = (sign * (x - medial) / anatomy.lung_rx - 1) / width
    dome = (anatomy.lung_y + anatomy.lung_ry * (0.84 + 0.15 * u * u) - y) / 60
    return np.minimum(1 - u * u - v * v * v * v, dome)


@lru_cache(maxsize=8)
def _grid(side_px: int) -> np.ndarray:
    """Pixel centres in frame units, float32 [side_px]."""
    return _frozen((np.arange(side_px) + 0.5) * (FRAME_PX / side_px))


@lru_cache(maxsize=512)
def _unit(n: int) -> np.ndarray:
    """Pixel centres of an n-pixel patch from −1 to 1, float32 [n]."""
    return _frozen((2 * np.arange(n) + 1 - n) / n)


def _frozen(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float32)
    values.setflags(write=False)
    return values


def _smooth(level: np.ndarray) -> np.ndarray:
    """Smoothstep: 0 below 0, 1 above 1, 3t² − 2t³ between."""
    t = np.clip(level, 0, 1)
    return t * t * (3 - 2 * t)


def _body(anatomy: Anatomy, side_px: int) -> np.ndarray:
    """Torso with neck and shoulders, spine and mediastinum, clavicle-high mottle; float32 [side, side]."""
    x, y = _grid(side_px), _grid(side_px)[:, None]
    from_centre = np.abs(x - anatomy.centre_x)
    half_width = 70 + 145 * _smooth((y - 8) / 75) - 10 * _smooth((y - 260) / 160)
    tissue = anatomy.tissue_tone - 14 * _smooth((y - 60) / -60) + 16 * _smooth((y - 330) / 80)
    spine = 26 * _smooth((46 - from_centre) / 34) + 6 * np.cos(y * (2 * math.pi / 26)) * _smooth((20 - from_centre) / 8)
    canvas = tissue + spine
    for cycles_x, cycles_y, phase in anatomy.waves:  # 3·cos(a + b) from 1-D parts
        a, b = x * (2 * math.pi * cycles_x / FRAME_PX), y * (2 * math.pi * cycles_y / FRAME_PX) + 2 * math.pi * phase
        canvas += 3 * np.cos(b) * np.cos(a)
        canvas -= 3 * np.sin(b) * np.sin(a)
    edge = half_width - from_centre
    edge *= 1 / 7
    canvas *= np.clip(edge, 0, 1, out=edge)
    canvas += 12
    return canvas


def _lung(canvas: np.ndarray, anatomy: Anatomy, sign: int) -> None:
    """Darkens one lung to its tone and lays posterior and anterior ribs over it."""
    near = anatomy.centre_x + sign * anatomy.gap
    far = near + sign * 2.1 * anatomy.lung_rx
    rows = _span(anatomy.lung_y - anatomy.lung_ry, anatomy.lung_y + anatomy.lung_ry, len(canvas))
    columns = _span(min(near, far), max(near, far), len(canvas))
    x, y = _grid(len(canvas))[columns], _grid(len(canvas))[rows, None]
    mask = _smooth(lung_level(anatomy, sign, x, y) * 5)
    lateral = sign * (x - near) / (2 * anatomy.lung_rx)  # 0 at the hilum, 1 at the chest wall
    patch = canvas[rows, columns]
    air = (anatomy.lung_tone - anatomy.tissue_tone) + 12 * lateral * lateral  # mottle shows through
    air = air + _ribs(y, 95 * lateral * lateral - 40 * lateral, anatomy.rib_spacing, anatomy.rib_phase, 0.30, 17)
    air += _ribs(y, 30 - 85 * lateral, 1.25 * anatomy.rib_spacing, anatomy.rib_phase, 0.22, 9)
    air *= mask
    patch += air


def _ribs(y: np.ndarray, droop: np.ndarray, spacing: float, phase: float, width: float, tone: float) -> np.ndarray:
    """Parallel bands `spacing` apart that follow `droop` across the lung, each a parabola `tone` high."""
    turns = (y - droop) * (1 / spacing) + phase
    turns -= np.floor(turns)
    turns -= 0.5
    turns *= 2 / width
    turns *= turns
    return tone * np.maximum(1 - turns, 0)


def _heart(canvas: np.ndarray, anatomy: Anatomy) -> None:
    x, y, rx, ry = anatomy.heart
    rows, columns = _span(y - ry, y + ry, len(canvas)), _span(x - rx, x + rx, len(canvas))
    u, v = (_grid(len(canvas))[columns] - x) / rx, (_grid(len(canvas))[rows, None] - y) / ry
    patch = canvas[rows, columns]
    patch += _smooth((1 - u * u - v * v) * 4) * np.maximum(anatomy.tissue_tone + 18 - patch, 0)


def _span(low: float, high: float, side_px: int) -> slice:
    scale = side_px / FRAME_PX
    return slice(max(0, math.floor(low * scale)), min(side_px, math.ceil(high * scale)))


def _uv(patch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = patch.shape
    return _unit(width), _unit(height)[:, None]


def _nodule(patch: np.ndarray, mark: Mark) -> None:
    u, v = _uv(patch)
    patch += 70 * _smooth((1 - np.sqrt(u * u + v * v)) / 0.30)


def _consolidation(patch: np.ndarray, mark: Mark) -> None:
    """Two merged ovals, softer and a little darker than a nodule."""
    u, v = _uv(patch)
    shift = 0.5 * mark.variety - 0.25
    tall, wide = ((u - shift) / 0.75) ** 2 + v * v, u * u + ((v + shift) / 0.75) ** 2
    patch += 60 * _smooth((1 - np.sqrt(np.minimum(tall, wide))) / 0.36)


def _effusion(patch: np.ndarray, mark: Mark) -> None:
    """Fluid under a meniscus that climbs towards the chest wall, as bright as tissue."""
    u, v = _uv(patch)
    lateral = (u if mark.mirrored else -u) * 0.5 + 0.5
    level = 0.3 - 1.3 * lateral * lateral  # v of the surface: low at the medial end, the box top at the wall
    patch += _smooth((v - level) / 0.25) * np.maximum(158 - patch, 0)


def _pneumothorax(patch: np.ndarray, mark: Mark) -> None:
    """A thin pleural line; beyond it, towards the wall, air without lung markings."""
    u, v = _uv(patch)
    lateral = u if mark.mirrored else -u
    half = (1 - v) / 2
    beyond = lateral - (1.45 * np.sqrt(1 - half * half) - 1)
    patch -= 26 * _smooth(beyond / 0.15) * _smooth((1 - np.abs(lateral)) / 0.2) * _smooth((1 - np.abs(v)) / 0.2)
    patch += 50 * np.maximum(1 - np.abs(beyond) / 0.09, 0)


def _hilum(patch: np.ndarray, mark: Mark) -> None:
    """Vessels fanning out of a core."""
    u, v = _uv(patch)
    fade = np.maximum(1 - u * u - v * v, 0)
    angle = np.arctan2(v, u)
    vessels = np.maximum(np.cos(7 * angle + 2 * math.pi * mark.variety), 0) ** 2
    patch += fade * (16 + 26 * vessels * (1 - fade * fade)) + 14 * _smooth((fade - 0.55) / 0.4)


def _rib_crossing(patch: np.ndarray, mark: Mark) -> None:
    u, v = _uv(patch)
    fade = _smooth((1 - np.maximum(np.abs(u), np.abs(v))) / 0.3)
    lean = 0.6 + 0.5 * mark.variety
    bars = np.maximum(1 - np.abs(v - lean * u) / 0.4, 0) + np.maximum(1 - np.abs(v + lean * u) / 0.4, 0)
    patch += 30 * fade * bars


def _clip(patch: np.ndarray, mark: Mark) -> None:
    """Two metal prongs joined at one end."""
    u, v = _uv(patch)
    prongs = np.maximum(1 - np.abs(np.abs(v) - 0.45 * (u + 1)) / 0.3, 0)
    patch += 95 * np.minimum(prongs * 1.5, 1) * _smooth((1 - np.abs(u)) / 0.2) * _smooth((1 - np.abs(v)) / 0.1)


_MARKS: dict[str, Callable[[np.ndarray, Mark], None]] = {
    "nodule": _nodule,
    "consolidation": _consolidation,
    "effusion": _effusion,
    "pneumothorax": _pneumothorax,
    "hilum": _hilum,
    "rib crossing": _rib_crossing,
    "clip": _clip,
}


def _texture(mark: Mark, box_px: IntBox, side_px: int) -> np.ndarray:
    """Zero-mean texture inside the finding; none where the image is too coarse to hold its period."""
    x0, y0, x1, y1 = box_px
    if TEXTURE_PERIOD * side_px < 2 * FRAME_PX:
        return np.zeros((y1 - y0, x1 - x0), np.float32)
    u, v = _unit(x1 - x0), _unit(y1 - y0)[:, None]
    radius = np.minimum(np.sqrt(u * u + v * v), 1)
    if mark.texture == "striped":
        window = (1 - radius**3) ** 3  # tricube: an abrupt edge would survive the reduction
        return TEXTURE_PEAK * window * np.sin(_grid(side_px)[y0:y1, None] * (2 * math.pi / TEXTURE_PERIOD))
    diameter = 0.9 * (mark.box[2] - mark.box[0])  # where spicules are one period apart, near the rim
    ring = _smooth((1 - radius) / 0.40) * _smooth((radius - 0.35) / 0.35)
    return 1.4 * TEXTURE_PEAK * ring * np.cos(math.ceil(math.pi * diameter / TEXTURE_PERIOD) * np.arctan2(v, u))
