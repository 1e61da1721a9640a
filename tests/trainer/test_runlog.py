import json
import math
import os
from importlib.metadata import version

import pytest

from schemas.errors import CheckpointError
from trainer.recipe import Recipe, recipe_from
from trainer.runlog import MUST_AGREE, PACKAGES, RunLog, describe_run


@pytest.fixture
def about():
    return describe_run(Recipe(), "d1635t", "trajectories/phantom/annotations", "cpu")


@pytest.fixture
def log(tmp_path, about):
    made = RunLog(tmp_path / "run")
    made.begin(about)
    return made


def test_a_run_says_all_that_a_rerun_has_to_match(about, log):
    assert log.read() == json.loads(json.dumps(about))
    assert recipe_from(log.read()["recipe"]) == Recipe()
    assert set(MUST_AGREE) < about.keys()
    assert about["recipe_sha256"] == Recipe().digest
    assert about["versions"] == {name: version(name) for name in PACKAGES}
    assert {"torch", "transformers", "tokenizers", "numpy", "pillow"} <= set(PACKAGES)
    log.check(about)


@pytest.mark.parametrize("name", [*(name for name in MUST_AGREE if name != "versions"), "versions.numpy"])
def test_whatever_differs_is_refused_by_name(about, log, name):
    changed = json.loads(json.dumps(about))
    table, _, key = name.rpartition(".")
    (changed[table] if table else changed)[key] = "other"
    with pytest.raises(CheckpointError, match=f"{name} was .*, is other") as error:
        log.check(changed)
    assert ("--version d1635t" in error.value.fix) == (name == "store_digest")


def test_what_an_older_run_did_not_record_is_refused_too(about, log):
    older = {key: value for key, value in about.items() if key != "versions"}
    log.begin(older)
    with pytest.raises(CheckpointError, match=r"versions\.torch was None"):
        log.check(about)


@pytest.mark.parametrize("text", [None, "", '{"recipe": {', "[1", "[1]"])
def test_no_run_is_no_run(tmp_path, text):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(CheckpointError, match="not a run"):
        RunLog(tmp_path).read()


def test_run_json_appears_whole_or_not_at_all(about, log, monkeypatch):
    before = log.read()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        log.begin(about | {"slice": "another"})
    assert log.read() == before


LINES = [{"step": step, "loss": 0.1 + step / 7, "note": None} for step in range(4)]


@pytest.mark.parametrize(
    ("tail", "what"),
    [
        ("", "nothing"),
        ('{"step": 4, "lo', "half a line"),
        ('{"step": 4, "loss": 1.0}', "a line without its end"),
        ("\0\0\0\0\n", "blocks that a crash left empty"),
        ('7\n{"step": 5}\n', "a line that is no step, and what follows it"),
        ("\xff\xfe{", "bytes that are no text"),
        ('{"step": "4"}\n', "a step that is no number"),
    ],
)
def test_a_torn_end_is_forgotten_and_whole_lines_keep_their_bytes(log, tail, what):
    for line in LINES:
        log.write(line)
    whole = log.steps_path.read_bytes()
    with log.steps_path.open("ab") as file:
        file.write(tail.encode("latin-1"))
    assert log.steps() == LINES, what
    log.truncate(4)
    assert log.steps_path.read_bytes() == whole
    log.truncate(2)
    assert log.steps() == LINES[:2]
    log.write(LINES[2])
    assert log.steps() == LINES[:3]
    assert whole.startswith(log.steps_path.read_bytes())


def test_a_run_without_a_step_has_no_lines(log):
    assert log.steps() == []
    log.truncate(0)
    assert log.steps_path.read_text() == ""


def test_numbers_that_json_does_not_know_are_null(log):
    log.write({"step": 0, "loss": math.nan, "worst": -math.inf, "n": 3, "lr": 1e-3})
    assert log.steps() == [{"step": 0, "loss": None, "worst": None, "n": 3, "lr": 1e-3}]
