"""The `hf` expert over a tiny model that was trained to answer: what it promises of answers, batches and its name."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from itertools import islice

import pytest
import torch
from PIL import Image

from pipeline.adapters.experts.hf import SILENT, HfExpert
from pipeline.adapters.experts.registry import make_expert
from schemas.boxes import grow
from schemas.errors import ExpertError, UsageError
from schemas.experts import Ask, Drill, Failure, Scan, Seen
from tests.doubles import question
from tests.pipeline.adapters.experts.tiny_seer import CROP_PX, VIEW_PX, finding, phantoms
from tests.processes import ROOT

SMALL = {"dtype": "float32", "device": "cpu", "view_px": VIEW_PX, "crop_px": CROP_PX, "max_tokens": 64}
TELLS = {"scan_confidence": "tokens"}  # it was not taught to state a number


@pytest.fixture(scope="module")
def settings(seer):
    return {"path": str(seer), "prompts": str(seer / "prompts.toml"), **SMALL, **TELLS}


@pytest.fixture
def expert(settings):
    def make(**changes: object) -> HfExpert:
        return make_expert("hf", settings | changes)

    return make


@pytest.fixture(scope="module")
def asks() -> list[Ask]:
    """A scan and two drills of each of six phantoms."""
    made = []
    for index, drawn in islice(phantoms(500), 6):
        found = finding(drawn)
        for query in (
            Scan(),
            Drill(found.box_xyxy_px, found.label, grow(found.box_xyxy_px, 0.5), 1),
            Drill((2.0, 2.0, 20.0, 30.0), found.label, (0.0, 0.0, 30.0, 40.0), 2),
        ):
            text = question(f"q{index}", question=drawn.questions[0].text)
            made.append(Ask(text, f"i{index}", Image.fromarray(drawn.pixels), query))
    return made


def told(answer: Seen | Failure) -> object:
    """An answer up to the last bits of its numbers."""
    assert isinstance(answer, Seen), answer
    rounded = [(each.box_xyxy_px, each.label, pytest.approx(each.confidence, abs=1e-4)) for each in answer.candidates]
    return rounded, answer.text, json.loads(answer.raw)["said"]


def test_scans_find_boxes_and_drills_say_how_sure(expert, asks):
    answers = expert().answer(asks)
    for (scan, hit, miss), drawn in zip(zip(*[iter(answers)] * 3, strict=True), asks[::3], strict=True):
        assert isinstance(scan, Seen)
        assert {each.label for each in scan.candidates} <= {"effusion", "pneumothorax"}
        assert all(0 < each.confidence < 1 for each in scan.candidates)
        raw = json.loads(hit.raw)
        assert hit.candidates[0].confidence == pytest.approx(raw["p_yes"] / (raw["p_yes"] + raw["p_no"]))
        assert (hit.text, miss.text) == ("yes", "no")
        assert hit.candidates[0].confidence > 0.5 > miss.candidates[0].confidence
        assert drawn.image.size == (VIEW_PX, VIEW_PX)


def test_boxes_are_in_pixels_of_the_stored_image(expert, asks):
    large = replace(asks[0], image=asks[0].image.resize((4 * VIEW_PX, 4 * VIEW_PX), Image.Resampling.NEAREST))
    (seen,) = expert().answer([large])
    (written,) = json.loads(json.loads(seen.raw)["said"])
    assert seen.candidates[0].box_xyxy_px == tuple(4.0 * edge for edge in written["bbox_2d"])


def test_answers_depend_on_the_asks_and_not_on_their_order(expert, asks):
    model = expert(batch=4)
    answers = model.answer(asks)
    order = list(range(len(asks)))
    random.Random(1).shuffle(order)
    assert model.answer([asks[place] for place in order]) == [answers[place] for place in order]
    assert expert(batch=4).answer(asks) == answers  # so does another of the same model


def test_another_batch_changes_last_bits_at_most(expert, asks):
    answers = list(map(told, expert(batch=64).answer(asks)))
    assert list(map(told, expert(batch=1).answer(asks))) == answers
    model = expert(batch=3)
    assert [told(model.answer([ask])[0]) for ask in asks] == answers


def failing(model: HfExpert, room: int, marked: str = ""):
    """Makes the model's memory hold `room` rows, and none with the marked words."""
    say = model._model.say

    def full(shown, max_tokens, *, wants_top):
        if len(shown) > room or (marked and any(marked in prompt for _, prompt in shown)):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return say(shown, max_tokens, wants_top=wants_top)

    model._model.say = full


def test_a_batch_that_does_not_fit_is_halved_and_that_is_counted(expert, asks):
    model = expert(batch=8)
    answers = list(map(told, model.answer(asks)))
    assert model.take_usage()["n_halvings"] == 0
    failing(model, room=2)
    assert list(map(told, model.answer(asks))) == answers
    used = model.take_usage()
    assert (used["n_halvings"], used["n_asks"]) == (4, len(asks))  # 6 → 3 → 1 scans, 8 → 4 → 2 drills
    assert model.take_usage()["n_halvings"] == 0


def test_an_ask_that_does_not_fit_alone_is_one_failure(expert, asks):
    model = expert(batch=8)
    model.answer(asks[:1])
    odd = replace(asks[3], question=replace(asks[3].question, question="Is there something immense?"))
    failing(model, room=8, marked="immense")
    answers = model.answer([*asks[:3], odd, *asks[4:]])
    assert isinstance(answers[3], Failure)
    assert answers[3].error_class == "out_of_memory"
    assert all(isinstance(each, Seen) for place, each in enumerate(answers) if place != 3)


def test_use_is_counted(expert, asks):
    model = expert(check=False)
    model.answer(asks)
    used, again = model.take_usage(), model.take_usage()
    assert used["n_asks"] == len(asks)
    assert used["tokens_in"] > 16 * 6 + 4 * 12  # pictures alone
    assert used["tokens_out"] > 12
    assert used["seconds"] > 0
    assert set(again.values()) == {0}


def test_with_more_tokens_a_drill_may_say_more_and_is_as_sure(expert, asks):
    drills = [ask for ask in asks if isinstance(ask.query, Drill)]
    brief, wordy = (expert(drill_tokens=n).answer(drills) for n in (1, 8))
    sure = [each.candidates[0].confidence for each in brief]
    assert [each.candidates[0].confidence for each in wordy] == pytest.approx(sure, abs=1e-4)


def test_a_drill_that_is_no_yes_or_no_is_a_failure(expert, asks, seer, tmp_path):
    """Shown and asked what a scan is, it begins with JSON."""
    own = tmp_path / "own.toml"
    own.write_text((seer / "prompts.toml").read_text().replace("$label here?", "$question"))
    whole = replace(asks[0], query=Drill((0.0, 0.0, 50.0, 50.0), "spot", (0.0, 0.0, VIEW_PX, VIEW_PX), 1))
    answers = expert(prompts=str(own), crop_px=VIEW_PX, check=False).answer([whole])
    assert [each.error_class for each in answers] == ["no_yes_or_no"]


def test_words_that_are_no_boxes_are_a_failure(expert, asks, seer, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text((seer / "prompts.toml").read_text().replace('scan = "$question"', 'scan = "effusion here?"'))
    answers = expert(prompts=str(own), check=False).answer(asks[:1])
    assert [each.error_class for each in answers] == ["malformed_json"]


def test_numbers_that_are_none_are_a_failure(expert, asks):
    model = expert()
    model.answer(asks[:1])
    model._model.model.lm_head.weight.data[0] = float("nan")
    assert [each.error_class for each in model.answer(asks[:2])] == ["nan", "nan"]


def test_a_model_that_counts_otherwise_is_refused_before_any_question(expert, asks):
    with pytest.raises(ExpertError, match="its numbers fit coordinates=absolute"):
        expert(coordinates="thousand").answer(asks[:1])
    model = expert()
    failing(model, room=0)
    with pytest.raises(ExpertError, match="cannot be asked about a drawn rectangle: out_of_memory"):
        model.answer(asks[:1])


def test_closing_lets_go_of_the_model(expert, asks):
    model = expert()
    answers = model.answer(asks[:2])
    model.close()
    assert "_model" not in vars(model)
    assert model.answer(asks[:2]) == answers


def test_the_identity_names_what_changes_an_answer_and_nothing_else(settings, seer, tmp_path):
    base = HfExpert(**settings)
    copy = tmp_path / "copy"
    copy.symlink_to(seer)
    for name, value in {"path": str(copy), "device": "auto", "batch": 99, "coordinates": "absolute"}.items():
        assert replace(base, **{name: value}).identity == base.identity
    own = tmp_path / "own.toml"
    own.write_text((seer / "prompts.toml").read_text() + "\n# mine")
    changes = {"dtype": "bfloat16", "coordinates": "unit", "view_px": 140, "crop_px": 84, "max_tokens": 9}
    changes |= {"scan_confidence": "stated", "drill_confidence": "stated", "prior": 0.5, "boxes_max": 2}
    changes |= {"drill_tokens": 2, "check": False, "prompts": str(own)}
    ids = {replace(base, **{name: value}).identity.id for name, value in changes.items()}
    assert len(ids | {base.identity.id}) == len(changes) + 1
    told = json.dumps(base.identity.settings)
    assert str(seer) not in told
    assert not SILENT & dict(base.identity.settings).keys()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"path": "/nowhere"}, "folder is not there"),
        ({"path": ""}, "path is missing"),
        ({"coordinates": "miles"}, "coordinates must be one of"),
        ({"dtype": "float16"}, "dtype must be one of"),
        ({"device": "0"}, "device must be"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"batch": "8"}, "batch cannot be '8'"),
        ({"view_px": 27}, "view_px must be at least 28"),
        ({"drill_tokens": 0}, "drill_tokens must be"),
        ({"prior": 2}, "prior must be"),
        ({"drill_confidence": "guessed"}, "drill_confidence one of"),
        ({"url": "http://a"}, "unknown settings"),
    ],
)
def test_wrong_settings_are_usage_errors(settings, wrong, why):
    with pytest.raises(UsageError, match=why):
        make_expert("hf", settings | wrong)


def test_its_name_is_known_without_loading_torch(settings):
    code = "import json, sys; from pipeline.adapters.experts.registry import make_expert as make\n"
    code += "made = make('hf', json.loads(sys.argv[1])).identity.id, 'torch' in sys.modules; print(json.dumps(made))"
    command = [sys.executable, "-c", code, json.dumps(settings)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [HfExpert(**settings).identity.id, False]
