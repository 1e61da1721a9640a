import pytest

from schemas.protocols.llava_med import LEFT_OUT, PROTOCOL, normalise
from tests.schemas.protocols.asking import asked


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The left lung.", "left lung"),
        ("an x-ray", "x ray"),
        ("x- ray", "x ray"),
        ("none", "0"),
        ("Ten of two", "10 of 2"),
        ("3,000 cells", "3000 cells"),
        ("a, b", "b"),
        ("1.5 cm.", "1.5 cm"),
        ("dont", "don't"),
        ("couldntve", "couldntve"),  # two apostrophes are missing
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),
        ("e.g. this", "eg this"),
        ("left/right", "left right"),
        ("lung; heart", "lung heart"),
        ("1,5-6", "156"),  # a comma between digits takes the blanks of all marks
        ("." * 40, "." * 8),  # 32 full stops at most
    ],
)
def test_normal_form(text, normal):
    assert normalise(text) == normal


@pytest.mark.parametrize(
    ("gold", "response", "recall", "precision"),
    [
        ("left lung", "left lung", 1.0, 1.0),
        ("left lung", "lung left", 1.0, 1.0),
        ("left lung", "the left one", 1 / 2, 1 / 2),
        ("right", "the right right side", 1.0, 2 / 3),  # each occurrence counts
        ("right lobe", "right right", 2 / 3, 1.0),
        ("2", "two nodules", 1.0, 1 / 2),
        ("x-ray", "xray", 0.0, 0.0),
        ("none", "no", 0.0, 0.0),
        ("left lung", "", 0.0, 0.0),
        ("left lung", "the", 0.0, 0.0),
        ("the", "the", 0.0, 0.0),
    ],
)
def test_open_answers_earn_recall(gold, response, recall, precision):
    verdict = PROTOCOL.judge(response, asked("vqa-rad", gold, answer_type="OPEN"))
    assert verdict.score == pytest.approx(recall)
    assert dict(verdict.also)["precision"] == pytest.approx(precision)
    assert (verdict.is_correct, verdict.fallback) == (None, None)


@pytest.mark.parametrize(
    ("gold", "response", "is_right"),
    [
        ("yes", "Yes.", True),
        ("yes", "Yes, though not certain", True),
        ("no", "The lungs are normal.", True),  # inside normal
        ("no", "yes, abnormal", True),
        ("yes", "no", False),
        ("yes", "certainly", False),
        ("MRI", "MRI", False),  # neither yes nor no in it
        ("abnormal", "abnormal", True),  # by luck: "no" is in it
        ("none", "none", False),  # "0" has lost its no
        ("no", "", False),
    ],
)
def test_closed_answers_must_contain_the_gold_and_a_yes_or_no(gold, response, is_right):
    verdict = PROTOCOL.judge(response, asked("slake", gold, answer_type="CLOSED"))
    assert (verdict.is_correct, verdict.score, verdict.rule) == (is_right, float(is_right), "contains")
    assert verdict.fallback is None


def test_what_the_pathvqa_script_leaves_out_is_wrong_and_counted():
    question = asked("path-vqa", "yes")
    assert PROTOCOL.part_of(question) == "closed"
    assert [PROTOCOL.judge(said, question).fallback for said in ("yes", "no", "perhaps")] == [None, LEFT_OUT, None]
    assert PROTOCOL.part_of(asked("path-vqa", "fibrosis")) == "open"


def test_the_two_parts_have_different_metrics():
    opened, closed = (asked(answer_type=label) for label in ("OPEN", "CLOSED "))
    assert (PROTOCOL.metric_of(opened), PROTOCOL.metric_of(closed)) == ("recall", "accuracy")
