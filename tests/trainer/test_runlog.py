import json
import math
import os
from importlib.metadata import version

import pytest

import trainer.runlog
from schemas.errors import CheckpointError, UsageError
from trainer.checkpoints import base_identity
from trainer.recipe import load_recipe, recipe_from
from trainer.runlog import MUST_AGREE, PACKAGES, RunLog, code_digest, describe_run, differences
from trainer.tiny import save_tiny


@pytest.fixture
def about():
    return describe_run(load_recipe("tiny"), "d1635t", "trajectories/phantom/annotations", "cpu")


@pytest.fixture
def log(tmp_path, about):
    made = RunLog(tmp_path / "run")
    made.begin(about)
    return made


def test_a_run_says_all_that_a_rerun_has_to_match(about, log):
    assert log.read() == json.loads(json.dumps(about))
    assert recipe_from(log.read()["recipe"]) == load_recipe("tiny")
    assert set(MUST_AGREE) < about.keys()
    assert about["recipe_sha256"] == load_recipe("tiny").digest
    assert about["versions"] == {name: version(name) for name in PACKAGES} | {"fovea": code_digest()}
    assert {"torch", "transformers", "tokenizers", "numpy", "pillow"} <= set(PACKAGES)
    log.check(about)


def test_packages_count_where_they_are_used(monkeypatch):
    monkeypatch.setattr(trainer.runlog, "version", lambda name: f"{name}'s")
    plain, adapted, spread = (
        describe_run(load_recipe("tiny", overrides), "", "", "cpu", world_size)["versions"]
        for overrides, world_size in (([], 1), (["model.lora_rank=4"], 1), ([], 2))
    )
    assert set(adapted) - set(plain) == {"peft"}
    assert set(spread) - set(plain) == {"accelerate"}


def test_a_base_model_is_known_by_what_it_holds(tmp_path):
    base = save_tiny(load_recipe("tiny").tiny, ["a b"], 0, tmp_path / "base")
    about = [describe_run(load_recipe("tiny", [f"model.base={base}"]), "", "", "cpu")]
    save_tiny(load_recipe("tiny").tiny, ["a b"], 1, base)
    about += [describe_run(load_recipe("tiny", [f"model.base={base}"]), "", "", "cpu")]
    assert [*differences(*about, MUST_AGREE)] == ["base"]


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json", "config.json", "model.safetensors"])
def test_every_file_of_a_base_model_counts(tmp_path, name):
    """Where adapters are trained, words and pixels come from the base's own files in a resumed run too."""
    base = save_tiny(load_recipe("tiny").tiny, ["a b"], 0, tmp_path / "base")
    before = base_identity(str(base))
    assert before == base_identity(str(base))
    path = base / name
    path.write_bytes(path.read_bytes() + b" ")
    assert base_identity(str(base)) != before


def test_the_code_that_trains_is_part_of_the_versions(tmp_path, monkeypatch):
    (tmp_path / "trainer").mkdir()
    monkeypatch.setattr(trainer.runlog, "__file__", str(tmp_path / "trainer" / "runlog.py"))
    digests = []
    for text in ("a = 1\n", "a = 1\n", "a = 2\n"):
        (tmp_path / "trainer" / "losses.py").write_text(text)
        digests.append(code_digest())
    assert digests[0] == digests[1] != digests[2]


def test_one_process_at_a_time_writes_a_run(tmp_path):
    with RunLog(tmp_path / "run").held(), pytest.raises(UsageError, match="another process"):
        RunLog(tmp_path / "run").held().__enter__()
    with RunLog(tmp_path / "run").held():
        pass


TABLES = ("versions", "recipe")


@pytest.mark.parametrize(
    "name", [*(one for one in MUST_AGREE if one not in TABLES), "versions.numpy", "recipe.run.seed"]
)
def test_whatever_differs_is_refused_by_name(about, log, name):
    changed = json.loads(json.dumps(about))
    *tables, key = name.split(".")
    place = changed
    for table in tables:
        place = place[table]
    place[key] = "other"
    with pytest.raises(CheckpointError, match=f"{name} was .*, is other") as error:
        log.check(changed)
    assert ("--version d1635t" in error.value.fix) == (name == "store_digest")


def test_what_an_older_run_did_not_record_is_refused_too(about, log):
    older = {key: value for key, value in about.items() if key != "versions"}
    log.begin(older)
    with pytest.raises(CheckpointError, match=r"versions\.torch was None"):
        log.check(about)


@pytest.mark.parametrize("text", [None, "", '{"recipe": {', "[1", "[1]", "{}"])
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
        ('{"step": 5}\n{"step": 4}\n', "a step out of its place"),
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


def test_a_log_that_lost_a_step_is_not_gone_on_with(log):
    for line in LINES:
        log.write(line)
    first, second, *others = log.steps_path.read_text().splitlines(keepends=True)
    log.steps_path.write_text("".join([first, second[:9] + "\n", *others]))
    before = log.steps_path.read_bytes()
    with pytest.raises(CheckpointError, match="whole up to step 1 only, and 4 were done"):
        log.truncate(4)
    assert log.steps_path.read_bytes() == before
    log.truncate(1)
    assert log.steps() == LINES[:1]


def test_a_run_without_a_step_has_no_lines(log):
    assert log.steps() == []
    log.truncate(0)
    assert log.steps_path.read_text() == ""


def test_numbers_that_json_does_not_know_are_null(log):
    log.write({"step": 0, "loss": math.nan, "worst": -math.inf, "n": 3, "lr": 1e-3})
    assert log.steps() == [{"step": 0, "loss": None, "worst": None, "n": 3, "lr": 1e-3}]
