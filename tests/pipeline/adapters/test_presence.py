"""Templates ask about what is labelled, in balance, and about nothing else."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.sources.presence import presence_questions, presence_text

NAMES = tuple("ABCDEFGHIJKLMN")
FINDINGS = st.lists(st.sampled_from(NAMES), unique=True)


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        ("Cardiomegaly", "Is there cardiomegaly?"),
        ("Pleural_Thickening", "Is there pleural thickening?"),
        ("Mass", "Is there a mass?"),
        ("Effusion", "Is there an effusion?"),
        ("Nodule/Mass", "Is there a nodule or mass?"),
        ("ILD", "Is there ILD?"),
        ("Support Devices", "Are there support devices?"),
    ],
)
def test_wording(finding, text):
    assert presence_text(finding) == text


@settings(deadline=None, max_examples=60)
@given(FINDINGS, st.integers(0, 14), st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1000)))
def test_all_present_and_as_many_absent(chosen, n_present, how_often):
    present, absent = chosen[:n_present], chosen[n_present:]
    asked = presence_questions("set", "image", present, absent, how_often)
    assert [one.key for one in asked if one.answer == "yes"] == present
    no = [one.key for one in asked if one.answer == "no"]
    assert no == [finding for finding in absent if finding in no]  # explicitly absent, in the order given
    assert len(no) == min(len(absent), max(1, len(present)))
    assert asked == presence_questions("set", "image", present, absent, how_often)


def test_labels_that_name_nothing_are_not_asked_about():
    assert presence_questions("s", "i", ["No Finding", "Pleural Other", "Other lesion"], ["No Finding"], {}) == ()


def test_absent_findings_are_drawn_as_often_as_they_occur():
    how_often = {"A": 799, "B": 199, "C": 0}
    drawn = Counter(presence_questions("s", str(n), [], ["A", "B", "C"], how_often)[0].key for n in range(2000))
    assert 0.76 < drawn["A"] / 2000 < 0.84  # 800 of 1001
    assert 0.17 < drawn["B"] / 2000 < 0.23
    assert drawn["C"] < 12


def test_another_image_and_another_source_draw_their_own():
    def draws(source):
        return [presence_questions(source, str(n), [], NAMES, {})[0].key for n in range(40)]

    assert len(set(draws("a"))) > 8
    assert draws("a") != draws("b")
