import math

import pytest

from pipeline.adapters.experts.token_odds import Odds, Said, Token, are_sound, geometric_mean, spoken, yes_no


def said(*tokens: tuple, text: str | None = None) -> Said:
    made = tuple(
        Token(written, math.log(share), tuple((other, math.log(p)) for other, p in top))
        for written, share, top in tokens
    )
    return Said("".join(token.text for token in made) if text is None else text, made)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([("Yes", 0.6, [("Yes", 0.6), ("No", 0.2)])], Odds(0.6, 0.2)),
        ([("no", 0.5, [("no", 0.5), ("No", 0.2), (" yes", 0.1), ("YES", 0.1), ("maybe", 0.1)])], Odds(0.2, 0.7)),
        ([("▁Yes", 0.9, [("Ġno.", 0.05)])], Odds(0.9, 0.05)),  # the written token is not always among the top
        ([("\n", 0.9, [("Yes", 0.1)]), ("**", 0.9, []), ("Yes", 0.8, [("Yes", 0.8), ("No", 0.1)])], Odds(0.8, 0.1)),
        ([("No", 1.0, [("No", 1.0)])], Odds(0.0, 1.0)),
        ([("Maybe", 0.8, [("Maybe", 0.8), ("Yes", 0.06), ("No", 0.03)])], None),  # less than a tenth of the mass
        ([("There", 0.8, [("There", 0.8)]), (" no", 0.9, [(" no", 0.9)])], None),  # not the first word
        ([("\n", 0.9, [])], None),
        ([], None),
    ],
)
def test_the_first_word_is_yes_or_no(tokens, expected):
    odds = yes_no(said(*tokens))
    if expected is None:
        assert odds is None
    else:
        assert (odds.yes, odds.no) == pytest.approx((expected.yes, expected.no))


def test_the_share_is_of_yes_among_both():
    assert Odds(0.3, 0.1).share == pytest.approx(0.75)


def test_tokens_of_thoughts_and_end_marks_are_skipped():
    thoughts = [("<think>", 0.9, []), ("No", 0.9, [("No", 0.9)]), ("</think>", 0.9, [])]
    answer = [("Yes", 0.9, [("Yes", 0.9)]), (".", 0.9, []), ("<|im_end|>", 0.9, [])]
    assert spoken("<think>No</think>Yes.") == "Yes."
    assert yes_no(said(*thoughts, *answer, text="Yes.")).yes == pytest.approx(0.9)


def test_tokens_that_do_not_spell_the_text_say_nothing():
    assert yes_no(said(("Yes", 0.9, []), text="No.")) is None
    assert geometric_mean(said(("Yes", 0.9, []), text="No."), (0, 2)) is None
    assert yes_no(Said("Yes")) is None


@pytest.mark.parametrize(
    ("span", "expected"),
    [((0, 2), 0.5), ((2, 6), math.sqrt(0.25 * 0.16)), ((3, 5), math.sqrt(0.25 * 0.16)), ((0, 6), 0.02 ** (1 / 3))],
)
def test_geometric_mean_of_the_tokens_that_touch_a_span(span, expected):
    assert geometric_mean(said(("ab", 0.5, []), ("cd", 0.25, []), ("ef", 0.16, [])), span) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("logprob", "sound"),
    [(-1.0, True), (0.0, True), (-math.inf, True), (-9999.0, True), (math.nan, False), (0.5, False)],
)
def test_a_log_probability_is_a_number_not_above_0(logprob, sound):
    assert are_sound([Token("a", logprob)]) is sound
    assert are_sound([Token("a", -1.0, (("b", logprob),))]) is sound
