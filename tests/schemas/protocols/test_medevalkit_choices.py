"""MedEvalKit's choices: read by letter or by likeness, and MMMU's as MMMU reads them."""

import pytest

from schemas.protocols.medevalkit import FIXED, PROTOCOL
from schemas.protocols.medevalkit_rules import chosen
from schemas.protocols.mmmu_official import RANDOM
from tests.schemas.protocols.asking import SCANS, asked, choice

LETTERED = ("omnimedvqa", "medxpertqa")


@pytest.mark.parametrize(
    ("response", "is_right", "is_right_pmc"),
    [
        ("B", True, True),
        ("b", True, True),
        ("B.", True, True),
        ("B. MRI", True, True),
        ("(B)", True, True),  # by likeness alone: the one choice that has a b
        ("mri", True, True),
        ("This is an MRI scan.", False, False),  # most like "CT scan"
        ("The answer is B", True, True),
        ("answer: b", True, True),
        ("Option: B", True, True),
        (r"Surely \boxed{B}", True, True),
        ("<answer>B</answer>", True, True),
        ("B\n\nIt shows soft tissue.", True, True),
        ("It shows soft tissue.\n\nB. MRI", True, True),
        ("C", False, False),
        ("ultrasound", False, False),
        ("C is wrong, so B", False, False),
        ("Not CT: a CT scan would show C:b", True, True),  # what stands after the last colon
        ("A CT scan, I say a CT scan\n\nB. yes", True, True),  # the last paragraph, up to its full stop
        ("Option B", True, False),
        ("<answer>B</answer> \\boxed{C}", True, False),  # PMC-VQA's answers are not freed from tags first
    ],
)
def test_choices(response, is_right, is_right_pmc):
    for source in LETTERED:
        assert PROTOCOL.judge(response, choice(source)).is_correct is is_right
    assert PROTOCOL.judge(response, choice("pmc-vqa")).is_correct is is_right_pmc


def test_an_empty_answer_is_option_a_until_mended():
    for source in (*LETTERED, "pmc-vqa"):
        for gold, is_right in (("CT scan", True), ("MRI", False)):
            verdict = PROTOCOL.judge("", choice(source, gold))
            assert (verdict.is_correct, verdict.rule) == (is_right, "first")
            assert FIXED.judge("", choice(source, gold)).is_correct is False
    assert FIXED.judge("B", choice("pmc-vqa")).is_correct is True


def test_choices_are_compared_as_the_model_saw_them():
    """The word "Option" is nearer to "A. …" forms; PMC-VQA's raw choices carry blanks and colons."""
    lettered = [f"{letter}. {text}" for letter, text in zip("ABCD", SCANS, strict=True)]
    raw = [f" {letter}:{text} " for letter, text in zip("ABCD", SCANS, strict=True)]
    assert chosen(lettered, "Option B") == ("b", "similar")
    assert chosen(raw, "Option B") == ("a", "similar")


def test_an_unclosed_box_is_compared_as_a_lower_none():
    """ "None" shares two letters with the first choice, "none" three."""
    choices = ["A. Liver Cancer, Kidney Cancer", "B. Enlarged"]
    assert chosen(choices, r"\boxed{Enlarged") == ("a", "similar")


@pytest.mark.parametrize(("source", "letter"), [("omnimedvqa", "C"), ("medxpertqa", "A"), ("pmc-vqa", "A")])
def test_of_equal_options_one_letter_counts(source, letter):
    question = choice(source, "left", ("left", "right", "left"))
    right = [said for said in "ABC" if PROTOCOL.judge(said, question).is_correct]
    assert right == [letter]


@pytest.mark.parametrize(
    ("response", "is_right", "is_random"),
    [
        ("B", True, False),
        ("(B)", True, False),
        ("B. MRI", False, True),
        ("B) MRI", False, True),
        ("b", False, True),
        (r"\boxed{B}", True, False),
        (r"\boxed{B", False, True),  # read as the word None
        ("<answer>B</answer>", True, False),
        ("<answer>\\boxed{B}</answer>", True, False),
        ("A or B", True, False),
        ("B\n", True, False),
        ("", False, True),
    ],
)
def test_mmmu_choices(response, is_right, is_random):
    for protocol in (PROTOCOL, FIXED):
        verdict = protocol.judge(response, choice("mmmu"))
        assert (verdict.is_correct, verdict.fallback) == (is_right, RANDOM if is_random else None)


@pytest.mark.parametrize(("gold", "response"), [("12.5", "12.5"), ("aorta", "aorta"), ("C", "C"), ("0.5", "It is 0.5")])
def test_an_open_mmmu_answer_is_never_right_until_mended(gold, response):
    question = asked("mmmu", gold)
    assert PROTOCOL.judge(response, question).is_correct is False
    assert FIXED.judge(response, question).is_correct is True
