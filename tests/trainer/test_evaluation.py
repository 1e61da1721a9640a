import json
import shutil
import sys
from dataclasses import replace

import pytest

import cli
import trainer.evaluation
from pipeline.stages.ingest import ingest
from pipeline.stages.phantom_source import PhantomSource
from schemas.errors import CheckpointError, InputError, UsageError
from schemas.grammar import Answer, Look
from schemas.protocols.fovea import FOVEA
from schemas.reader import Store
from schemas.records import Region
from tests.trainer.small_runs import SIDE_PX
from trainer.data import Scenes, questions_of
from trainer.dialogue import Dialogue
from trainer.environment import Environment
from trainer.evaluate_command import evaluate
from trainer.evaluation import _outcome, outcomes, report
from trainer.rollout.live import LiveBatch

LESION = (200.0, 200.0, 240.0, 240.0)


def told(environment, scene, played, *turns, guess=None):
    usual = None if guess is None else FOVEA.judge(guess, scene.question)
    return _outcome(environment, scene.question, played(scene, *turns), usual, FOVEA)


def test_a_report_by_hand(environment, scene_of, played):
    """Three questions: right after a look that found it, wrong after one that did not, and one that failed."""
    lesion = (Region(LESION, "nodule", "finding"),)
    asked = scene_of(question_id="q1", question_type="presence", regions=lesion)
    other = scene_of(question_id="q2", question="Which side?", answer="left", answer_kind="open", question_type="side")
    there, elsewhere = Look("", (45, 45, 65, 65)), Look("", (0, 0, 20, 20))
    results = [
        told(environment, asked, played, elsewhere, there, Answer("", "Yes."), guess="no"),
        told(environment, asked, played, elsewhere, Answer("", "no"), guess="yes"),
        told(environment, other, played, "<answer>left", guess="left"),
    ]
    assert [one.is_correct for one in results] == [True, False, False]
    assert [one.found for one in results] == [True, False, None]
    found = report(results)
    assert found["overall"] | {"interval_95": None} == {
        "n": 3,
        "accuracy": pytest.approx(1 / 3),
        "majority": pytest.approx(2 / 3),
        "interval_95": None,
    }
    low, high = found["overall"]["interval_95"]
    assert 0 <= low < 1 / 3 < high <= 1
    assert {name: (one["n"], one["accuracy"], one["majority"]) for name, one in found["by_type"].items()} == {
        "presence": (2, 0.5, 0.5),
        "side": (1, 0.0, 1.0),
    }
    assert list(found["by_kind"]) == ["closed", "open"]
    assert found["grammatical"] == pytest.approx(2 / 3)
    assert (found["looks_per_question"], found["found"]) == (1.0, 0.5)
    assert found["failures"] == [{"question_id": "q2", "problems": ["order"]}]


def test_a_majority_that_nobody_knows_is_no_number(environment, scene_of, played):
    found = report([told(environment, scene_of(), played, Answer("", "yes"))])
    assert found["overall"]["majority"] is None
    assert found["overall"]["accuracy"] == 1.0


def test_a_finding_is_found_when_nine_tenths_of_it_are_in_one_look(environment, scene_of, played):
    scene = scene_of(regions=(Region(LESION, "nodule", "finding"),))
    for box, is_found in (((50, 50, 60, 60), True), ((51, 50, 60, 60), True), ((52, 50, 60, 60), False)):
        assert told(environment, scene, played, Look("", box)).found is is_found
    halves = [Look("", (50, 50, 55, 60)), Look("", (55, 50, 60, 60))]
    assert told(environment, scene, played, *halves).found is False


def test_the_right_box_of_a_wrong_image_finds_nothing(environment, scene_of_three, played):
    """The whole of the second image against the whole of the first, which is as wide and higher."""
    scene = scene_of_three(regions=(Region((10.0, 10.0, 50.0, 50.0), "nodule", "finding", 1),))
    first, second = Look("", (0, 0, 112, 112), image=1), Look("", (0, 0, 140, 56), image=2)
    assert told(environment, scene, played, first).found is False
    assert told(environment, scene, played, first, second).found is True


@pytest.fixture(scope="module")
def exam(policy, run_store, small_recipe):
    """Test questions of the store, and those of training, for a policy with firm opinions."""
    environment = Environment(Dialogue(policy.processor, small_recipe.dialogue), small_recipe.view)
    snapshot = run_store.snapshot()
    asked, train = (questions_of(snapshot, "ingest/phantom/default", split) for split in ("test", "train"))
    return lambda **how: list(outcomes(policy, environment, Scenes(snapshot, environment), asked, train, **how))


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_the_batch_changes_nothing(exam, monkeypatch, rows):
    wanted = exam()
    monkeypatch.setattr(trainer.evaluation, "LIVE_ROWS", rows)
    found = exam()
    assert [one.episode.ids for one in found] == [one.episode.ids for one in wanted]
    assert report(found) == report(wanted)
    assert len({tuple(one.episode.ids) for one in found}) == len(found) == 5


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("unshown", [(), (0,), (4,), (0, 1, 3), (0, 1, 2, 3, 4)])
def test_questions_that_cannot_be_shown_keep_their_places(exam, monkeypatch, rows, unshown):
    wanted = exam()
    names, scene = [one.question.question_id for one in wanted], Environment.scene

    def cramped(environment, question, images):
        if names.index(question.question_id) in unshown:
            raise InputError(f"no room for {question.question_id}", where="here")
        return scene(environment, question, images)

    monkeypatch.setattr(Environment, "scene", cramped)
    monkeypatch.setattr(trainer.evaluation, "LIVE_ROWS", rows)
    for place, (one, known) in enumerate(zip(exam(), wanted, strict=True)):
        assert one.question == known.question
        if place in unshown:
            assert (one.episode, one.problems) == (None, [f"no room for {names[place]}"])
        else:
            assert one.episode.ids == known.episode.ids


def test_the_batch_is_kept_full_to_the_last_question(exam, policy, monkeypatch):
    """The first row leaves early, and the next question takes its place at once."""
    first = exam()[0].episode
    monkeypatch.setattr(policy, "stop_id", first.ids[first.n_prompt + 2])
    rows, step = [], LiveBatch.step
    monkeypatch.setattr(LiveBatch, "step", lambda batch: rows.append(len(batch)) or step(batch))
    monkeypatch.setattr(trainer.evaluation, "LIVE_ROWS", 2)
    exam()
    assert set(rows) == {1, 2}
    assert rows == sorted(rows, reverse=True)


def test_at_a_temperature_episodes_are_sampled_alike_each_time(exam):
    greedy, *sampled = ([one.episode.ids for one in exam(temperature=degrees)] for degrees in (0.0, 3.0, 3.0))
    assert sampled[0] == sampled[1] != greedy


def test_majorities_of_choices_are_judged_as_letters(policy, run_store, small_recipe):
    environment, heard = Environment(Dialogue(policy.processor, small_recipe.dialogue), small_recipe.view), []
    snapshot = run_store.snapshot()
    first = questions_of(snapshot, "ingest/phantom/default", "test")[0]
    asked = [replace(first, answer_kind="choice", answer="round", options=("long", "round"))]
    protocol = replace(FOVEA, rule=lambda said, question: heard.append(said) or FOVEA.rule(said, question))
    (one,) = outcomes(policy, environment, Scenes(snapshot, environment), asked, asked, protocol=protocol)
    assert (heard, one.majority.is_correct) == (["B"], True)


def test_failures_are_wrong(exam):
    results = exam()
    assert all(one.episode.answer is None and not one.is_correct for one in results)
    found = report(results)
    assert (found["overall"]["accuracy"], len(found["failures"])) == (0.0, 5)


def test_a_question_whose_images_have_no_room_is_wrong_and_named(exam, monkeypatch):
    wanted, show = exam(), Scenes.__call__
    first = wanted[0].question

    def refuse(scenes, question):
        if question == first:
            raise InputError("no room for 7 images", where="elsewhere")
        return show(scenes, question)

    monkeypatch.setattr(Scenes, "__call__", refuse)
    found = exam()
    assert [one.question for one in found] == [one.question for one in wanted]
    assert [one.episode and one.episode.ids for one in found[1:]] == [one.episode.ids for one in wanted[1:]]
    assert (found[0].is_correct, found[0].looks) == (False, [])
    failed = {one["question_id"]: one["problems"] for one in report(found)["failures"]}
    assert failed[first.question_id] == ["no room for 7 images"]


def test_a_run_is_measured_on_the_questions_it_was_made_for(whole_run, run_store):
    head, episodes = evaluate(whole_run, run_store.root, "test", "latest", None, None, 0.0, "cpu")
    again, _ = evaluate(whole_run, run_store.root, "test", "6", None, None, 0.0, "cpu")
    assert head == again
    assert (head["checkpoint"], head["slice"], head["split"]) == ("step-000006", "ingest/phantom/default", "test")
    assert head["store_digest"] == head["run_store_digest"] == run_store.head().digest
    assert head["overall"]["n"] == len(episodes) == 5
    assert {one["question_id"] for one in episodes} == {
        one.question_id for one in questions_of(run_store.snapshot(), "ingest/phantom/default", "test")
    }


def test_a_source_without_a_train_split_is_measured_in_a_grown_store(whole_run, run_store, tmp_path):
    grown = Store(shutil.copytree(run_store.root, tmp_path / "store"))
    ingest(grown, PhantomSource(n_test=2, side_px=SIDE_PX, offset=70), name="exam")
    head, _ = evaluate(whole_run, grown.root, "test", "latest", "ingest/phantom/exam", None, 0.0, "cpu")
    assert head["overall"]["n"] == 2
    assert head["overall"]["majority"] is None
    assert head["store_digest"] == grown.head().digest != head["run_store_digest"] == run_store.head().digest


def test_what_is_not_there_is_named(whole_run, run_store, tmp_path):
    for wrong, kind, words in [
        ({"split": "validation"}, UsageError, "no questions in split validation"),
        ({"checkpoint": "5"}, CheckpointError, "there are: 0, 3, 4, 6"),
        ({"run": tmp_path}, CheckpointError, "not a run"),
        ({"source_slice": "ingest/slake/*"}, UsageError, "no slice matches"),
    ]:
        how = {"run": whole_run, "store": run_store.root, "split": "test", "checkpoint": "latest"}
        with pytest.raises(kind, match=words):
            evaluate(**{**how, "source_slice": None, "limit": None, "temperature": 0.0, "device": "cpu", **wrong})


@pytest.mark.parametrize("is_json", [True, False])
def test_the_command_prints_one_object_or_lines(whole_run, run_store, tmp_path, monkeypatch, capsys, is_json):
    words = ["fovea", "evaluate", "--run", whole_run, "--store", run_store.root, "--limit", "2"]
    words += ["--out", tmp_path / "all.json", *(["--json"] if is_json else [])]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code in (0, None)
    out = capsys.readouterr().out
    written = json.loads((tmp_path / "all.json").read_text())
    assert len(written["episodes"]) == 2
    if is_json:
        assert json.loads(out) == {name: value for name, value in written.items() if name != "episodes"}
    else:
        assert "question-only majority" in out


def test_a_place_for_the_episodes_is_looked_at_before_anything_is_measured(tmp_path, capsys, monkeypatch):
    for out in (tmp_path / "no" / "all.json", tmp_path):
        words = ["fovea", "evaluate", "--run", tmp_path / "run", "--store", tmp_path / "store", "--out", out]
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert left.value.code == 2
        assert "no file can be written there" in capsys.readouterr().err


def test_the_run_is_left_alone(whole_run, run_store):
    before = {path: path.stat().st_mtime_ns for path in whole_run.rglob("*")}
    evaluate(whole_run, run_store.root, "test", "latest", None, 1, 0.0, "cpu")
    assert {path: path.stat().st_mtime_ns for path in whole_run.rglob("*")} == before
