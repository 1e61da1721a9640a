from dataclasses import replace

import pytest

from schemas.protocols.base import decided
from schemas.protocols.fovea import FOVEA
from schemas.protocols.majority import majority_answers, majority_guess, majority_verdict
from schemas.protocols.registry import PROTOCOLS
from schemas.records import Question
from tests.doubles import question

CHOICE = Question(
    "q1", "medxpertqa", "test", ("i",), "Which?", "Rubella", "choice", options=("Measles", "Rubella", "Scurvy")
)
TRAIN = [
    question(answer="no"),
    question(answer="yes"),
    question(answer="no"),
    question(question="Which side?", answer="right"),
    question(question="Which side?", answer="left"),
    question(question="What is it?", answer="yes"),
    question(question="What is it?", answer="yes"),
]


@pytest.mark.parametrize(
    ("asked", "guess"),
    [
        ("Is there a nodule?", "no"),
        ("Which side?", "left"),  # a tie: first in the alphabet
        ("What is it?", "yes"),
        ("Never asked before?", "yes"),  # the majority of all answers
    ],
)
def test_the_question_alone(asked, guess):
    for train in (TRAIN, TRAIN[::-1]):
        assert majority_guess(question(question=asked, answer="?"), majority_answers(train)) == guess


def test_nobody_knows_a_majority_without_answers():
    assert majority_answers([]) == {}
    assert majority_guess(question(), {}) == ""
    assert majority_verdict(question(), {}, FOVEA) is None


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if PROTOCOLS[name].part(CHOICE)])
def test_the_majority_answer_to_a_choice_is_read_by_every_protocol(name):
    """Some read letters alone, and majorities are texts."""
    majority = majority_answers([CHOICE])
    assert majority == {"": "Rubella", "Which?": "Rubella"}
    assert majority_guess(CHOICE, majority) == "B"
    assert majority_verdict(CHOICE, majority, PROTOCOLS[name]).is_correct is True
    assert majority_guess(CHOICE, {"": "Mumps"}) == "Mumps"
    assert majority_guess(replace(CHOICE, answer_kind="open"), majority) == "Rubella"


def test_it_is_judged_by_the_protocol_of_the_report():
    heard = []
    protocol = replace(FOVEA, rule=lambda said, question: heard.append(said) or decided(False, "none"))
    assert majority_verdict(CHOICE, majority_answers([CHOICE]), protocol).is_correct is False
    assert heard == ["B"]
