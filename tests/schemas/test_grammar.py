import pytest

from schemas.grammar import (
    DIALECTS,
    MEDEYES,
    TURN_CHARS_MAX,
    ZOOM,
    Answer,
    Look,
    Malformed,
    is_grammatical,
    parse,
    render,
)

LOOK = '<reasoning>r</reasoning><action>{"name": "Gaze", "coordinate": [1, 2, 3, 4]}</action>'
ZOOMED = (
    "<think>r</think><tool_call>"
    '{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [1, 2, 3, 4], "label": "left lung"}}</tool_call>'
)
ANSWER = "<reasoning>r</reasoning><answer>yes</answer>"


def gaze(body: str) -> str:
    return f"<reasoning>r</reasoning><action>{body}</action>"


def zoom(body: str) -> str:
    return f"<think>r</think><tool_call>{body}</tool_call>"


def call(coordinate: str) -> str:
    return gaze(f'{{"name": "Gaze", "coordinate": {coordinate}}}')


def rule_of(text: str, dialect=MEDEYES) -> str | None:
    turn = parse(text, dialect)
    return turn.rule if isinstance(turn, Malformed) else None


def test_the_written_form_is_the_papers():
    assert render(Look("r", (1, 2, 3, 4)), MEDEYES) == LOOK
    assert render(Look("r", (1, 2, 3, 4), "left lung"), ZOOM) == ZOOMED
    assert render(Answer("r", "yes"), MEDEYES) == ANSWER
    assert render(Answer("r", "yes"), ZOOM) == "<think>r</think><answer>yes</answer>"


@pytest.mark.parametrize(
    ("text", "turn"),
    [
        (LOOK, Look("r", (1, 2, 3, 4))),
        (f"\n{LOOK} \r\n\t", Look("r", (1, 2, 3, 4))),
        ("<reasoning> a\nb </reasoning>\n<answer> yes </answer>", Answer(" a\nb ", " yes ")),  # kept as written
        ("<reasoning></reasoning><answer>no</answer>", Answer("", "no")),
        (gaze(' {"coordinate":[0,0,1,1],\n"name":"Gaze"} '), Look("r", (0, 0, 1, 1))),
        (call("[-5, 9, 3, 4]"), Look("r", (-5, 9, 3, 4))),  # inverted and out of frame: form is fine
        ("<reasoning>3 < 5 > 2 & {x}</reasoning><answer>a<b</answer>", Answer("3 < 5 > 2 & {x}", "a<b")),
    ],
)
def test_accepted(text, turn):
    assert parse(text, MEDEYES) == turn


def test_zoom_label_is_optional():
    body = '{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [1, 2, 3, 4]}}'
    assert parse(zoom(body), ZOOM) == Look("r", (1, 2, 3, 4), None)
    assert parse(ZOOMED, ZOOM) == Look("r", (1, 2, 3, 4), "left lung")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "order"),
        ("yes", "order"),
        ("<answer>yes</answer>", "order"),  # no reasoning
        ("<reasoning>r</reasoning>", "order"),  # no act
        ("<answer>yes</answer><reasoning>r</reasoning>", "order"),
        (LOOK + "<answer>yes</answer>", "order"),  # a look AND an answer
        (LOOK + LOOK, "order"),
        (ANSWER + "<answer>yes</answer>", "order"),
        ("<reasoning>r</reasoning><answer>yes", "order"),  # cut off
        ("<reasoning>a<reasoning>b</reasoning></reasoning><answer>yes</answer>", "order"),
        ("<reasoning>the <answer> is</reasoning><answer>yes</answer>", "order"),  # stray tag in the reasoning
        ("<reasoning>r</reasoning><answer><answer>yes</answer></answer>", "order"),
        ("<reasoning>r</reasoning><answer>yes<feedback>ok</feedback></answer>", "order"),
        ("<reasoning>r</reasoning><answer>yes</answer><|im_end|>", "order"),  # the end token is no text
        ("<reasoning>r</reasoning><feedback>Look 1</feedback>" + ANSWER, "order"),  # feedback is the environment's
        ("<Reasoning>r</Reasoning><answer>yes</answer>", "order"),
        ("<think>r</think><answer>yes</answer>", "order"),  # the other dialect
        (ZOOMED, "order"),
        (LOOK + " ok", "outside"),
        ("Well: " + LOOK, "outside"),
        ("<reasoning>r</reasoning>so<answer>yes</answer>", "outside"),
        ("<reasoning>r</reasoning><answer> \n</answer>", "answer"),
        ("<reasoning>\ud800</reasoning><answer>yes</answer>", "text"),
        (gaze(""), "json"),
        (gaze("[1, 2, 3, 4]"), "tool"),
        (gaze("{'name': 'Gaze', 'coordinate': [1, 2, 3, 4]}"), "json"),  # a Python dict
        (gaze('{"name": "Gaze", "coordinate": [1, 2, 3, 4]} {}'), "json"),
        (gaze('{"name": "Gaze", "name": "Gaze", "coordinate": [1, 2, 3, 4]}'), "json"),
        (gaze('{"name": "gaze", "coordinate": [1, 2, 3, 4]}'), "tool"),
        (gaze('{"name": ["Gaze"], "coordinate": [1, 2, 3, 4]}'), "tool"),
        (gaze('{"name": "Gaze"}'), "tool"),
        (gaze('{"name": "Gaze", "coordinate": [1, 2, 3, 4], "label": "x"}'), "tool"),
        (gaze('{"name": "Gaze", "arguments": {"coordinate": [1, 2, 3, 4]}}'), "tool"),
        (call("null"), "box"),
        (call('"1, 2, 3, 4"'), "box"),
        (call("[1, 2, 3]"), "box"),
        (call("[1, 2, 3, 4, 5]"), "box"),
        (call("[[1, 2], [3, 4]]"), "box"),
        (call("[1, 2, 3, true]"), "box"),
        (call("[1, 2, 3, 4.0]"), "box"),
        (call("[1, 2, 3, 1e1]"), "box"),
        (call("[1, 2, 3, NaN]"), "box"),
        (call("[1, 2, 3, -Infinity]"), "box"),
        (call('[1, 2, 3, "4"]'), "box"),
        (call("[1, 2, 3, 1000001]"), "box"),
        (call(f"[1, 2, 3, {'9' * 9000}]"), "box"),  # int() itself refuses more than 4,300 digits
        (call("[1, 2, 3, 04]"), "json"),
        (call("[1, 2, 3, 4"), "json"),
        (call("[" * 200_000), "length"),
    ],
)
def test_refused(text, rule):
    assert rule_of(text) == rule


def test_a_call_deeper_than_the_interpreters_stack_is_refused():
    assert rule_of(call("[" * 7000 + "]" * 7000)) in ("json", "box")  # newer interpreters may read it


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ('{"name": "image_zoom_in_tool", "bbox_2d": [1, 2, 3, 4]}', "tool"),
        ('{"name": "image_zoom_in_tool", "arguments": [1, 2, 3, 4]}', "tool"),
        ('{"name": "image_zoom_in_tool", "arguments": "{}"}', "tool"),
        ('{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [1, 2, 3, 4], "img_idx": 0}}', "tool"),
        ('{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [1, 2, 3, 4], "bbox_2d": [1, 2, 3, 4]}}', "json"),
        ('{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [1, 2, 3, 4], "label": null}}', "label"),
        ('{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [1, 2, 3, 4], "label": 7}}', "label"),
        ('{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [1, 2, 3, 4], "label": "\\ud800"}}', "label"),
        (
            '{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [1, 2, 3, 4], "label": "\\u003canswer\\u003e"}}',
            "label",  # a tag hidden behind JSON escapes
        ),
    ],
)
def test_refused_in_zoom(body, rule):
    assert rule_of(zoom(body), ZOOM) == rule


def test_a_turn_at_the_length_bound_is_read_and_one_beyond_is_not():
    room = TURN_CHARS_MAX - len(ANSWER)
    longest = ANSWER.replace("yes", "yes" + "s" * room)
    assert len(longest) == TURN_CHARS_MAX
    assert isinstance(parse(longest, MEDEYES), Answer)
    assert rule_of(longest + "\n") == "length"


def test_a_look_names_its_image_where_there_are_several():
    gazed = gaze('{"name": "Gaze", "coordinate": [1, 2, 3, 4], "image": 2}')
    assert render(Look("r", (1, 2, 3, 4), image=2), MEDEYES) == gazed
    assert parse(gazed, MEDEYES) == Look("r", (1, 2, 3, 4), image=2)
    zoomed = ZOOMED.replace('"left lung"', '"left lung", "image": 7')
    assert render(Look("r", (1, 2, 3, 4), "left lung", 7), ZOOM) == zoomed
    assert parse(zoomed, ZOOM) == Look("r", (1, 2, 3, 4), "left lung", 7)
    assert parse(
        zoom('{"name": "image_zoom_in_tool", "arguments": {"image": 1, "bbox_2d": [1, 2, 3, 4]}}'), ZOOM
    ) == Look("r", (1, 2, 3, 4), image=1)


@pytest.mark.parametrize(
    ("image", "rule"),
    [
        ("0", "image"),
        ("-1", "image"),
        ("2.0", "image"),
        ("1e1", "image"),
        ("NaN", "image"),
        ("true", "image"),
        ("null", "image"),
        ('"2"', "image"),
        ("[2]", "image"),
        ('{"image": 2}', "image"),
        ("02", "json"),
        ('2, "image": 2', "json"),
        ('2, "images": 2', "tool"),
    ],
)
def test_an_image_that_is_no_number_is_refused(image, rule):
    assert rule_of(gaze(f'{{"name": "Gaze", "coordinate": [1, 2, 3, 4], "image": {image}}}')) == rule
    arguments = f'{{"bbox_2d": [1, 2, 3, 4], "image": {image}}}'
    assert rule_of(zoom(f'{{"name": "image_zoom_in_tool", "arguments": {arguments}}}'), ZOOM) == rule


def test_an_image_stands_beside_the_box():
    assert (
        rule_of(zoom('{"name": "image_zoom_in_tool", "image": 2, "arguments": {"bbox_2d": [1, 2, 3, 4]}}'), ZOOM)
        == "tool"
    )
    assert rule_of(gaze('{"name": "Gaze", "coordinate": [1, 2, 3], "image": 0}')) == "box"  # the box is read first
    assert rule_of(gaze('{"name": 1.5, "coordinate": [1, 2, 3, 4]}')) == "tool"


@pytest.mark.parametrize(
    ("turns_written", "looks_max", "fine"),
    [
        ([ANSWER], 0, True),
        ([ANSWER], 4, True),
        ([LOOK, ANSWER], 1, True),
        ([LOOK, LOOK, ANSWER], 1, False),  # one look too many
        ([LOOK, LOOK, ANSWER], 2, True),
        ([], 4, False),
        ([LOOK], 4, False),  # no answer
        ([ANSWER, ANSWER], 4, False),
        ([ANSWER, LOOK], 4, False),
        ([LOOK, ANSWER, ANSWER], 4, False),
        ([LOOK, "<reasoning>r</reasoning>", ANSWER], 4, False),
        ([LOOK + " and", ANSWER], 4, False),
    ],
)
def test_is_grammatical(turns_written, looks_max, fine):
    assert is_grammatical(turns_written, MEDEYES, looks_max) is fine


def test_the_dialects_do_not_read_each_other():
    assert {name: dialect.name for name, dialect in DIALECTS.items()} == {"medeyes": "medeyes", "zoom": "zoom"}
    assert not is_grammatical([LOOK, ANSWER], ZOOM, 4)
    assert not is_grammatical([ZOOMED, ANSWER], ZOOM, 4)
    assert is_grammatical([ZOOMED, "<think>r</think><answer>no</answer>"], ZOOM, 4)
