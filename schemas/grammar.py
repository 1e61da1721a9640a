"""The two tag dialects of a written turn: one renderer and one strict parser for experts and policy alike.

    medeyes   <reasoning>…</reasoning><action>{"name": "Gaze", "coordinate": [x0, y0, x1, y1]}</action>
    zoom      <think>…</think><tool_call>{"name": "image_zoom_in_tool",
                              "arguments": {"bbox_2d": [x0, y0, x1, y1], "label": "…"}}</tool_call>
    both      … or <answer>…</answer> in place of the look

Where a question has several images, a look names its own: ``"image": 2`` beside the box, numbered as in `<image 2>`.
Text between tags is kept as it is written, blanks included, so ``parse(render(turn)) == turn``. This module judges form
only: whether a box lies in the image is `schemas.frames`' business, whether an answer is right `schemas.answers`'.
Nothing here raises on what a model wrote, and no message repeats it.
"""

import json
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.frames import WireBox

TURN_CHARS_MAX = 16_384
REASONING_CHARS_MAX = 4_096  # what `clean_reasoning` keeps; a label of this length still fits beside it
COORDINATE_MAX = 1_000_000
RULES = ("length", "text", "order", "outside", "json", "tool", "box", "image", "label", "answer")

_TAGS = ("reasoning", "action", "answer", "feedback", "think", "tool_call", "tool_response")
_TAG = re.compile(rf"</?(?:{'|'.join(_TAGS)})/?>|<\|[^\s<>|]+\|>", re.ASCII | re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANKS = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Look:
    """A request for a crop; `box` is in wire coordinates and may still be out of frame or inverted.

    `image` counts from 1 and may still be beyond the last image; None where no image is named.
    """

    reasoning: str
    box: WireBox
    label: str | None = None
    image: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    reasoning: str
    answer: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """Which of `RULES` a text breaks, and a sentence for the feedback that holds no tag and nothing of the text."""

    rule: str
    message: str


Turn = Look | Answer


@dataclass(frozen=True, slots=True)
class Dialect:
    """Names on the wire: tags of the reasoning and of the look, name of the tool, key of the box.

    With `arguments_key` the box sits one object deeper and may have a label beside it.
    """

    name: str
    reasoning_tag: str
    look_tag: str
    tool: str
    box_key: str
    arguments_key: str | None = None


MEDEYES = Dialect("medeyes", "reasoning", "action", "Gaze", "coordinate")
ZOOM = Dialect("zoom", "think", "tool_call", "image_zoom_in_tool", "bbox_2d", "arguments")
DIALECTS = {dialect.name: dialect for dialect in (MEDEYES, ZOOM)}


class _Broken(Exception):
    """Carries a `Malformed` out of the depths of a parse; never leaves this module."""

    def __init__(self, rule: str, message: str) -> None:
        self.rule, self.message = rule, message


def render(turn: Turn, dialect: Dialect) -> str:
    """The text of one turn; ValueError where it would not parse back to the same turn."""
    match turn:
        case Look(reasoning):
            tag, body = dialect.look_tag, json.dumps(_call(turn, dialect), ensure_ascii=False)
        case Answer(reasoning, body):
            tag = "answer"
    text = f"<{dialect.reasoning_tag}>{reasoning}</{dialect.reasoning_tag}><{tag}>{body}</{tag}>"
    back = parse(text, dialect)
    if back != turn:
        why = back.message if isinstance(back, Malformed) else "It would read as a different turn."
        raise ValueError(f"this turn cannot be written in dialect {dialect.name}: {why}")
    return text


def parse(text: str, dialect: Dialect) -> Look | Answer | Malformed:
    """One written turn without its end token: reasoning, then one look or one answer, then nothing but blanks."""
    try:
        return _parse(text, dialect)
    except _Broken as broken:
        return Malformed(broken.rule, broken.message)


def is_grammatical(turns: Sequence[str], dialect: Dialect, looks_max: int) -> bool:
    """The whole of r_grammar: every turn parses, looks (at most `looks_max`) come first, one answer comes last."""
    if not 1 <= len(turns) <= looks_max + 1:
        return False
    *looks, last = (parse(text, dialect) for text in turns)
    return isinstance(last, Answer) and all(isinstance(look, Look) for look in looks)


def clean_reasoning(text: str, chars_max: int = REASONING_CHARS_MAX) -> str:
    """`text` as it can be rendered in any dialect: no tags, chat markers or control characters, single blanks, cut."""
    seen = "".join(_visible(char) for char in text)
    # A tag leaves a blank behind, and no tag holds a blank: what remains cannot close up into another tag.
    return " ".join(_TAG.sub(" ", seen).split())[:chars_max].rstrip()


def _visible(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Cf":  # zero-width marks, soft hyphens, text direction: inside words
        return ""
    return " " if category in ("Cc", "Cs") else char


def _parse(text: str, dialect: Dialect) -> Turn:
    if len(text) > TURN_CHARS_MAX:
        raise _Broken("length", f"The turn is longer than {TURN_CHARS_MAX} characters.")
    if _SURROGATE.search(text):
        raise _Broken("text", "The turn is not valid Unicode text.")
    reasoning, tag, body = _sections(text, dialect)
    if tag == dialect.look_tag:
        return Look(reasoning, *_read_call(body, dialect))
    if not body.strip():
        raise _Broken("answer", "The answer is empty.")
    return Answer(reasoning, body)


def _sections(text: str, dialect: Dialect) -> tuple[str, str, str]:
    """(reasoning, tag of the act, text of the act); any other set or order of tags is refused."""
    tags = list(_TAG.finditer(text))
    spelled = [tag.group() for tag in tags]
    for act in (dialect.look_tag, "answer"):
        if spelled == [f"<{dialect.reasoning_tag}>", f"</{dialect.reasoning_tag}>", f"<{act}>", f"</{act}>"]:
            break
    else:
        wanted = f"{dialect.reasoning_tag}, then one {dialect.look_tag} or one answer"
        raise _Broken("order", f"The turn must be {wanted}, each opened and closed once and with no other tag.")
    before, between, after = text[: tags[0].start()], text[tags[1].end() : tags[2].start()], text[tags[3].end() :]
    if (before + between + after).strip(_BLANKS):
        raise _Broken("outside", "There is text outside the tags.")
    return text[tags[0].end() : tags[1].start()], act, text[tags[2].end() : tags[3].start()]


def _call(look: Look, dialect: Dialect) -> dict[str, object]:
    inner: dict[str, object] = {dialect.box_key: list(look.box)}
    beside = {"label": look.label, "image": look.image}
    inner |= {key: value for key, value in beside.items() if value is not None}
    return {"name": dialect.tool, **({dialect.arguments_key: inner} if dialect.arguments_key else inner)}


def _read_call(body: str, dialect: Dialect) -> tuple[WireBox, str | None, int | None]:
    beside = {"image"} if dialect.arguments_key is None else set()
    call = _object(_read_json(body), {"name", dialect.arguments_key or dialect.box_key}, beside)
    if call["name"] != dialect.tool:
        raise _Broken("tool", f"The only tool is {dialect.tool}.")
    if dialect.arguments_key is not None:
        call = _object(call[dialect.arguments_key], {dialect.box_key}, {"label", "image"})
    return _box(call[dialect.box_key]), _label(call), _image(call)


def _object(value: object, required: set[str], optional: set[str]) -> dict[str, object]:
    if not isinstance(value, dict) or not required <= value.keys() <= required | optional:
        raise _Broken("tool", f"The call must be an object with exactly these keys: {', '.join(sorted(required))}.")
    return value


def _box(value: object) -> WireBox:
    if not isinstance(value, list) or len(value) != 4 or any(type(number) is not int for number in value):
        raise _Broken("box", "The box must be four integers: left, top, right, bottom.")  # True is no integer here
    if any(abs(number) > COORDINATE_MAX for number in value):
        raise _Broken("box", "The box has a number that is far outside any image.")
    return tuple(value)


def _image(call: dict[str, object]) -> int | None:
    if "image" not in call:
        return None
    number = call["image"]
    if type(number) is not int or number < 1:
        raise _Broken("image", "The image must be a whole number from 1 on.")
    return number


def _label(call: dict[str, object]) -> str | None:
    if "label" not in call:
        return None
    label = call["label"]
    # JSON escapes can smuggle in what the text itself does not show
    if not isinstance(label, str) or _TAG.search(label) or _SURROGATE.search(label):
        raise _Broken("label", "The label must be plain text without tags.")
    return label


def _read_json(body: str) -> object:
    try:
        return json.loads(
            body,
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_no_integer,
            parse_constant=_no_integer,
        )
    except (ValueError, RecursionError):
        raise _Broken("json", "The call is not valid JSON.") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise _Broken("json", "The call has the same key twice.")
    return dict(pairs)


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= 8 else COORDINATE_MAX + 1  # never converts thousands of digits


def _no_integer(_: str) -> float:
    return math.nan  # no place of a call takes it, and each place says so in its own words
