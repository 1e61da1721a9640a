"""Options, gold letters and placeholders: a stored gold always means the option it was published for."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.adapters.sources import choices, json_lines
from pipeline.adapters.sources.drafts import Problem
from schemas.answers import judge
from schemas.errors import InputError


@pytest.mark.parametrize(
    ("letter", "options", "gold"),
    [
        ("B", ("CT", "MRI"), "MRI"),
        ("A", ("T2", "T2*"), "T2"),
        ("A", ("C", "B", "A"), "A"),  # a picture's own labels: text C would be read as the letter C
        ("B", ("C", "B", "A"), "B"),
        ("A", ("(b)", "cyst"), "A"),
        ("B", ("x", "x", "A"), "B"),  # equal texts cannot be told apart by text
        ("B", ("AA", "Aa", "aa"), "B"),  # equal but for case: the judge folds it
        ("B", ("<image 1>", "<image 2>"), "B"),  # nobody answers with a placeholder
        ("B", ("?", "!"), "B"),  # nothing but marks is an empty answer to the judge
        ("J", tuple(f"finding {number}" for number in range(11)), "finding 9"),
    ],
)
def test_the_text_is_stored_where_it_can_mean_no_other_option(letter, options, gold):
    assert choices.gold_of(letter, options) == gold


@pytest.mark.parametrize("letter", ["C", "b", "", "AB", "?", "Ä"])
def test_a_letter_without_an_option_is_a_problem(letter):
    found = choices.gold_of(letter, ("CT", "MRI"))
    assert isinstance(found, Problem)
    assert found.error_class == "bad_answer"


texts = st.one_of(st.sampled_from(["A", "b", "C", "(D)", "e.", "x", "the x", "-", "<image 1>"]), st.text(min_size=1))


@settings(max_examples=100, deadline=None)
@given(options=st.lists(texts.filter(lambda text: text.strip()), min_size=2, max_size=6), data=st.data())
@example(options=["B", "A"], data=None)
@example(options=["0", "0", "A"], data=None)
def test_a_stored_gold_leads_back_to_its_letter(options, data):
    index = 1 if data is None else data.draw(st.integers(0, len(options) - 1))
    letters = "ABCDEF"[: len(options)]
    gold = choices.gold_of(letters[index], options)
    as_letter = letters.find(gold) if len(gold) == 1 else -1
    assert (as_letter if as_letter >= 0 else options.index(gold)) == index
    assert judge(letters[index], gold, "choice", options)
    if gold not in letters:
        assert not any(judge(other, gold, "choice", options) for other in letters if other != letters[index])


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ("['a', 'b']", "options are str, not a list"),
        (None, "options are NoneType, not a list"),
        ({"A": "a"}, "options are dict, not a list"),
        (["one"], "1 options"),
        ([str(number) for number in range(27)], "27 options"),
        (["a", " "], "option B is ' '"),
        (["a", ["b"]], "option B is ['b']"),
        (["a", True], "option B is True"),
    ],
)
def test_options_that_are_none(values, what):
    assert choices.options_of(values) == Problem("bad_options", what)


def test_options_keep_their_order_and_numbers_become_text():
    assert choices.options_of([" b", "a", 12, 0.5]) == ("b", "a", "12", "0.5")


def test_placeholders_are_found_and_renumbered_all_at_once():
    text = "<image 3> then <image 2>, <image 3>; not <image>, <image 0>, <image 007>, <img 1>"
    assert choices.images_named([text, "<image 7>", "nothing"]) == {2, 3, 7}
    assert choices.renumbered(text, {2: 1, 3: 2}).startswith(
        "<image 2> then <image 1>, <image 2>; not <image>, <image 0>"
    )


def test_a_line_that_is_no_json_is_a_problem_of_its_own(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"a": "\u2028"}, ensure_ascii=False).encode(), b"", b"{", b"\xff", b"[" * 100_000, b" 3 "]
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    found = dict(json_lines.rows(path))
    assert found[0] == {"a": "\u2028"}
    assert found[5] == 3
    assert {number: row.error_class for number, row in found.items() if isinstance(row, Problem)} == {
        2: "malformed_row",
        3: "malformed_row",
        4: "malformed_row",
    }
    assert found[2].message.startswith("line 3 is no JSON")


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(InputError, match="not a readable file"):
        list(json_lines.rows(tmp_path / "none.jsonl"))
