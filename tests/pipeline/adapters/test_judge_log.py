import fcntl
import json
import threading
from dataclasses import replace

import pytest

from pipeline.adapters.judge_log import JudgeLog, Judgement
from schemas.errors import InputError

MADE = Judgement("q1", "a" * 64, "b" * 64, "c" * 64, "m", "VERDICT: correct", "correct")
OTHER = replace(MADE, asked_sha256="d" * 64, reply="é\n\u2028", verdict=None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "judge.jsonl"


@pytest.fixture
def one(path):
    """The bytes of a log of one verdict."""
    JudgeLog(path).add(MADE)
    return path.read_bytes()


def test_what_was_written_is_known_again(path):
    log = JudgeLog(path)
    assert (log.add(MADE), log.add(OTHER)) == (MADE, OTHER)
    again = JudgeLog(path)
    assert (again.get(MADE.key), again.get(OTHER.key), again.get(("m", "e"))) == (MADE, OTHER, None)
    assert path.read_bytes().count(b"\n") == 2


def test_a_kill_at_any_byte_costs_the_verdict_being_written_alone(path, one):
    JudgeLog(path).add(OTHER)
    whole = path.read_bytes()
    for n_bytes in range(len(one), len(whole)):
        path.write_bytes(whole[:n_bytes])
        log = JudgeLog(path)
        assert (log.get(MADE.key), log.get(OTHER.key)) == (MADE, None)
        log.add(OTHER)
        assert path.read_bytes() == whole


def test_two_writers_keep_the_first_of_equal_keys(path, one):
    here, there = JudgeLog(path), JudgeLog(path)
    assert here.add(OTHER) == OTHER
    assert there.add(replace(OTHER, reply="another", verdict="wrong")) == OTHER
    third = replace(MADE, model="another")
    assert there.add(third) == third
    assert here.add(replace(third, reply="x")) == third
    assert [json.loads(line)["model"] for line in path.read_text().splitlines()] == ["m", "m", "another"]


def test_a_writer_waits_for_another(path, one):
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=lambda: JudgeLog(path).add(OTHER))
        thread.start()
        thread.join(0.1)
        assert path.read_bytes() == one
    thread.join()
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("line", ["{", "[]", "{}", "7", '{"question_id": "q1"}', "", "[" * 100_000, "\udcff"])
def test_a_line_that_is_no_verdict_is_named(path, one, line):
    path.write_bytes(one + f"{line}\n".encode(errors="surrogateescape"))
    with pytest.raises(InputError, match="line 2 of the judge log is no verdict"):
        JudgeLog(path)


def test_a_log_of_another_shape_is_named(path, one):
    row = json.loads(one)
    for wrong in ({"verdict": "maybe"}, {"reply": None}, {"more": 1}):
        path.write_text(json.dumps({**row, **wrong}) + "\n")
        with pytest.raises(InputError, match="line 1 of the judge log is no verdict"):
            JudgeLog(path)


@pytest.mark.parametrize("text", ["a note without an end", '{"other": 1}'])
def test_another_file_is_left_alone(path, text):
    path.write_text(text)
    for is_written in (False, True):
        with pytest.raises(InputError, match="line 1 of the judge log is no verdict"):
            JudgeLog(path, is_written=is_written)
    assert path.read_text() == text


def test_a_log_that_shrinks_is_refused(path, one):
    log = JudgeLog(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="cut short"):
        log.add(OTHER)
    assert path.read_bytes() == b""


def test_a_log_that_cannot_be_kept_is_an_error_before_anything_is_asked(tmp_path):
    for wrong in (tmp_path / "no" / "judge.jsonl", tmp_path):
        with pytest.raises(InputError, match="cannot be written"):
            JudgeLog(wrong, is_written=True)
    with pytest.raises(InputError, match="cannot be read"):
        JudgeLog(tmp_path)
