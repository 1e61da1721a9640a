import json

import pytest

from pipeline.adapters.judge import PROMPT_SHA256, UNJUDGED, asked, digest, llm_judge, read_verdict
from schemas.errors import InputError, UsageError
from schemas.records import Question

QUESTION = Question("q1", "vqa-rad", "test", ("i",), "Where is it?", "left lung", "open")
CHOICE = Question("q2", "mmmu", "test", ("i",), "Which?", "MRI", "choice", options=("CT", "MRI"))


class Scripted:
    """A judge that says one thing and counts."""

    def __init__(self, reply="VERDICT: correct"):
        self.reply, self.prompts = reply, []

    def __call__(self, prompt):
        self.prompts.append(prompt)
        return self.reply


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("VERDICT: correct", "correct"),
        ("The lobe differs.\n\nverdict: Wrong.", "wrong"),
        ("**VERDICT: correct**", "correct"),
        ("VERDICT: **wrong**\n", "wrong"),
        ("VERDICT: correct\nVERDICT: correct", "correct"),
        ("VERDICT: correct\nVERDICT: wrong", None),
        ("<think>VERDICT: wrong</think>VERDICT: correct", "correct"),
        ("<think>\nVERDICT: wrong\n</think>", None),
        ("VERDICT: incorrect", None),
        ("VERDICT: correct or wrong", None),
        ("The VERDICT: correct", None),  # a line of its own
        ("VERDICT:\n\ncorrect", None),
        ("<think>\nVERDICT: correct", None),  # cut off while it thought
        (" * VERDICT :: **correct** *\r\n", "correct"),
        ("correct", None),
        ("VERDICT:", None),
        ("", None),
    ],
)
def test_a_verdict_is_a_line_of_its_own(reply, verdict):
    assert read_verdict(reply) == verdict


def test_what_the_judge_is_told():
    told = asked("in {gold} MRI", CHOICE)
    assert "Options:\nA. CT\nB. MRI\nReference answer: MRI\nGiven answer: in {gold} MRI\n" in told
    assert "Options" not in asked("left", QUESTION)


def test_every_verdict_is_a_line_and_is_asked_for_once(tmp_path):
    log, ask = tmp_path / "judge.jsonl", Scripted()
    judge = llm_judge("m", log, ask)
    assert judge.name == "llm-judge:m"
    for _ in range(2):
        assert judge.judge("the left one", QUESTION).is_correct is True
    ask.reply = "VERDICT: wrong"
    assert judge.judge("the right one", QUESTION).is_correct is False
    assert len(ask.prompts) == 2
    first, second = map(json.loads, log.read_text().splitlines())
    assert first == {
        "question_id": "q1",
        "response_sha256": digest("the left one"),
        "prompt_sha256": PROMPT_SHA256,
        "asked_sha256": digest(asked("the left one", QUESTION)),
        "model": "m",
        "reply": "VERDICT: correct",
        "verdict": "correct",
    }
    assert (second["reply"], second["verdict"]) == ("VERDICT: wrong", "wrong")


def test_a_replay_asks_nobody(tmp_path):
    log = tmp_path / "judge.jsonl"
    llm_judge("m", log, Scripted()).judge("left", QUESTION)
    before = log.read_bytes()
    assert llm_judge("m", log, None).judge("left", QUESTION).is_correct is True
    fresh = Scripted("VERDICT: wrong")
    assert llm_judge("m", log, fresh).judge("left", QUESTION).is_correct is True
    assert (fresh.prompts, log.read_bytes()) == ([], before)


@pytest.mark.parametrize(
    ("model", "response", "question"),
    [("other", "left", QUESTION), ("m", "right", QUESTION), ("m", "left", CHOICE)],
)
def test_a_verdict_that_was_not_recorded_is_missed(tmp_path, model, response, question):
    log = tmp_path / "judge.jsonl"
    llm_judge("m", log, Scripted()).judge("left", QUESTION)
    with pytest.raises(InputError, match=f"no recorded verdict of {model} .* question {question.question_id}"):
        llm_judge(model, log, None).judge(response, question)


def test_a_replay_needs_a_log(tmp_path):
    with pytest.raises(UsageError, match="no recorded verdicts"):
        llm_judge("m", tmp_path / "none.jsonl", None)


def test_a_reply_that_is_no_verdict_is_wrong_counted_and_replayed(tmp_path):
    log, ask = tmp_path / "judge.jsonl", Scripted("It may well be \ud800 so.")
    for asks in (ask, None):
        verdict = llm_judge("m", log, asks).judge("left", QUESTION)
        assert (verdict.is_correct, verdict.score, verdict.fallback) == (False, 0.0, UNJUDGED)
    assert json.loads(log.read_text())["verdict"] is None


def test_a_place_for_the_log_is_looked_at_before_anybody_is_asked(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        llm_judge("m", tmp_path / "no" / "judge.jsonl", Scripted())


def test_an_empty_answer_is_wrong_unasked(tmp_path):
    ask = Scripted()
    assert llm_judge("m", tmp_path / "judge.jsonl", ask).judge(" \n", QUESTION).is_correct is False
    assert ask.prompts == []


def test_a_verdict_that_its_reply_does_not_give_is_refused(tmp_path):
    log = tmp_path / "judge.jsonl"
    llm_judge("m", log, Scripted("VERDICT: wrong")).judge("left", QUESTION)
    log.write_text(log.read_text().replace('"verdict": "wrong"', '"verdict": "correct"'))
    for ask in (None, Scripted()):
        with pytest.raises(InputError, match="question q1 is not what its reply says"):
            llm_judge("m", log, ask).judge("left", QUESTION)


def test_of_two_judges_with_one_log_the_first_verdict_stands(tmp_path):
    """So that a replay gives the numbers that both have printed."""
    log, ask = tmp_path / "judge.jsonl", Scripted("VERDICT: wrong")
    first, second = llm_judge("m", log, Scripted()), llm_judge("m", log, ask)
    assert first.judge("left", QUESTION).is_correct is True
    assert second.judge("left", QUESTION).is_correct is True
    assert (len(ask.prompts), len(log.read_text().splitlines())) == (1, 1)
    assert llm_judge("m", log, None).judge("left", QUESTION).is_correct is True
