"""Boxes in what a model wrote: read as declared, dropped by rule, never repaired."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.experts.grounding import Frame, Grounding, grounded, plain
from schemas.boxes import inside
from schemas.experts import Failure

STORED = (200, 100)
FRAMES = {family: Frame(family, (100, 50), STORED) for family in ("absolute", "thousand", "unit")}
UNIT = FRAMES["unit"]


def one(box: object, **more: object) -> str:
    return json.dumps([{"bbox_2d": box, "label": "spot", **more}])


@pytest.mark.parametrize(
    ("family", "box"),
    [("absolute", [10, 5, 50, 50]), ("thousand", [100, 100, 500, 1000]), ("unit", [0.1, 0.1, 0.5, 1])],
)
def test_a_family_says_what_the_numbers_are(family, box):
    (found,) = grounded(one(box), FRAMES[family], 8).found
    assert found.box_xyxy_px == pytest.approx((20, 10, 100, 100))


@pytest.mark.parametrize(
    "text",
    [
        '[{"bbox_2d": [0, 0, 1, 1], "label": "a"}]',
        '```json\n[{"bbox_2d": [0, 0, 1, 1], "label": "a"}]\n```',
        'Sure! Here [as asked]: {"bbox": [0, 0, 1, 1], "label": "a"}. More?',
        '{"regions": [{"box": [0, 0, 1, 1], "label": "a"}], "note": "{"}',
        '{"regions": [{"box": [0, 0, 1, 1], "label": "a"}, {"box": [0, 0, 0.5',  # cut off
        '```\n[{"bbox_2d": [0, 0, 1, 1], "label": " a\\n"}, {"bbox_2',
        "{not json} " + '{"bbox_2d": [0, 0, 1, 1], "label": "a"}',
    ],
)
def test_prose_fences_and_cut_ends_are_tolerated(text):
    told = grounded(text, UNIT, 8)
    assert [(each.box_xyxy_px, each.label) for each in told.found] == [((0, 0, 200, 100), "a")]
    start, end = told.found[0].span
    assert json.loads(text[start:end])["label"].strip() == "a"


@pytest.mark.parametrize(
    ("box", "rule"),
    [
        ([0, 0, 1.01, 1], "out_of_frame"),
        ([-0.01, 0, 1, 1], "out_of_frame"),
        ([0.5, 0, 0.5, 1], "inverted"),
        ([0.9, 0, 0.1, 1], "inverted"),
        ([math.nan, 0, 1, 1], "not_finite"),
        ([0, 0, math.inf, 1], "not_finite"),
        ([0, 0, 10**400, 1], "not_finite"),
        ([0, 0, 1], "not_four_numbers"),
        ([0, 0, 1, 1, 1], "not_four_numbers"),
        (["0", 0, 1, 1], "not_four_numbers"),
        ([True, 0, 1, 1], "not_four_numbers"),
        ("0 0 1 1", "not_four_numbers"),
        ({"x": 1}, "not_four_numbers"),
    ],
)
def test_a_bad_box_is_dropped_under_its_rule_and_the_good_one_stays(box, rule):
    good = {"bbox_2d": [0, 0, 0.5, 1], "label": "good"}
    told = grounded(json.dumps([{"bbox_2d": box, "label": "bad"}, good]), UNIT, 8)
    assert [each.label for each in told.found] == ["good"]
    assert told.dropped == {rule: 1}


def test_repetitions_and_what_is_beyond_the_limit_are_counted():
    boxes = [[0, 0, 0.1 * n, 1] for n in (1, 1, 2, 1, 3, 4)]
    text = json.dumps([{"bbox_2d": box, "label": "spot"} for box in boxes])
    told = grounded(text, UNIT, 2)
    assert [each.box_xyxy_px[2] for each in told.found] == pytest.approx([20, 40])
    assert told.dropped == {"repeated": 2, "beyond_limit": 2}


@pytest.mark.parametrize(
    ("more", "stated"),
    [({"confidence": 0.25}, 0.25), ({"score": 1}, 1.0), ({}, None), ({"confidence": 1.5}, None)]
    + [({"confidence": value}, None) for value in ("0.5", True, math.nan, 10**400, -1)],
)
def test_a_stated_confidence_is_a_number_from_0_to_1(more, stated):
    assert grounded(one([0, 0, 1, 1], **more), UNIT, 8).found[0].stated == stated


def test_a_label_is_one_line_that_any_table_holds():
    told = grounded('[{"bbox_2d": [0, 0, 1, 1], "label": "a\\ud800\\u0000 b"}, {"bbox_2d": [0, 0, 1, 0.5]}]', UNIT, 8)
    assert [each.label for each in told.found] == ["a b", "region"]
    assert plain("x" * 99, 80) == "x" * 80


@pytest.mark.parametrize("text", ["[]", "```json\n[ ]\n```", '{"regions": []}', "Nothing abnormal: []"])
def test_nothing_found_is_said_in_json(text):
    assert grounded(text, UNIT, 8) == Grounding(())


@pytest.mark.parametrize(
    ("text", "error_class"),
    [
        ("", "malformed_json"),
        ("No abnormality.", "malformed_json"),
        ('[{"bbox_2d": [0, 0', "malformed_json"),
        ('{"answer": "no"}', "no_boxes_key"),
        ('{"box_2d": [0, 0, 1, 1]}', "no_boxes_key"),  # y0 first by convention
        ("{" * 200_000, "oversized"),
        ('{"a":' * 15_000, "malformed_json"),
    ],
)
def test_words_without_boxes_are_no_answer(text, error_class):
    told = grounded(text, UNIT, 8)
    assert isinstance(told, Failure)
    assert told.error_class == error_class


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["bbox_2d", "label", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(JSON | st.lists(st.builds(lambda box: {"bbox_2d": box}, st.lists(st.floats(-1, 2), min_size=4, max_size=4))))
def test_whatever_is_written_only_boxes_in_the_image_come_out(written):
    told = grounded(json.dumps(written), UNIT, 3)
    if isinstance(told, Grounding):
        assert all(inside(each.box_xyxy_px, STORED) for each in told.found)
        assert len(told.found) <= 3
