"""A tiny model that was trained to point, served by the `hf` expert through a search, finds what it should find."""

from dataclasses import dataclass
from itertools import islice
from math import sqrt

import numpy as np
import pytest
from PIL import Image

from pipeline.adapters.experts.registry import make_expert
from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem
from pipeline.core.search import search
from schemas.boxes import Box, grow, iou
from schemas.experts import Ask, Drill
from tests.doubles import question
from tests.pipeline.adapters.experts.tiny_seer import CROP_PX, HELD_OUT, VIEW_PX, finding, phantoms

N, N_RANDOM = 96, 400
IOU_MIN = 0.3


@dataclass(frozen=True, slots=True)
class Case:
    truth: Box
    boxes: tuple[Box, ...]  # of the model


@pytest.fixture(scope="module")
def expert(seer):
    settings = {"path": str(seer), "prompts": str(seer / "prompts.toml"), "view_px": VIEW_PX, "crop_px": CROP_PX}
    settings |= {"dtype": "float32", "device": "cpu", "max_tokens": 64, "scan_confidence": "tokens", "batch": 16}
    made = make_expert("hf", settings)
    yield made
    made.close()


@pytest.fixture(scope="module")
def held_out():
    return list(islice(phantoms(HELD_OUT), N))


@pytest.fixture(scope="module")
def cases(expert, held_out) -> list[Case]:
    """What the scans of a search found, as its calls record it."""
    items = [
        SearchItem(
            question(f"q{index}", image_ids=(f"i{index}",), question=drawn.questions[0].text),
            (SearchImage(f"i{index}", (VIEW_PX, VIEW_PX), lambda drawn=drawn: Image.fromarray(drawn.pixels)),),
        )
        for index, drawn in held_out
    ]
    found = search(items, expert, SearchConfig(), source="phantom", seed=0)
    assert {each.question_id for each in found.trajectories} == {item.question.question_id for item in items}
    scans = {call.question_id: call.candidates for call in found.calls if call.mode == "scan"}
    return [
        Case(finding(drawn).box_xyxy_px, tuple(box for box, _, _ in scans[f"q{index}"])) for index, drawn in held_out
    ]


def hits(boxes, truth: Box) -> bool:
    return any(iou(box, truth) >= IOU_MIN for box in boxes)


def moved(boxes, rng) -> list[Box]:
    """The same number of boxes of the same sides, anywhere in the image."""
    at = [(rng.uniform(0, VIEW_PX - x1 + x0), rng.uniform(0, VIEW_PX - y1 + y0)) for x0, y0, x1, y1 in boxes]
    return [(x, y, x + b[2] - b[0], y + b[3] - b[1]) for (x, y), b in zip(at, boxes, strict=True)]


def standard_errors(gains: np.ndarray) -> float:
    """Of the mean of paired differences: how many it lies above 0."""
    return gains.mean() / (gains.std(ddof=1) / sqrt(len(gains)))


def test_recall_is_above_that_of_random_boxes_of_the_same_area(cases):
    rng = np.random.default_rng(0)
    own = np.array([hits(case.boxes, case.truth) for case in cases], float)
    chance = [np.mean([hits(moved(case.boxes, rng), case.truth) for _ in range(N_RANDOM)]) for case in cases]
    assert sum(bool(case.boxes) for case in cases) > 0.9 * N
    assert np.mean(chance) < 0.15
    assert standard_errors(own - chance) > 2


def test_it_looks_at_the_image_and_does_not_only_know_where_findings_are(cases):
    """Against what it said of the other images, which has the same places, sizes and numbers of boxes."""
    own = np.array([hits(case.boxes, case.truth) for case in cases], float)
    others = [np.mean([hits(other.boxes, case.truth) for other in cases if other is not case]) for case in cases]
    assert standard_errors(own - others) > 2


def test_a_drill_is_surer_where_a_finding_is(expert, held_out):
    """Area under the ROC curve of its confidence, finding against a place across the image."""

    def drill(drawn, box: Box) -> Ask:
        return Ask(question(), "i", Image.fromarray(drawn.pixels), Drill(box, finding(drawn).label, grow(box, 0.5), 1))

    def across(box: Box) -> Box:
        return VIEW_PX - box[2], box[1], VIEW_PX - box[0], box[3]

    there = expert.answer([drill(drawn, finding(drawn).box_xyxy_px) for _, drawn in held_out])
    away = expert.answer([drill(drawn, across(finding(drawn).box_xyxy_px)) for _, drawn in held_out])
    sure, unsure = (np.array([each.candidates[0].confidence for each in answers]) for answers in (there, away))
    assert np.mean(sure[:, None] > unsure) > 0.8
