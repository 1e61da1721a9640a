"""The `hf` expert shows and asks what the `openai` expert shows and asks, and reads the same reply alike."""

import base64
import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from pipeline.adapters.experts.hf_model import Reply
from pipeline.adapters.experts.registry import make_expert
from pipeline.adapters.experts.token_odds import Said, Token
from schemas.experts import Ask, Drill, Scan
from tests.doubles import question
from tests.pipeline.adapters.experts.tiny_families import make_family
from tests.pipeline.vision_server import serving

VIEWS = {"view_px": 280, "crop_px": 112, "coordinates": "absolute", "boxes_max": 3}
BOXES = json.dumps([{"bbox_2d": [20, 30, 90, 80], "label": "spot", "confidence": 0.7}])


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Echo:
    """Stands for the loaded model: keeps what it is shown, says boxes to a scan and yes to a drill."""

    def __init__(self):
        self.shown = []

    def say(self, shown, max_tokens, *, wants_top):
        self.shown += shown
        sure = Token("yes", math.log(0.6), (("yes", math.log(0.6)), ("no", math.log(0.2))))
        said = Said("yes", (sure,)) if wants_top else Said(BOXES, (Token(BOXES, 0.0),))
        return [Reply(said, 1, 1) for _ in shown]


@pytest.fixture
def asks():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 500), dtype=np.uint8)
    text, image = question(question="Is there a nodule?"), Image.fromarray(pixels)
    look = Drill((100.0, 50.0, 160.0, 90.0), "nodule", (70.0, 30.0, 190.0, 110.0), 1)
    return [Ask(text, "i", image, Scan()), Ask(text, "i", image, look)]


@pytest.fixture
def local(tmp_path):
    made = make_expert("hf", {"path": str(make_family("qwen2_5_vl", tmp_path / "model")), "check": False} | VIEWS)
    made.__dict__["_model"] = Echo()
    return made


def remote(asks):
    """(picture, prompt) as they reach a server."""
    with serving() as model:
        made = make_expert("openai", {"url": model.url, "model": "seer", "check": False, "concurrency": 1} | VIEWS)
        made.answer(asks)
        made.close()
    for _, body in model.requests:
        picture, prompt = body["messages"][0]["content"]
        data = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
        yield Image.open(io.BytesIO(data)), prompt["text"]


def test_pictures_and_prompts_are_those_of_the_openai_expert(local, asks):
    local.answer(asks)
    sent = list(remote(asks))
    assert len(sent) == len(local._model.shown) == 2
    for (picture, prompt), (other, told) in zip(local._model.shown, sent, strict=True):
        assert prompt == told
        assert np.array_equal(np.asarray(picture), np.asarray(other))
    assert "280 wide and 168 high" in local._model.shown[0][1]
    assert "marked as: nodule" in local._model.shown[1][1]


def test_replies_are_read_by_the_same_rules(local, asks):
    scan, drill = local.answer(asks)
    assert [edge for each in scan.candidates for edge in each.box_xyxy_px] == pytest.approx(
        [20 * 500 / 280, 30 * 300 / 168, 90 * 500 / 280, 80 * 300 / 168]
    )
    assert [(each.label, each.confidence) for each in scan.candidates] == [("spot", 0.7)]
    assert json.loads(scan.raw)["rule"] == "stated"
    assert drill.candidates[0].confidence == pytest.approx(0.6 / 0.8)
    assert drill.candidates[0].box_xyxy_px == asks[1].query.box_xyxy_px
