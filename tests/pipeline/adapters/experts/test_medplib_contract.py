"""The schema of the contract as a table of breaches, and the frame of its boxes as a property."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.experts.medplib_contract import (
    CHECKS,
    CONTRACT,
    NOTED,
    REGION,
    SCHEMA,
    TOKENS,
    breach,
    from_unit,
    text_problem,
    to_unit,
)

MASK = {"size": [4, 5], "counts": [0, 20]}
PART = {"box_xyxy_norm": [0, 0.25, 1, 1.0], "area": 20, "score": 0.5, "mask_rle": MASK}
GOOD = {
    "health": {"contract": CONTRACT, "model": "m", "revision": "r", "uptime_s": 3},
    "scan_request": {"image_b64": "AA==", "query": "Where?", "max_regions": 8},
    "scan_answer": {"regions": [PART], "raw_text": "", "seg_emitted": True, "revision": "r"},
    "drill_request": {"image_b64": "AA==", "box_xyxy_norm": [0, 0, 1, 1], "question": REGION},
    "drill_answer": {"p_yes": 0.5, "p_no": 1, "text": "Yes.", "latency_ms": 3, "revision": "r"},
    "answer_request": {"image_b64": "AA==", "question": "What?"},
    "answer_answer": {"text": "A lung.", "revision": "r"},
}


def with_part(**changed: object) -> dict:
    return {**GOOD["scan_answer"], "regions": [PART, {**PART, **changed}]}


@pytest.mark.parametrize("message", GOOD)
def test_good_messages_are_good_and_each_field_they_need_is_needed(message):
    assert breach(message, GOOD[message]) is None
    for name in SCHEMA["$defs"][message]["required"]:
        short = {key: value for key, value in GOOD[message].items() if key != name}
        assert str(breach(message, short)) == f"{name} is missing"
        assert breach(message, {**GOOD[message], name: None}).keyword == "type"


@pytest.mark.parametrize(
    ("message", "value", "keyword", "said"),
    [
        ("scan_answer", [], "type", "the message is no object"),
        ("scan_answer", with_part(score=float("nan")), "finite", "regions[1].score is nan"),
        ("scan_answer", with_part(score=float("inf")), "finite", "regions[1].score is inf"),
        ("scan_answer", with_part(score=True), "type", "regions[1].score is no number"),
        ("scan_answer", with_part(score="0.5"), "type", "regions[1].score is no number"),
        ("scan_answer", with_part(score=10**400), "maximum", "regions[1].score is above 1"),
        ("scan_answer", with_part(score=-1e-9), "minimum", "regions[1].score is below 0"),
        ("scan_answer", with_part(area=2.5), "type", "regions[1].area is no integer"),
        ("scan_answer", with_part(area=0), "minimum", "regions[1].area is below 1"),
        ("scan_answer", with_part(box_xyxy_norm=[0, 0, 1]), "minItems", "regions[1].box_xyxy_norm has fewer than 4"),
        ("scan_answer", with_part(box_xyxy_norm=[0, 0, 1, 2]), "maximum", "regions[1].box_xyxy_norm[3] is above 1"),
        ("scan_answer", with_part(mask_rle={"size": [4, 5]}), "required", "regions[1].mask_rle.counts is missing"),
        ("scan_answer", with_part(mask_rle={**MASK, "counts": [-1]}), "minimum", "counts[0] is below 0"),
        ("scan_answer", with_part(colour="red"), "additionalProperties", "regions[1].colour is not in the contract"),
        ("scan_answer", {**GOOD["scan_answer"], "\ud800": 1}, "additionalProperties", "\\ud800 is not in"),
        ("scan_answer", {**GOOD["scan_answer"], "regions": [PART] * 65}, "maxItems", "regions has more than 64"),
        ("scan_answer", {**GOOD["scan_answer"], "seg_emitted": 1}, "type", "seg_emitted is no boolean"),
        ("drill_answer", {**GOOD["drill_answer"], "latency_ms": -1}, "minimum", "latency_ms is below 0"),
        ("drill_request", {**GOOD["drill_request"], "question": ""}, "minLength", "question has fewer than 1"),
        ("scan_request", {**GOOD["scan_request"], "max_regions": 65}, "maximum", "max_regions is above 64"),
        ("health", {**GOOD["health"], "revision": "r" * 101}, "maxLength", "revision has more than 100"),
    ],
)
def test_a_breach_says_where_and_why(message, value, keyword, said):
    found = breach(message, value)
    assert found.keyword == keyword
    assert said in str(found)


def test_every_keyword_of_the_schema_is_checked():
    """An unknown one would be believed kept."""

    def walk(schema: dict) -> None:
        assert set(schema) <= set(CHECKS) | NOTED | {"type", "$ref"}
        assert schema.get("additionalProperties", False) is False
        inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
        for each in [*inner, *([schema["items"]] if "items" in schema else [])]:
            assert ("type" in each) != ("$ref" in each)
            walk(each)

    walk(SCHEMA)
    assert {name.rpartition("_")[0] for name in GOOD} - {""} == {"scan", "drill", "answer"}


@pytest.mark.parametrize(
    ("text", "with_region", "why"),
    [
        ("Where is the liver?", False, None),
        ("Is x < 3 and <b> bold?", False, None),
        (f"Is {REGION} bright?", True, None),
        ("Is it bright?", True, "0 times, not 1"),
        (f"Is {REGION} bright?", False, "1 times, not 0"),
        (f"{REGION} or {REGION}?", True, "2 times"),
        ("Is <region>(1, 2)</region> bright?", False, "<region>, </region>, which"),
        (f"{REGION} <image>", True, "<image>"),
        ("locate it <SEG>", False, "<SEG>"),
    ],
)
def test_what_a_text_may_hold(text, with_region, why):
    found = text_problem(text, with_region=with_region)
    assert (found is None) if why is None else (why in found)


@pytest.mark.parametrize("token", TOKENS)
def test_no_token_of_the_model_passes(token):
    assert text_problem(f"a{token}b", with_region=False)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whole_pixels_come_back_from_fractions(data):
    size = data.draw(st.tuples(st.integers(1, 3000), st.integers(1, 3000)))
    x, y = (sorted(data.draw(st.sets(st.integers(0, side), min_size=2, max_size=2))) for side in size)
    box = (x[0], y[0], x[1], y[1])
    unit = to_unit(box, size)
    assert all(0 <= edge <= 1 for edge in unit)
    assert from_unit(json.loads(json.dumps(unit)), size) == pytest.approx(box, abs=1e-9)
