"""A call is named by all that its expert could be told, and by nothing else."""

from dataclasses import replace

import pytest

from schemas.experts import ASKED, GOLD, as_asked
from schemas.records import Question, Region
from tests.doubles import question

FILED = {
    "source",
    "split",
    "source_split",
    "patient_key",
    "phrase_type",
}  # where a question is kept, what is noted of it
OTHERS = {
    "question_id": "q9",
    "image_ids": ("image1",),
    "question": "Is there a mass?",
    "answer": "no",
    "answer_kind": "open",
    "answer_type": "OPEN",
    "options": ("a", "b"),
    "question_type": "size",
    "language": "zh",
    "regions": (Region((1.0, 2.0, 3.0, 4.5), "mass", "drawn"),),
    "source": "other",
    "split": "test",
    "source_split": "test",
    "patient_key": "p",
    "phrase_type": "freeform",
}


def test_every_field_of_a_question_is_asked_gold_or_filed():
    assert sorted([*ASKED, *GOLD, *FILED]) == sorted(Question.__dataclass_fields__) == sorted(OTHERS)


@pytest.mark.parametrize("privileged", [False, True])
def test_another_question_is_another_call_and_the_same_one_filed_elsewhere_is_not(privileged):
    one = question()
    changed = {
        name
        for name, value in OTHERS.items()
        if as_asked(replace(one, **{name: value}), privileged=privileged) != as_asked(one, privileged=privileged)
    }
    assert changed == {*ASKED, *(GOLD if privileged else ())}
