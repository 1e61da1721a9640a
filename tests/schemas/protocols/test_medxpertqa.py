import pytest

from schemas.protocols.medxpertqa import PROTOCOL, parse
from tests.schemas.protocols.asking import choice

OPTIONS = ("Measles", "Rubella", "Mumps", "Scurvy", "Rickets")


def test_the_i_of_a_phrase_is_no_option():
    assert [parse(said, 10) for said in ("I understand. B", "I see. B", "A through J: B")] == ["B", "I", "B"]


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B. Rubella", "B"),
        ("b", None),
        ("Rubella", None),
        ("F", None),
        ("BC", None),
        ("A rash like this is B", "A"),  # the article is an option
        ("A rash. The answer is B.", "B"),
        ("A rash. The answer is B, though the answer is C", "B"),  # up to the second trigger
        ("A rash. Therefore, among A through E, the answer is (C)", "C"),
        ("So the answer is D. Therefore, among A through E, the answer is B", "B"),
        ("Therefore, among A through D, the answer is B", "B"),  # by " answer is "
        ("Among A through E: C", "C"),
        ("I understand. B", "B"),
        ("answer is", None),
        ("", None),
    ],
)
def test_the_first_letter_after_the_trigger(response, letter):
    assert parse(response, len(OPTIONS)) == letter
    verdict = PROTOCOL.judge(response, choice("medxpertqa", "Rubella", OPTIONS))
    assert (verdict.is_correct, verdict.fallback) == (letter == "B", None)
    assert verdict.rule == ("letter" if letter else "no letter")
