"""Promises of the grammar over texts that meet its borders: round trips, refusals, cleaned words."""

import json
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.grammar import (
    COORDINATE_MAX,
    MEDEYES,
    REASONING_CHARS_MAX,
    RULES,
    TURN_CHARS_MAX,
    ZOOM,
    Answer,
    Look,
    Malformed,
    clean_reasoning,
    parse,
    render,
)

TAGS = ("reasoning", "action", "answer", "feedback", "think", "tool_call", "tool_response")
PIECES = [f"<{slash}{tag}>" for tag in TAGS for slash in ("", "/")] + ["<|im_end|>", "<", ">", "</", "|", "{", "}"]

WHOLE = [render(Look("r", (1, 2, 3, 4)), dialect) for dialect in (MEDEYES, ZOOM)] + [
    render(Answer("r", "yes"), MEDEYES)
]

coordinates = st.integers(-COORDINATE_MAX, COORDINATE_MAX)
wire_boxes = st.tuples(coordinates, coordinates, coordinates, coordinates)
# Tags and halves of tags among ordinary words, so that the strategies meet the borders of the grammar.
texts = st.lists(st.one_of(st.text(max_size=8), st.sampled_from([*PIECES, "answer>", "/answer", " "])), max_size=6).map(
    "".join
)
dialects = st.sampled_from([MEDEYES, ZOOM])
turns = st.one_of(
    st.builds(Look, texts, wire_boxes, st.none() | texts, st.none() | st.integers(-1, COORDINATE_MAX + 2)),
    st.builds(Answer, texts, texts),
)
promised = settings(max_examples=200, deadline=None)


def gaze(body: str) -> str:
    return f"<reasoning>r</reasoning><action>{body}</action>"


@promised
@given(turn=turns, dialect=dialects)
@example(turn=Look("a <", (0, 0, 1, 1), '"\\'), dialect=ZOOM)
@example(turn=Answer("</reasoning", "<"), dialect=MEDEYES)
def test_what_is_rendered_parses_to_the_same_turn(turn, dialect):
    try:
        text = render(turn, dialect)
    except ValueError:
        return  # which turns are refused is the next tests' business
    assert parse(text, dialect) == turn
    assert text.encode()  # can be tokenised


@promised
@given(
    words=st.text(st.characters(codec="utf-8", exclude_characters="<"), max_size=40),
    answer=st.text(st.characters(codec="utf-8", exclude_characters="<", exclude_categories=["Z", "C"]), min_size=1),
    box=wire_boxes,
    image=st.none() | st.integers(1, 99),
    dialect=dialects,
)
def test_all_text_without_tags_can_be_rendered(words, answer, box, image, dialect):
    look = Look(words, box, words if dialect is ZOOM else None, image)
    assert parse(render(look, dialect), dialect) == look
    assert parse(render(Answer(words, answer), dialect), dialect) == Answer(words, answer)


@pytest.mark.parametrize(
    ("turn", "dialect"),
    [
        (Answer("r", ""), MEDEYES),
        (Answer("so <answer>", "yes"), MEDEYES),
        (Answer("r", "</answer>"), ZOOM),
        (Answer("r", "a<|im_start|>b"), ZOOM),
        (Answer("</THINK>", "yes"), MEDEYES),  # a tag of the other dialect
        (Answer("\udfff", "yes"), MEDEYES),
        (Answer("r" * TURN_CHARS_MAX, "yes"), MEDEYES),
        (Look("r", (1, 2, 3, 4), "lung"), MEDEYES),  # nowhere to write a label
        (Look("r", (1, 2, 3, 4), "<feedback>"), ZOOM),
        (Look("r", (1, 2, 3, COORDINATE_MAX + 1)), ZOOM),
        (Look("r", (1, 2, 3, True)), ZOOM),
        (Look("r", (1.0, 2, 3, 4)), MEDEYES),
        (Look("r", (1, 2, 3)), MEDEYES),
        (Look("r", (1, 2, 3, 4), image=0), MEDEYES),
        (Look("r", (1, 2, 3, 4), image=True), ZOOM),
        (Look("r", (1, 2, 3, 4), image=10**9), MEDEYES),  # read as one beyond any image
    ],
)
def test_what_would_not_parse_back_is_not_rendered(turn, dialect):
    with pytest.raises(ValueError, match=f"dialect {dialect.name}"):
        render(turn, dialect)


@promised
@given(
    text=st.one_of(
        texts,
        st.lists(st.sampled_from([*PIECES, *WHOLE, '{"name": "Gaze"', "[1", "\ud800"])).map("".join),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["name", "coordinate", "x"]), inner),
            max_leaves=8,
        ).map(lambda value: gaze(json.dumps(value))),
    ),
    dialect=dialects,
)
def test_parse_never_raises_and_says_what_is_wrong_without_repeating_it(text, dialect):
    turn = parse(text, dialect)
    if isinstance(turn, Malformed):
        assert turn.rule in RULES
        assert clean_reasoning(turn.message) == turn.message  # no tags: it goes into the feedback
        assert turn.message.endswith(".")
    else:
        assert parse(render(turn, dialect), dialect) == turn


@pytest.mark.parametrize("unit", ["<", "</", "<|", "<|a", "<reasoning", "<reasoning>", "[", "{", '"', "\\", " ", "x"])
def test_megabytes_are_refused_and_cleaned(unit):
    text = unit * (1_000_000 // len(unit))
    assert parse(text, MEDEYES).rule == "length"
    assert parse(gaze(text[:12_000]), MEDEYES).rule in RULES
    assert len(clean_reasoning(text)) <= REASONING_CHARS_MAX


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("  a\n\tnodule \u00a0 here ", "a nodule here"),
        ("see <answer>yes</answer>.", "see yes ."),
        ("<rea<answer>soning>", "<rea soning>"),  # no tag may close up out of the halves around another
        ("end<|im_end|>\x00\x1b[0m", "end [0m"),
        ("pneumo\u00adtho\u200brax", "pneumothorax"),
        ("<rea\u200bsoning>x", "x"),  # hidden by a zero-width mark
        ("a\ud800b", "a b"),
        ("3 < 5 and <b>bold</b>", "3 < 5 and <b>bold</b>"),
        ("a" * (REASONING_CHARS_MAX - 1) + " b", "a" * (REASONING_CHARS_MAX - 1)),
    ],
)
def test_clean_reasoning(text, cleaned):
    assert clean_reasoning(text) == cleaned


@promised
@given(text=texts | st.text(string.printable + "\ud800\u200b<>|/"), box=wire_boxes, dialect=dialects)
def test_clean_words_can_always_be_rendered(text, box, dialect):
    words = clean_reasoning(text)
    assert clean_reasoning(words) == words
    look = Look(words, box, words if dialect is ZOOM else None)
    assert parse(render(look, dialect), dialect) == look


def test_the_longest_clean_words_fit_as_reasoning_and_label_together():
    words = clean_reasoning('"' * 9_000)  # each becomes two characters in JSON
    assert len(words) == REASONING_CHARS_MAX
    look = Look(words, (0, 0, 1, 1), words)
    assert parse(render(look, ZOOM), ZOOM) == look
