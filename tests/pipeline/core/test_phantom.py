import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.core.phantom import CROP_ONLY_TYPES, LEVELS, phantom, twin
from schemas.boxes import clamp, grow, inside, intersection, iou

ROOT = Path(__file__).parents[3]
SIZE = (448, 448)


def digest(image):
    return hashlib.sha256(image.pixels.tobytes() + repr((image.regions, image.questions)).encode()).hexdigest()


def boxes(image, *provenances):
    return [region.box_xyxy_px for region in image.regions if region.provenance in provenances]


def first_readings(image, region):
    return [
        iou(region.box_xyxy_px, other.box_xyxy_px)
        for other in image.regions
        if other.label == region.label and other.provenance != "second-reader"
    ]


def crop_only_pairs(level, n):
    pairs = ((phantom(11, index, level), index) for index in range(n))
    return [(a, twin(11, index, level)) for a, index in pairs if a.questions[0].question_type in CROP_ONLY_TYPES]


def reduced(pixels, box=(0, 0, 448, 448)):
    crop = Image.fromarray(pixels).crop(tuple(map(int, box)))
    return np.asarray(crop.resize((112, 112), Image.Resampling.BICUBIC)).astype(int)


def changed_box(a, b):
    """The one annotated finding that holds every pixel in which the twins differ."""
    rows, columns = np.nonzero(a.pixels != b.pixels)
    x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    (box,) = (f for f in boxes(a, "finding") if f[0] <= x0 and f[1] <= y0 and x1 <= f[2] and y1 <= f[3])
    return box


@pytest.mark.parametrize("level", LEVELS)
def test_twins_are_one_at_the_policys_resolution_and_two_in_a_gold_crop(level):
    pairs = crop_only_pairs(level, 24)
    assert len(pairs) >= 12
    for a, b in pairs:
        assert np.abs(reduced(a.pixels) - reduced(b.pixels)).max() <= 3
        look = clamp(grow(changed_box(a, b), 1.0), SIZE)
        apart = np.abs(reduced(a.pixels, look) - reduced(b.pixels, look))
        assert (apart >= 15).sum() >= 100


@pytest.mark.parametrize("level", LEVELS)
def test_twins_differ_in_texture_and_answer_only(level):
    for a, b in crop_only_pairs(level, 8):
        assert a.regions == b.regions
        assert {a.questions[0].answer, b.questions[0].answer} == {"yes", "no"}
        x0, y0, x1, y1 = map(int, changed_box(a, b))
        change = (a.pixels.astype(int) - b.pixels)[y0:y1, x0:x1]
        assert abs(change.mean()) < 0.1  # zero mean
        assert 40 <= min(x1 - x0, y1 - y0) <= max(x1 - x0, y1 - y0) <= 60


def test_twin_of_a_question_that_needs_no_crop_is_refused():
    index = next(i for i in range(20) if phantom(0, i).questions[0].question_type == "side")
    with pytest.raises(ValueError, match="have twins"):
        twin(0, index)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 10**6), st.sampled_from(LEVELS), st.integers(112, 500))
def test_regions_are_whole_pixels_inside_and_at_least_four(seed, index, level, side_px):
    image = phantom(seed, index, level, side_px)
    assert image.pixels.shape == (side_px, side_px)
    assert image.pixels.dtype == np.uint8
    assert len(image.regions) >= 4
    for region in image.regions:
        assert inside(region.box_xyxy_px, (side_px, side_px))
        assert all(edge == int(edge) for edge in region.box_xyxy_px)
        assert region.label == region.label.lower()
    second = [region for region in image.regions if region.provenance == "second-reader"]
    assert all(any(0.6 <= score <= 0.9 for score in first_readings(image, region)) for region in second)
    assert not second or len(image.regions) == 4


@pytest.mark.parametrize("level", LEVELS)
def test_about_half_of_the_images_have_a_second_reader_of_two_or_three_regions(level):
    n_distinct = [
        4 - len(again) if (again := boxes(image, "second-reader")) else 0
        for image in (phantom(5, index, level, 112) for index in range(150))
    ]
    assert 50 <= sum(n > 0 for n in n_distinct) <= 85
    assert set(n_distinct) == ({0, 3} if level == "L3" else {0, 2, 3})


@pytest.mark.parametrize("level", LEVELS)
def test_distractors_come_small_and_large_and_small_ones_keep_their_distance(level):
    shorter = []
    for index in range(40):
        image = phantom(2, index, level)
        for box in boxes(image, "distractor"):
            shorter.append(min(box[2] - box[0], box[3] - box[1]))
            if shorter[-1] < 60:
                look = grow(box, 1.0)
                assert not any(intersection(look, finding) for finding in boxes(image, "finding"))
    assert all(20 <= side <= 40 or 100 <= side <= 160 for side in shorter)
    assert min(shorter) < 40 < max(shorter)


def test_answers_hold_in_the_regions():
    seen = set()
    for level in LEVELS:
        for index in range(60):
            image = phantom(9, index, level, 112)
            (question,) = image.questions
            found = [region for region in image.regions if region.provenance == "finding"]
            side = {region.label: "left" if sum(region.box_xyxy_px[::2]) < 112 else "right" for region in found}
            match question.question_type:
                case "side":
                    assert side[found[0].label] == question.answer
                case "presence":
                    assert any(region.label in question.text for region in found) == (question.answer == "yes")
                case "kind" if level == "L1":
                    assert [region.label for region in found] == [question.answer]
                case "count":
                    assert sum(region.label == "nodule" for region in found) == int(question.answer)
                case "larger":
                    nodules = [region.box_xyxy_px for region in found if region.label == "nodule"]
                    left, right = sorted(nodules)
                    assert (left[2] - left[0] > right[2] - right[0]) == (question.answer == "left")
            seen.add(question.question_type)
    assert seen == {"pattern", "margin", "side", "presence", "kind", "count", "larger"}


def test_findings_spread_over_both_lungs_and_outshine_them():
    centres = []
    for index in range(120):
        image = phantom(4, index)
        for region in image.regions:
            if region.provenance == "finding" and region.label in ("nodule", "consolidation"):
                x0, y0, x1, y1 = map(int, region.box_xyxy_px)
                centres.append(((x0 + x1) / 2, (y0 + y1) / 2))
                middle = image.pixels[(y0 + y1) // 2 - 6 :, (x0 + x1) // 2 - 6 :][:12, :12].mean()
                assert middle > 105  # air is 50 to 90, ribs included
    columns, rows = np.array(centres).T
    assert 0.4 < (columns < 224).mean() < 0.6
    for lung in (columns < 224, columns >= 224):
        assert np.ptp(columns[lung]) > 60
        assert np.ptp(rows[lung]) > 180


def test_same_bytes_in_a_fresh_interpreter():
    code = (
        "import sys; sys.path.insert(0, 'tests/pipeline/core')\n"
        "from test_phantom import digest; from pipeline.core.phantom import phantom\n"
        "print(digest(phantom(3, 5, 'L2')))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True, text=True).stdout
    assert printed.strip() == digest(phantom(3, 5, "L2"))


def test_every_part_of_the_key_matters():
    base = phantom(0, 0, "L1", 112)
    for other in (phantom(1, 0, "L1", 112), phantom(0, 1, "L1", 112), phantom(0, 0, "hard", 112)):
        assert digest(other) != digest(base)


def test_records_are_pinned():
    """Boxes and wording are the same on every machine; drawn bytes only on one kind of machine."""
    image = phantom(0, 0)
    assert (image.questions[0].text, image.questions[0].answer) == ("Is the consolidation striped?", "no")
    assert sorted((region.label, *map(int, region.box_xyxy_px)) for region in image.regions) == [
        ("clip", 336, 301, 364, 328),
        ("consolidation", 101, 263, 144, 321),
        ("heart", 196, 236, 333, 358),
        ("hilum", 121, 143, 228, 258),
        ("hilum", 229, 115, 335, 233),
        ("rib crossing", 363, 211, 395, 250),
    ]


def test_boxes_scale_with_the_image():
    small, large = phantom(8, 2, "L3", 448), phantom(8, 2, "L3", 896)
    assert small.questions == large.questions
    for a, b in zip(small.regions, large.regions, strict=True):
        if a.provenance != "second-reader":
            assert tuple(2 * edge for edge in a.box_xyxy_px) == b.box_xyxy_px


def test_an_image_too_small_for_its_distractors_is_refused():
    with pytest.raises(ValueError, match="side_px"):
        phantom(0, 0, side_px=111)
