"""Promises of the judge over any texts: it never raises, never says two things, and form changes nothing."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.answers import ANSWER_CHARS_MAX, judge, normalise

promised = settings(max_examples=200, deadline=None)

texts = st.text(max_size=20) | st.lists(
    st.sampled_from(
        ["a", "the", "yes", "no", "是", "x-ray", "one", "(", ")", '"', "**", "B", "mass", ".", ",", "-", "\ud800", "A:"]
    ),
    max_size=5,
).map(" ".join)
kinds = st.sampled_from(["closed", "open", "choice"])
options = st.lists(texts, max_size=5)


@promised
@given(gold=texts, kind=kinds, given_options=options)
@example(gold="the yes", kind="closed", given_options=[])
def test_the_gold_answer_is_right_unless_it_is_empty(gold, kind, given_options):
    assert judge(gold, gold, kind, given_options) is bool(normalise(gold))


@promised
@given(response=texts, gold=texts, kind=kinds, given_options=options)
@example(response="A" * (ANSWER_CHARS_MAX + 1), gold="A", kind="choice", given_options=["x"])
def test_judging_never_raises(response, gold, kind, given_options):
    assert judge(response, gold, kind, given_options) in (True, False)


@promised
@given(response=texts, gold=texts, kind=kinds, given_options=options, ending=st.sampled_from([".", "!", "?", ";", ":"]))
def test_blanks_and_a_last_mark_change_nothing(response, gold, kind, given_options, ending):
    before = judge(response, gold, kind, given_options)
    assert judge(f" \t{response} \n", gold, kind, given_options) is before
    assert judge(response + ending, gold, kind, given_options) is before
    assert judge(response, f"{gold} {ending} ", kind, given_options) is before


ascii_words = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@promised
@given(response=ascii_words, gold=ascii_words, kind=kinds, given_options=options)
@example(response="b) mri", gold="B", kind="choice", given_options=["CT", "MRI"])
def test_case_changes_nothing(response, gold, kind, given_options):
    before = judge(response, gold, kind, given_options)
    assert judge(response.upper(), gold, kind, given_options) is before
    assert judge(response, gold.upper(), kind, given_options) is before


@promised
@given(response=texts | st.sampled_from(["A", "(b)", "option c", "b) mass"]), given_options=options)
@example(response="A A", given_options=["", "A"])  # the article, then the letter of one option and the text of another
def test_no_response_is_right_for_two_different_options(response, given_options):
    letters = "ABCDE"[: len(given_options)]
    different = {normalise(option) or letter: letter for letter, option in zip(letters, given_options, strict=True)}
    assert sum(judge(response, letter, "choice", given_options) for letter in different.values()) <= 1


@promised
@given(response=texts)
def test_no_response_says_both_yes_and_no(response):
    assert not (judge(response, "yes", "closed") and judge(response, "no", "closed"))


@promised
@given(words=st.lists(st.sampled_from("abnormal normal not know cannot nodule eyes yesterday none north".split())))
def test_yes_and_no_are_never_found_inside_words(words):
    assert not judge(" ".join(words), "yes", "closed")
    assert not judge(" ".join(words), "no", "closed")


@pytest.mark.parametrize("mark", ["(", ")", '"', "*", "<", " ", "-", "a ", "the ", "x", "no "])
def test_a_megabyte_is_no_answer(mark):
    assert not judge(mark * 1_000_000, "no", "closed")
    assert not judge(mark * (ANSWER_CHARS_MAX // len(mark)), "yes", "choice", ["yes", "no"])
