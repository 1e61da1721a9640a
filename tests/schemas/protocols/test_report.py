"""A report by hand: one mean per metric and part, each beside its majority, and what was not decided."""

import pytest

from schemas.intervals import wilson
from schemas.protocols.base import Protocol, Verdict, decided
from schemas.protocols.report import Judged, numbers
from tests.doubles import question

PROTOCOL = Protocol(
    name="two",
    origin="nowhere@0",
    covers="everything",
    headline="accuracy",
    part=lambda asked: asked.answer_kind,
    rule=lambda said, asked: decided(said == asked.answer, "equal"),
    metrics={"open": "recall"},
    groups={"": ("part", "modality")},
)


def judged(name: str, verdict: Verdict, majority: Verdict | None = None, kind: str = "closed") -> Judged:
    return Judged(question(name, image_ids=(name,), answer_kind=kind), verdict, majority)


def test_a_report_by_hand():
    right, wrong = decided(True, "equal"), decided(False, "equal", "would have guessed")
    half = Verdict(0.5, None, "words", also=(("precision", 0.25),))
    found = numbers([judged("a", right, wrong), judged("b", wrong, right), judged("c", half, kind="open")], PROTOCOL)
    assert (found["protocol"], found["protocol_origin"], found["headline"]) == ("two", "nowhere@0", "accuracy")
    assert found["overall"] == {"n": 3, "accuracy": None, "interval_95": None, "majority": None}  # of two metrics
    assert found["by_part"]["closed"] == {"n": 2, "accuracy": 0.5, "interval_95": wilson(0.5, 2), "majority": 0.5}
    opened = found["by_part"]["open"]
    assert (opened["n"], opened["recall"], opened["majority"]) == (1, 0.5, None)
    assert opened["also"] == {"precision": 0.25}
    assert (found["n_fallback"], found["fallbacks"]) == (1, {"would have guessed": ["b"]})


def test_modalities_are_those_of_the_images():
    right = decided(True, "equal")
    found = numbers([judged("a", right), judged("b", right), judged("c", right)], PROTOCOL, {"a": "ct", "b": "mri"})
    assert {name: one["n"] for name, one in found["by_modality"].items()} == {"None": 1, "ct": 1, "mri": 1}


def test_nothing_measured_is_no_number():
    found = numbers([], PROTOCOL)["overall"]
    assert found == {"n": 0, "accuracy": None, "interval_95": None, "majority": None}
    assert judged("a", Verdict(0.5, None, "words")).is_correct is None


@pytest.mark.parametrize("share", [0, 1, 2])
def test_an_extra_number_of_some_answers_counts_as_0_in_the_others(share):
    with_it = Verdict(1.0, None, "words", also=(("precision", 1.0),))
    results = [judged(str(index), with_it if index < share else decided(True, "equal")) for index in range(2)]
    assert numbers(results, PROTOCOL)["overall"].get("also") == ({"precision": share / 2} if share else None)
