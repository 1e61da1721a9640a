import pytest

from schemas.protocols.vlmevalkit import ASKS, PROTOCOL, infer
from tests.schemas.protocols.asking import SCANS, asked, choice

OPTIONS = dict(zip("ABCD", SCANS, strict=True))


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("(B) MRI", "B"),
        ("B) MRI", "B"),
        ("**B**", "B"),
        ("Option B", "B"),
        ("b", None),
        ("A or B", None),
        ("B is what I would say to this", None),  # too far from the end
        ("B is a fair guess", None),
        ("B is fair enough", "B"),
        ("To be sure, the correct answer is **B** as one can see", "B"),
        ("the answer is b as one can plainly see here", "B"),  # in any case there
        ("the answer is E", None),  # no such option
        ("mri.", "B"),
        ("It is an MRI scan.", "B"),
        ("a ct scan or an mri", None),
        ("An MRI, " + "as one can see in the picture, " * 2 + "I believe", None),  # over twice all options
        ("I can't process this file.", "Z"),
        ("Cannot determine the answer: B", "Z"),
        ("Z", "Z"),
        ("Failed to obtain answer via API: B", None),
        ("<answer>B</answer>", None),
        ("", None),
    ],
)
def test_the_option_inferred(response, letter):
    assert infer(response, OPTIONS) == letter
    for source in ("mmmu", "medxpertqa", "omnimedvqa"):
        verdict = PROTOCOL.judge(response, choice(source))
        assert (verdict.is_correct, verdict.fallback) == (letter == "B", None if letter else ASKS)


def test_a_letter_that_no_option_has_is_not_inferred():
    assert infer("the answer is D as one can plainly see here", {"A": "CT scan", "B": "MRI"}) is None


def test_blanks_count_in_the_length_of_a_response():
    """All options together have 25 characters."""
    for n_blanks, is_right in ((47, True), (48, False)):
        assert PROTOCOL.judge("mri" + " " * n_blanks, choice("mmmu")).is_correct is is_right


@pytest.mark.parametrize(
    ("gold", "response", "is_right"),
    [
        ("aorta", "A", True),
        ("aorta", "the aorta", True),
        ("aorta", "B", False),
        ("aorta", "Other answers", False),
        ("aorta", "vein", False),
        ("B", "B", True),  # the letter is the key, and names "Other Answers"
        ("B", "A", False),
        ("C", "C", False),  # nothing can be inferred that is C
    ],
)
def test_an_open_question_becomes_two_choices(gold, response, is_right):
    assert PROTOCOL.judge(response, asked("mmmu", gold)).is_correct is is_right
