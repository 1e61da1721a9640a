"""Reports under a named protocol: its own numbers, its own breakdown, what it would not have decided."""

import json
import sys
from dataclasses import replace

import pytest

import cli
from schemas.errors import UsageError
from schemas.grammar import Answer
from schemas.protocols.base import decided
from schemas.protocols.fovea import FOVEA
from schemas.protocols.llava_med import PROTOCOL as LLAVA_MED
from schemas.protocols.medevalkit import PROTOCOL as MEDEVALKIT
from schemas.protocols.medevalkit import RAISES
from schemas.protocols.registry import PROTOCOLS
from tests.pipeline.judge_server import said, serving
from trainer.evaluate_command import choose_protocol, evaluate
from trainer.evaluation import _outcome, report


@pytest.fixture
def told(environment, scene_of, played):
    """The outcome of answering one question at once; an answer of None is a failed episode."""

    def make(protocol, response, guess=None, **question):
        scene = scene_of(**question)
        turn = "<answer>left" if response is None else Answer("", response)
        usual = None if guess is None else protocol.judge(guess, scene.question)
        return _outcome(environment, scene.question, played(scene, turn), usual, protocol)

    return make


def test_recall_and_accuracy_are_never_averaged(told):
    opened = {"source": "slake", "answer_kind": "open", "answer": "left lung", "answer_type": "OPEN"}
    closed = {"source": "slake", "answer_kind": "closed", "answer": "yes", "answer_type": "CLOSED"}
    found = report(
        [
            told(LLAVA_MED, "the left one", "left lung", question_id="q1", **opened),
            told(LLAVA_MED, "left lung", "heart", question_id="q2", **opened),
            told(LLAVA_MED, "Yes.", "no", question_id="q3", **closed),
        ],
        LLAVA_MED,
    )
    assert found["protocol"] == "llava-med"
    assert found["overall"] == {"n": 3, "accuracy": None, "interval_95": None, "majority": None}
    parts = found["by_part"]
    assert (parts["open"]["recall"], parts["open"]["majority"]) == (0.75, 0.5)
    assert parts["open"]["also"]["precision"] == 0.75
    assert (parts["closed"]["accuracy"], parts["closed"]["majority"]) == (1.0, 0.0)
    assert "accuracy" not in parts["open"]
    assert not {"by_kind", "by_type"} & set(found)


def test_what_the_harness_would_not_have_decided_is_wrong_counted_and_listed(told):
    opened = {"source": "vqa-rad", "answer_kind": "open", "answer": "lung"}
    found = report(
        [
            told(MEDEVALKIT, "...", question_id="q1", **opened),
            told(MEDEVALKIT, "lung", question_id="q2", **opened),
            told(MEDEVALKIT, ".", question_id="q3", **opened),
        ],
        MEDEVALKIT,
    )
    assert found["overall"]["accuracy"] == pytest.approx(1 / 3)
    assert (found["n_fallback"], found["fallbacks"]) == (2, {RAISES: ["q1", "q3"]})
    assert found["by_part"]["open"]["also"]["recall"] == pytest.approx(1 / 3)  # the others count as 0


def test_numbers_of_one_part_are_not_averaged_over_another(told):
    """Precision is printed of open questions; a closed one has none, which is not 0."""
    opened = {"source": "vqa-rad", "answer_kind": "open", "answer": "lung"}
    results = [told(MEDEVALKIT, "lung", question_id="q1", **opened)]
    assert report(results, MEDEVALKIT)["overall"]["also"]["precision"] == 1.0
    results.append(told(MEDEVALKIT, "yes", question_id="q2", source="vqa-rad", answer="yes"))
    found = report(results, MEDEVALKIT)
    assert (found["overall"]["accuracy"], found["overall"].get("also")) == (1.0, None)
    assert found["by_part"]["open"]["also"]["precision"] == 1.0
    assert "also" not in found["by_part"]["closed"]


def test_a_failed_episode_is_wrong_even_where_an_empty_answer_is_option_a(told):
    asked = {"source": "pmc-vqa", "answer_kind": "choice", "answer": "CT", "options": ("CT", "MRI")}
    one = told(MEDEVALKIT, None, **asked)
    assert MEDEVALKIT.judge("", one.question).is_correct is True
    assert (one.is_correct, one.verdict.rule) == (False, "no answer")
    assert [row["question_id"] for row in report([one], MEDEVALKIT)["failures"]] == [one.question.question_id]


def test_modalities_are_those_of_the_images(told):
    asked = {"source": "omnimedvqa", "answer_kind": "choice", "answer": "CT", "options": ("CT", "MRI")}
    results = [told(MEDEVALKIT, said, question_id=said, image_ids=(said,), **asked) for said in ("A", "B", "a")]
    found = report(results, MEDEVALKIT, {"A": "ct", "B": "mri"})
    assert {name: (one["n"], one["accuracy"]) for name, one in found["by_modality"].items()} == {
        "None": (1, 1.0),
        "ct": (1, 1.0),
        "mri": (1, 0.0),
    }


def test_the_default_report_is_fovea(told):
    found = report([told(FOVEA, "yes")])
    assert (found["protocol"], found["n_fallback"], found["fallbacks"]) == ("fovea", 0, {})


@pytest.fixture
def measured(whole_run, run_store):
    return lambda protocol: evaluate(whole_run, run_store.root, "test", "latest", None, 2, 0.0, "cpu", protocol)


def test_modalities_come_from_the_store(measured):
    result, _ = measured(replace(FOVEA, groups={"": ("modality",)}))
    assert {name: one["n"] for name, one in result["by_modality"].items()} == {"synthetic X-ray": 2}


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "fovea"])
def test_a_protocol_refuses_a_source_that_it_does_not_define(measured, name, monkeypatch):
    """Before a checkpoint is looked for."""
    monkeypatch.delattr("trainer.checkpoints.Checkpoints.find")
    with pytest.raises(UsageError, match=f"protocol {name} does not judge this question .source phantom"):
        measured(PROTOCOLS[name])


def test_the_command_asks_a_judge_then_replays_it(whole_run, run_store, tmp_path, monkeypatch, capsys):
    """The policy's episodes fail, so only the question-only majority answers are put to the judge."""
    monkeypatch.setenv("FOVEA_JUDGE_API_KEY", "sk-of-the-test")
    log = tmp_path / "judge.jsonl"
    words = ["fovea", "evaluate", "--run", whole_run, "--store", run_store.root, "--limit", "2", "--json"]
    words += ["--protocol", "llm-judge", "--judge-model", "m", "--judge-log", log]

    def printed(*more):
        monkeypatch.setattr(sys, "argv", [str(word) for word in (*words, *more)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        assert left.value.code in (0, None), err
        assert "sk-of-the-test" not in out + err
        return json.loads(out)

    with serving(said("VERDICT: correct"), said("Perhaps.")) as (url, requests):
        asked = printed("--judge-url", url)
    assert asked["protocol"] == "llm-judge:m"
    assert len(requests) == len(log.read_text().splitlines()) == 2
    assert asked["overall"]["majority"] == 0.5
    assert printed() == asked
    assert "sk-of-the-test" not in log.read_text()


def test_options_of_the_judge_belong_to_the_judge(tmp_path):
    log = tmp_path / "judge.jsonl"
    for wrong, words in [
        (("fovea", None, "m", None), "protocol fovea asks no model"),
        (("medevalkit", "http://x/v1", None, None), "asks no model"),
        (("llm-judge", None, "m", None), "its model and its log"),
        (("llm-judge", "http://x/v1", None, log), "its model and its log"),
        (("llm-judge", None, "m", log), "no recorded verdicts"),
        (("llm-judge", "x", "m", log), "no plain http"),
        (("gpt", None, None, None), "unknown protocol 'gpt'"),
    ]:
        with pytest.raises(UsageError, match=words):
            choose_protocol(*wrong, cli.recorded_judge)
    assert choose_protocol("fovea", None, None, None, cli.recorded_judge) is FOVEA
    assert not log.exists()


def test_decided_scores_one_or_nothing():
    assert [decided(right, "rule").score for right in (True, False)] == [1.0, 0.0]
