"""The contract over one model: requests checked, masks made boxes and scores, answers checked before they leave.

Any object with the shape of `Model` can be served: MedPLIB (`medplib_model`), or a stand-in in a test. Score of a
region: mean mask probability inside × predicted IoU clipped to [0, 1]. A pixel belongs to the mask above probability
0.1, as in MedPLIB's own evaluation. An answer that breaks the contract is an error, never sent.

MedPLIB's environment runs this file: Python 3.10, numpy, Pillow.
"""

import base64
import hashlib
import io
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from pipeline.adapters.experts.masks import encoded, mask_of, parts_of
from pipeline.adapters.experts.medplib_contract import CONTRACT, breach, from_unit, text_problem, to_unit

MASK_ABOVE = 0.1
RULES = {"score": "mean probability x predicted iou", "mask_above": MASK_ABOVE, "connectivity": 8}
PIXELS_MAX = 1 << 25


class Drawn(NamedTuple):
    """`shares` [height, width] of the image: probability of each pixel; None where the model wrote no <SEG>."""

    text: str
    shares: np.ndarray | None = None
    predicted_iou: float = 0.0


class Spoken(NamedTuple):
    text: str
    p_yes: float
    p_no: float


class Model(Protocol):
    name: str
    settings: dict[str, Any]

    def draw(self, image: Image.Image, text: str) -> Drawn:
        """The first mask for a request, greedily; `image` is RGB."""

    def speak(self, image: Image.Image, text: str, region: np.ndarray | None) -> Spoken:
        """The reply to a question, and how likely its first word is yes or no; `region` bool [height, width]."""


class Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass
class Service:
    """The contract over one model; one request at a time reaches it."""

    model: Model
    weights: dict[str, str] = field(default_factory=dict)  # file of the model -> sha256

    def __post_init__(self) -> None:
        self.settings = {**RULES, **self.model.settings}
        self.revision = revision_of(self.model.name, self.weights, self.settings)
        self._lock = threading.Lock()

    def respond(self, name: str, content: bytes) -> tuple[int, bytes]:
        """(status, JSON) for a request; no error escapes but those that end a process."""
        try:
            return 200, json.dumps(self.answer(name, content), allow_nan=False).encode()
        except Refused as refused:
            return refused.status, error_body(str(refused))
        except Exception as error:  # whatever a model raises is the answer to one request
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            return 500, error_body(type(error).__name__)

    def answer(self, name: str, content: bytes) -> dict[str, Any]:
        rules: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "scan": self._scan,
            "drill": self._drill,
            "answer": self._answer,
        }
        if name == "health":
            return self._health()
        if name not in rules:
            raise Refused(404, "the paths are /v1/scan, /v1/drill, /v1/answer and /v1/health")
        body = _request(name, content)
        told = {**rules[name](body), "revision": self.revision}
        if broken := breach(f"{name}_answer", told):
            raise ValueError(f"the model's answer is none: {broken}")
        return told

    def _health(self) -> dict[str, Any]:
        about = {"contract": CONTRACT, "model": self.model.name, "revision": self.revision}
        return {**about, "weights": self.weights, "settings": self.settings}

    def _scan(self, body: dict[str, Any]) -> dict[str, Any]:
        image = _image(body)
        _check(body["query"], with_region=False)
        with self._lock:
            drawn = self.model.draw(image, body["query"])
        regions = [] if drawn.shares is None else regions_of(drawn, image.size, body["max_regions"])
        return {"regions": regions, "raw_text": drawn.text, "seg_emitted": drawn.shares is not None}

    def _drill(self, body: dict[str, Any]) -> dict[str, Any]:
        spoken, seconds = self._spoken(body)
        return {
            "p_yes": float(spoken.p_yes),
            "p_no": float(spoken.p_no),
            "text": spoken.text,
            "latency_ms": seconds * 1e3,
        }

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"text": self._spoken(body)[0].text}

    def _spoken(self, body: dict[str, Any]) -> tuple[Spoken, float]:
        image = _image(body)
        box = body.get("box_xyxy_norm")
        _check(body["question"], with_region=box is not None)
        region = None if box is None else _region(box, image.size)
        with self._lock:
            started_s = time.monotonic()
            return self.model.speak(image, body["question"], region), time.monotonic() - started_s


def regions_of(drawn: Drawn, size: tuple[int, int], regions_max: int) -> list[dict[str, Any]]:
    """The best-scored components of a mask, of equals the first; ValueError for probabilities that are none."""
    shares = np.asarray(drawn.shares, np.float64)
    if shares.shape != size[::-1] or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"no probabilities for an image of {size[0]} x {size[1]}")
    if not np.isfinite(drawn.predicted_iou):
        raise ValueError(f"a predicted IoU of {drawn.predicted_iou}")
    parts = parts_of(shares > MASK_ABOVE)
    iou = min(max(float(drawn.predicted_iou), 0.0), 1.0)  # a linear layer predicts it: nothing else bounds it
    scores = [mean * iou for mean in parts.means(shares)]
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[:regions_max]
    return [
        {
            "box_xyxy_norm": list(to_unit(parts.boxes_xyxy_px[index], size)),
            "area": parts.areas_px[index],
            "score": min(scores[index], 1.0),
            "mask_rle": encoded(parts.mask(index + 1)),
        }
        for index in best
    ]


def revision_of(name: str, weights: dict[str, str], settings: dict[str, Any]) -> str:
    """16 hexadecimal digits of everything that changes an answer."""
    told = json.dumps([CONTRACT, name, weights, settings], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _request(name: str, content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise Refused(400, "the request is no JSON") from None
    if broken := breach(f"{name}_request", body):
        raise Refused(422, str(broken))
    return body


def _image(body: dict[str, Any]) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(base64.b64decode(body["image_b64"], validate=True)), formats=("PNG", "JPEG"))
        if image.mode not in ("L", "RGB") or image.width * image.height > PIXELS_MAX:
            raise Refused(422, f"image_b64 is {image.mode} of {image.width} x {image.height}")
        return image.convert("RGB")
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError):
        raise Refused(422, "image_b64 is no picture that can be read") from None


def _check(text: str, *, with_region: bool) -> None:
    if why := text_problem(text, with_region=with_region):
        raise Refused(422, f"the text {why}")


def _region(box_xyxy_norm: list[float], size: tuple[int, int]) -> np.ndarray:
    try:
        return mask_of(from_unit(tuple(box_xyxy_norm), size), size)
    except ValueError:
        raise Refused(422, "box_xyxy_norm is empty or inverted") from None


def error_body(why: str) -> bytes:
    return json.dumps({"error": {"message": why}}).encode()
