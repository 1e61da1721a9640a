"""MedEvalKit's open and closed answers: what its commit 9b12e3b3 says, and what the mended form says instead."""

import pytest

from schemas.protocols.medevalkit import FIXED, PROTOCOL, RAISES
from tests.schemas.protocols.asking import asked


@pytest.mark.parametrize(
    ("gold", "response", "is_right", "is_right_fixed"),
    [
        ("yes", "Yes", True, True),
        ("no", "No.", True, True),
        ("no", "The bones look normal.", True, False),  # "no" inside normal
        ("no", "unknown", True, False),
        ("yes", "Yes, an abnormal heart.", False, True),  # yes, and "no" inside abnormal
        ("yes", "yes and no", False, False),
        ("yes", "The eyes are open.", True, False),  # "yes" inside eyes
        ("no", "Therefore the final answer is no", True, True),
        ("yes", r"So \boxed{Yes}", True, True),
        ("no", r"\boxed{yes} or rather \boxed{no}", True, True),  # the last box
        ("yes", r"\boxed{yes", False, False),  # an unclosed box reads "None"
        ("yes", "<think>no</think><answer>yes</answer>", True, True),
        ("yes", "", False, False),
        (" YES ", "yes", True, True),
    ],
)
@pytest.mark.parametrize("source", ["vqa-rad", "path-vqa"])
def test_yes_and_no(source, gold, response, is_right, is_right_fixed):
    question = asked(source, gold)
    for protocol, wanted in ((PROTOCOL, is_right), (FIXED, is_right_fixed)):
        verdict = protocol.judge(response, question)
        assert (verdict.is_correct, verdict.score, verdict.fallback) == (wanted, float(wanted), None)
        assert (verdict.rule, protocol.part_of(question)) == ("judgement", "closed")


@pytest.mark.parametrize(
    ("gold", "response", "is_right", "is_right_fixed"),
    [
        ("MRI", "mri", True, True),
        ("MRI", "It is an MRI", False, False),
        ("right lung", "right lung.", False, True),  # the full stop stays
        ("right lung", "The answer is right lung", False, True),  # so does the blank after the lead
        ("right lung", "The answer is:right lung", False, False),
        ("right lung", "answer:right lung", True, True),
        ("right lung", "**Answer:**right lung", True, True),
        ("right lung", "**Answer**right lung", True, True),
        ("right lung", "*Answer*:right lung", True, True),
        ("right lung", "FINAL ANSWERright lung", True, True),
        ("right lung", r"I see \boxed{right lung}", True, True),
        ("right lung", r"\boxed{right {lung}}", False, False),
        ("right lung", "<answer>right</answer> <answer>lung</answer>", True, True),
        ("3", "three", False, False),
        ("X-Ray", "xray", False, False),
        ("a b", "b a", False, False),
        ("right lung", "答案:right lung", True, True),
    ],
)
def test_open_answers_are_compared_whole(gold, response, is_right, is_right_fixed):
    for question in (asked("path-vqa", gold), asked("slake", gold, answer_type="OPEN")):
        for protocol, wanted in ((PROTOCOL, is_right), (FIXED, is_right_fixed)):
            verdict = protocol.judge(response, question)
            assert (verdict.is_correct, verdict.rule, verdict.fallback) == (wanted, "open", None)


@pytest.mark.parametrize(
    ("gold", "response", "rule", "is_right", "is_right_fixed"),
    [
        ("yes", "yes, clearly", "judgement", True, True),
        ("no", "nothing", "judgement", True, False),
        ("Yes", "yes", "exact", True, True),
        ("Yes", "Yes, clearly", "exact", False, True),  # a capital makes it a phrase
        ("No", "no.", "exact", True, True),
        ("Liver", "liver.", "exact", True, True),
        ("Liver", "liver\n", "exact", True, True),
        ("Liver", "The liver", "exact", False, False),
        ("Liver", " liver", "exact", False, True),
        ("是", "是", "exact", True, True),
        ("Liver", "", "exact", False, False),
    ],
)
def test_slake_is_closed_where_it_says_so(gold, response, rule, is_right, is_right_fixed):
    question = asked("slake", gold, answer_type="CLOSED")
    verdict = PROTOCOL.judge(response, question)
    assert (verdict.is_correct, verdict.rule) == (is_right, rule)
    assert FIXED.judge(response, question).is_correct is is_right_fixed
    assert PROTOCOL.part_of(question) == "closed"


@pytest.mark.parametrize("response", ["", ".", "...", "   ", "\n", r"\boxed{}", "the answer is"])
def test_an_answer_that_the_harness_breaks_on_is_wrong_and_counted(response):
    for question in (asked("vqa-rad", "lung"), asked("slake", "lung", answer_type="OPEN")):
        verdict = PROTOCOL.judge(response, question)
        assert (verdict.is_correct, verdict.fallback, verdict.also) == (False, RAISES, ())
        mended = FIXED.judge(response, question)
        assert (mended.is_correct, mended.fallback) == (False, None)


def test_an_unclosed_box_is_the_word_none_and_breaks_nothing():
    verdict = PROTOCOL.judge("boxed", asked("vqa-rad", "lung"))
    assert (verdict.is_correct, verdict.fallback) == (False, None)


def test_the_overlap_is_printed_under_wrong_names():
    """Two of the three words said are gold, out of two: precision 2/3, recall 1, F1 0.8."""
    question = asked("vqa-rad", "right lung")
    assert dict(PROTOCOL.judge("the right lung", question).also) == {
        "precision": pytest.approx(0.8),
        "recall": pytest.approx(2 / 3),
        "f1": 1.0,
    }
    assert dict(FIXED.judge("the right lung", question).also) == {
        "precision": pytest.approx(2 / 3),
        "recall": 1.0,
        "f1": pytest.approx(0.8),
    }
