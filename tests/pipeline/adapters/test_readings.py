"""Confidence by the declared rule, one rule per answer, and a failure where the rule has nothing to go by."""

import json
import math

import pytest

from pipeline.adapters.experts.grounding import Frame
from pipeline.adapters.experts.readings import Reading, drill_answer, scan_answer
from pipeline.adapters.experts.token_odds import Said, Token
from schemas.experts import Candidate, Drill, Failure, Seen

UNIT = Frame("unit", (10, 10), (100, 100))
DRILL = Drill((10.0, 10.0, 30.0, 30.0), "spot", (0.0, 0.0, 50.0, 50.0), 1)


def scan(boxes: list[dict], reading: Reading | None = None, *, share: float | None = None) -> Seen | Failure:
    """`share`: probability of every character, each a token."""
    text = json.dumps(boxes)
    tokens = None if share is None else tuple(Token(char, math.log(share)) for char in text)
    return scan_answer(Said(text, tokens), UNIT, reading or Reading())


def box(x1: float, **more: object) -> dict:
    return {"bbox_2d": [0, 0, x1, 1], "label": f"to {x1}", **more}


@pytest.mark.parametrize(
    ("boxes", "reading", "share", "rule", "confidences"),
    [
        ([box(0.5, confidence=0.4), box(1, confidence=0.8)], Reading(), 0.9, "stated", [0.4, 0.8]),
        ([box(0.5, confidence=0.4), box(1)], Reading(), 0.9, "tokens", [0.9, 0.9]),  # one rule for all
        ([box(0.5, confidence=0.4)], Reading(scan="tokens"), 0.9, "tokens", [0.9]),
        ([box(0.5, confidence=0.4)], Reading(scan="tokens", prior=0.5), None, "prior", [0.5]),  # stated is not a prior
        ([box(0.5), box(1)], Reading(prior=0.5), None, "prior", [0.5, 0.5]),
        ([], Reading(), None, "stated", []),
    ],
)
def test_one_rule_gives_every_confidence_of_a_scan(boxes, reading, share, rule, confidences):
    seen = scan(boxes, reading, share=share)
    assert [each.confidence for each in seen.candidates] == pytest.approx(confidences)
    assert json.loads(seen.raw) == {"rule": rule, "said": json.dumps(boxes)}
    assert seen.text == (", ".join(each["label"] for each in boxes) or "nothing found")


def test_without_numbers_no_confidence_is_made_up():
    failure = scan([box(0.5)])
    assert (failure.error_class, json.loads(failure.raw)["rule"]) == ("no_confidence", "prior")


def test_log_probabilities_that_are_none_give_no_confidence():
    text = json.dumps([box(0.5)])
    told = scan_answer(Said(text, tuple(Token(char, math.nan) for char in text)), UNIT, Reading())
    assert told.error_class == "no_confidence"


def test_what_was_dropped_is_told_and_a_scan_of_dropped_boxes_is_no_empty_scan():
    seen = scan([box(0.5, confidence=0.4), box(7, confidence=0.4)])
    assert len(seen.candidates) == 1
    assert json.loads(seen.raw)["dropped"] == {"out_of_frame": 1}
    failure = scan([box(7, confidence=0.4), box(math.nan, confidence=0.4)])
    assert (failure.error_class, failure.message) == ("no_usable_box", "every box is not_finite or out_of_frame")
    assert json.loads(failure.raw)["dropped"] == {"out_of_frame": 1, "not_finite": 1}


def test_a_drill_is_the_share_of_yes():
    tokens = (Token("Yes", math.log(0.6), (("Yes", math.log(0.6)), ("No", math.log(0.2)))), Token(". A spot.", -0.1))
    seen = drill_answer(Said("Yes. A spot.", tokens), DRILL, Reading())
    assert seen.candidates == (Candidate(DRILL.box_xyxy_px, "spot", pytest.approx(0.75)),)
    assert seen.text == "Yes. A spot."
    raw = json.loads(seen.raw)
    assert (raw["rule"], raw["p_yes"], raw["p_no"]) == ("logprobs", pytest.approx(0.6), pytest.approx(0.2))


@pytest.mark.parametrize(
    ("said", "error_class"),
    [
        (Said("Yes"), "no_logprobs"),
        (Said("Perhaps", (Token("Perhaps", -0.1),)), "no_yes_or_no"),
        (Said("Yes", (Token("Yes", math.nan),)), "nan"),
    ],
)
def test_a_drill_without_odds_is_a_failure(said, error_class):
    failure = drill_answer(said, DRILL, Reading())
    assert (failure.error_class, json.loads(failure.raw)) == (error_class, {"said": said.text})


@pytest.mark.parametrize(
    ("text", "confidence"),
    [
        ('{"finding": "a\\nspot", "probability": 0.3}', 0.3),
        ('```json\n{"finding": "a spot", "probability": 1}\n```', 1.0),
        ('{"finding": "a spot", "probability": 30}', None),
        ('{"finding": "a spot", "probability": NaN}', None),
        ('{"finding": "a spot"}', None),
        ("Yes", None),
    ],
)
def test_a_stated_probability_only_where_it_is_asked_for(text, confidence):
    told = drill_answer(Said(text), DRILL, Reading(drill="stated"))
    if confidence is None:
        assert told.error_class == "no_confidence"
    else:
        assert (told.candidates[0].confidence, told.text) == (confidence, "a spot")
        assert json.loads(told.raw)["rule"] == "stated"


@pytest.mark.parametrize(
    "wrong", [{"scan": "x"}, {"drill": "prior"}, {"prior": 1.5}, {"prior": True}, {"boxes_max": 0}]
)
def test_a_reading_is_checked(wrong):
    with pytest.raises(ValueError):
        Reading(**wrong)
