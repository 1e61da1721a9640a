"""The reference server on loopback with a stand-in for MedPLIB, and one that misbehaves on demand.

The stand-in looks at pixels: its mask is what is brighter than most, its yes how bright the region is. `odd`: what
happens to requests whose text holds some words; what ends in `once` is over after the first time.
"""

import json
import math
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from pipeline.adapters.experts.medplib_server import Server
from pipeline.adapters.experts.medplib_service import Drawn, Service, Spoken

TOO_MANY = 64


@dataclass
class StandIn:
    """`name` and `settings` make its revision."""

    name: str = "stand-in"
    settings: dict[str, Any] = field(default_factory=dict)
    seen: list[tuple[Image.Image, str, np.ndarray | None]] = field(default_factory=list)

    def draw(self, image: Image.Image, text: str) -> Drawn:
        self.seen.append((image, text, None))
        if "fall over" in text:
            raise MemoryError("of this card")
        grey = np.asarray(image.convert("L"), np.float64)
        if grey.min() == grey.max():
            return Drawn("There is nothing to see.")
        return Drawn("It is <SEG>.", np.clip((grey - np.median(grey)) / 160, 0, 1), 0.9)

    def speak(self, image: Image.Image, text: str, region: np.ndarray | None) -> Spoken:
        self.seen.append((image, text, region))
        grey = np.asarray(image.convert("L"), np.float64)
        yes = float(grey[region].mean() if region is not None else grey.mean()) / 255
        return Spoken("Yes, it is bright." if yes >= 0.5 else "No.", 0.9 * yes, 0.9 * (1 - yes))


def _region(change: dict[str, Any]) -> Callable[[dict], dict]:
    return lambda reply: {**reply, "regions": [{**each, **change} for each in reply["regions"]]}


def _rle(change: dict[str, Any]) -> Callable[[dict], dict]:
    def changed(reply: dict) -> dict:
        return {**reply, "regions": [{**each, "mask_rle": {**each["mask_rle"], **change}} for each in reply["regions"]]}

    return changed


def _empty(reply: dict) -> dict:
    height, width = reply["regions"][0]["mask_rle"]["size"]
    return _rle({"counts": [height * width]})(reply)


def _grown(reply: dict) -> dict:
    boxes = [[0.0, *each["box_xyxy_norm"][1:]] for each in reply["regions"]]
    each = zip(reply["regions"], boxes, strict=True)
    return {**reply, "regions": [{**region, "box_xyxy_norm": box} for region, box in each]}


LIES: dict[str, Callable[[dict], Any]] = {  # of what was a good answer
    "nan_score": _region({"score": math.nan}),
    "no_score": lambda reply: {
        **reply,
        "regions": [{name: each[name] for name in ("box_xyxy_norm", "area")} for each in reply["regions"]],
    },
    "high_score": _region({"score": 1.5}),
    "nan_box": _region({"box_xyxy_norm": [0.1, math.nan, 0.5, 0.5]}),
    "out_of_frame": _region({"box_xyxy_norm": [0.1, 0.1, 1.5, 0.5]}),
    "inverted": _region({"box_xyxy_norm": [0.5, 0.1, 0.2, 0.5]}),
    "three_numbers": _region({"box_xyxy_norm": [0.5, 0.1, 0.2]}),
    "other_size": _rle({"size": [7, 9], "counts": [63]}),
    "short_rle": _rle({"counts": [1, 2, 3]}),
    "empty_mask": _empty,
    "other_box": _grown,
    "other_area": _region({"area": 1}),
    "too_many": lambda reply: {**reply, "regions": reply["regions"][:1] * TOO_MANY},
    "nothing_drawn": lambda reply: {**reply, "regions": []},
    "no_seg": lambda reply: {**reply, "seg_emitted": False},
    "extra": lambda reply: {**reply, "thoughts": "many"},
    "list": lambda reply: [reply],
    "nan_yes": lambda reply: {**reply, "p_yes": math.nan},
    "text_yes": lambda reply: {**reply, "p_yes": "0.5"},
    "both_sure": lambda reply: {**reply, "p_yes": 0.9, "p_no": 0.9},
    "unsure": lambda reply: {**reply, "p_yes": 0.04, "p_no": 0.05},
    "other_weights": lambda reply: {**reply, "revision": "another"},
}


@dataclass
class OddService(Service):
    odd: dict[str, str] = field(default_factory=dict)
    says: dict[str, Any] = field(default_factory=dict)  # of itself
    over: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, dict]] = field(default_factory=list)

    def respond(self, name: str, content: bytes) -> tuple[int, bytes]:
        body = json.loads(content or b"{}")
        self.asked.append((name, body))
        how = self._oddity(body.get("query", body.get("question", name)))
        if how == "hang":
            self.over.wait(30)
        if how in ("hang", "cut"):
            raise ConnectionAbortedError
        if how.isdigit():
            return int(how), json.dumps({"error": {"message": "boom"}}).encode()
        if how == "malformed":
            return 200, b'{"regions": ['
        if how == "huge":
            return 200, b'{"raw_text": "' + b"y" * (10 << 20) + b'"}'
        status, data = super().respond(name, content)
        told = json.loads(data)
        if name == "health":
            told |= self.says
        return status, json.dumps(LIES[how](told) if how in LIES else told).encode()

    def _oddity(self, text: str) -> str:
        with self._lock:
            for words, how in list(self.odd.items()):
                if words in text:
                    if how.endswith(" once"):
                        del self.odd[words]
                    return how.removesuffix(" once")
        return ""


@contextmanager
def serving(service: Service | None = None, key: str | None = None, **how: Any):
    """A service at its `url` until the end; `how`: fields of an `OddService` around a stand-in."""
    service = service or OddService(StandIn(), **how)
    server = Server(("127.0.0.1", 0), service, key)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield service
    finally:
        if isinstance(service, OddService):
            service.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
