import pytest

from schemas.protocols.mmmu_official import PROTOCOL, RANDOM, parse_choice, parse_open
from tests.schemas.protocols.asking import SCANS, asked, choice

OPTIONS = dict(zip("ABCD", SCANS, strict=True))


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("'B'", "B"),
        ("(B) MRI", "B"),
        ("(A) is wrong, (B) is right", "B"),
        ("(B), not A or C", "B"),  # brackets first
        ("A or B", "B"),  # the last one
        ("B because A shows bone", "A"),
        ("I think B", "B"),
        ("B. MRI", None),
        ("B) MRI", None),
        ("b", None),
        ("B\n", None),  # a line end is no blank
        ("MRI", None),  # texts are looked for in six words and more
        ("I am sure it is an mri", "B"),
        ("this is surely an mri", None),
        ("this is very surely an mri", "B"),
        ("either a ct scan or an mri", "B"),
        ("either an mri or a ct scan", "A"),
        ("", None),
        (". ", None),
    ],
)
def test_the_option_named_last(response, letter):
    assert parse_choice(response, OPTIONS) == letter
    verdict = PROTOCOL.judge(response, choice("mmmu"))
    assert (verdict.is_correct, verdict.fallback) == (letter == "B", None if letter else RANDOM)


@pytest.mark.parametrize(
    ("response", "candidates"),
    [
        ("aorta", ["aorta"]),
        ("It is the Aorta.", ["the aorta"]),
        ("x\ntherefore the result is 4 mg", ["4 mg", 4.0]),
        ("so it is 1,200", [1200.0, 200.0]),
        ("= 2", [2.0]),
        ("x = 2\nis yes", ["yes"]),  # an equation counts in the last line only
        ("1e3", [1000.0, 3.0]),
        ("it is 1e3 mg", ["1e3 mg", 1000.0, 3.0]),
        ("-1.239", [-1.24]),
        ("3.", [3.0]),
        ("C", [" c", "c "]),
        ("a is b. C is d", [" d", "d "]),  # lower case by now: the capital parts nothing
        ("", [""]),
        ("is :", ["is :"]),
        ("nan", None),
    ],
)
def test_open_candidates(response, candidates):
    found = parse_open(response)
    if candidates is None:
        assert [str(one) for one in found] == ["nan"]
    else:
        assert sorted(map(str, found)) == sorted(map(str, candidates))


@pytest.mark.parametrize(
    ("gold", "response", "is_right"),
    [
        ("aorta", "It is the Aorta.", True),
        ("the aorta", "It is aorta", False),
        ("transformation", "gene transformation", True),
        ("12.5", "The answer is 12.50 mg", True),
        ("12.5", "12.504", True),  # two decimals
        ("12.5", "12.6", False),
        ("3000", "3,000", True),
        ("['0.5', '1/2']", "one half, 1/2", True),
        ("['0.5', '1/2']", "0.5", True),
        ("[0.5", "[0.5", True),  # no list: a text
        ("C", "C", True),  # one character stands with a blank on either side
        ("C", "abc", False),
        ("C", "vitamin c is the answer", False),
        ("C", "the vitamin c dose", True),
        ("aorta", "", False),
    ],
)
def test_open_answers(gold, response, is_right):
    verdict = PROTOCOL.judge(response, asked("mmmu", gold))
    assert (verdict.is_correct, verdict.rule, verdict.fallback) == (is_right, "open", None)
