"""The `openai` expert against a vision server on loopback: what it asks, how it reads, what it refuses."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline.adapters.experts import openai
from pipeline.adapters.experts.openai import SILENT, OpenAIExpert
from pipeline.adapters.experts.registry import make_expert
from pipeline.adapters.experts.views import scan_view
from schemas.errors import ExpertError, UsageError
from schemas.experts import Ask, Drill, Failure, Scan, Seen
from tests.doubles import question
from tests.pipeline.vision_server import serving

SHIPPED = Path(openai.__file__).parent / "prompts" / "openai.toml"
KEY = "sk-secret-of-the-test"
IMAGE = Image.new("L", (400, 200), 90)
QUICK = {"model": "seer", "coordinates": "absolute", "tries": 2, "wait_s": 0.001, "read_s": 5.0}
LOOK = Drill((10.0, 10.0, 60.0, 60.0), "spot", (0.0, 0.0, 110.0, 110.0), 1)


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("FOVEA_EXPERT_API_KEY", KEY)


@pytest.fixture
def expert():
    made = []

    def make(url: str, **settings: object) -> OpenAIExpert:
        made.append(OpenAIExpert(url=url, **(QUICK | settings)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def scan(number: int = 0, image: Image.Image = IMAGE) -> Ask:
    asked = question(f"q{number}", question=f"What about {number}?")
    return Ask(asked, f"image {image.size}", image, Scan())


def drill(number: int = 0, query: Drill = LOOK) -> Ask:
    return replace(scan(number), query=query)


def prompts(model) -> list[str]:
    return [body["messages"][0]["content"][1]["text"] for _, body in model.requests]


def test_a_scan_shows_the_image_and_reads_boxes_in_stored_pixels(expert):
    with serving() as model:
        (seen,) = expert(model.url, check=False).answer([scan()])
        (headers, body), (prompt,) = model.requests[0], prompts(model)
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert {
        name: body[name] for name in ("model", "temperature", "seed", "logprobs", "top_logprobs", "max_tokens")
    } == {**{"model": "seer", "temperature": 0.0, "seed": 0, "logprobs": True, "top_logprobs": 1, "max_tokens": 1024}}
    assert "What about 0?" in prompt
    assert "392 wide and 196 high" in prompt  # 400 x 200 in steps of 28
    told = json.loads(json.loads(seen.raw)["said"].strip("`json\n"))
    for candidate, written in zip(seen.candidates, told, strict=True):
        expected = [edge * (400 / 392, 200 / 196)[i % 2] for i, edge in enumerate(written["bbox_2d"])]
        assert candidate.box_xyxy_px == pytest.approx(expected)
    assert [(each.label, each.confidence) for each in seen.candidates] == [("spot 0", 0.3), ("spot 1", 0.5)]
    assert seen.text == "spot 0, spot 1"


def test_one_place_in_every_family(expert):
    places = []
    for family in ("absolute", "thousand", "unit"):
        with serving(family=family) as model:
            (seen,) = expert(model.url, coordinates=family).answer([scan(7)])
            assert "drawing" in prompts(model)[0]
        places.append([edge for each in seen.candidates for edge in each.box_xyxy_px])
    assert places[1] == pytest.approx(places[0])
    assert places[2] == pytest.approx(places[0])


def test_a_drill_shows_the_crop_and_is_the_share_of_yes(expert):
    with serving() as model:
        (seen,) = expert(model.url, check=False).answer([drill()])
    raw = json.loads(seen.raw)
    assert seen.candidates[0].confidence == pytest.approx(raw["p_yes"] / (raw["p_yes"] + raw["p_no"]))
    assert seen.candidates[0].box_xyxy_px == LOOK.box_xyxy_px
    assert seen.text.endswith("A spot.")


def test_answers_are_those_of_each_ask_in_its_place_and_the_same_again(expert):
    asks = [ask for number in range(12) for ask in (scan(number), drill(number))]
    with serving() as model:
        asked = expert(model.url)
        answers = asked.answer(asks)
        assert answers == [asked.answer([ask])[0] for ask in asks]
    assert all(isinstance(each, Seen) for each in answers)
    assert len({each.raw for each in answers}) == len(asks)
    assert sum("drawing" in each for each in prompts(model)) == 1  # checked once


@pytest.mark.parametrize(
    ("how", "error_class"),
    [
        ("500", "http_status"),
        ("429", "http_status"),
        ("hang", "timeout"),
        ("cut", "cut_connection"),
        ("malformed", "malformed_json"),
        ("another", "malformed_json"),
        ("huge", "oversized"),
        ("too_long", "context_length"),
        ("out_of_frame", "no_usable_box"),
        ("nan", "no_usable_box"),
        ("no_boxes", "no_boxes_key"),
        ("prose", "malformed_json"),
        ("silent", "empty"),
    ],
)
def test_one_bad_answer_is_one_failure(expert, how, error_class):
    with serving(odd={"about 1?": how}) as model:
        answers = expert(model.url, check=False, read_s=0.3 if how == "hang" else 5.0).answer(
            [scan(n) for n in range(3)]
        )
    assert [isinstance(each, Seen) for each in answers] == [True, False, True]
    assert answers[1].error_class == error_class
    assert KEY not in repr(answers)


@pytest.mark.parametrize(("how", "error_class"), [("no_logprobs", "no_logprobs"), ("nan_logprob", "nan")])
def test_a_drill_without_log_probabilities_is_a_failure(expert, how, error_class):
    with serving(odd={"about 1?": how}) as model:
        answers = expert(model.url, check=False).answer([drill(n) for n in range(3)])
    assert isinstance(answers[1], Failure)
    assert (answers[1].error_class, type(answers[2])) == (error_class, Seen)


def test_a_server_without_log_probabilities_can_be_asked_for_numbers(expert):
    with serving(has_logprobs=False) as model:
        with pytest.raises(ExpertError, match="drill_confidence=stated"):
            expert(model.url).answer([scan()])
        answers = expert(model.url, drill_confidence="stated", top_logprobs=None).answer([scan(), drill()])
    assert [json.loads(each.raw)["rule"] for each in answers] == ["stated", "stated"]
    assert "logprobs" not in model.requests[-1][1]


def test_a_model_that_counts_otherwise_is_refused_before_any_question(expert):
    with serving(family="thousand") as model:
        with pytest.raises(ExpertError, match="coordinates=thousand"):
            expert(model.url).answer([scan()])
        assert not any("about 0?" in each for each in prompts(model))


@pytest.mark.parametrize(
    ("name", "served_as", "is_right"),
    [
        ("seer", "", True),
        ("seer-2026-01-31", "", True),
        ("seer-mini", "", False),
        ("other", "", False),
        ("other", "other", True),
        ("other", "*", True),
    ],
)
def test_another_model_ends_everything(expert, name, served_as, is_right):
    with serving(name=name) as model:
        asked = expert(model.url, served_as=served_as, check=False)
        if is_right:
            assert isinstance(asked.answer([scan()])[0], Seen)
        else:
            with pytest.raises(ExpertError, match=f"seer was asked, {name} has answered"):
                asked.answer([scan()])


def test_a_refused_key_ends_everything(expert):
    with serving(odd={"drawing": "status 401"}) as model, pytest.raises(ExpertError, match="refuses the key") as raised:
        expert(model.url).answer([scan()])
    assert KEY not in str(raised.value)


def test_failures_are_blamed_on_questions_only_while_the_server_answers_others(expert):
    with serving(odd={"What about": "500"}) as model:
        answers = expert(model.url).answer([scan(0), drill(1)])
        assert [each.error_class for each in answers] == ["http_status"] * 2
        assert "drawing" in prompts(model)[-1]
    with serving(dies_after=3) as model:
        asked = expert(model.url)
        assert isinstance(asked.answer([scan(0)])[0], Seen)
        with pytest.raises(ExpertError, match="answers no more"):
            asked.answer([scan(1)])


def test_use_is_counted_and_priced(expert):
    with serving() as model:
        asked = expert(model.url, check=False, price_in=2.0, price_out=10)
        asked.answer([drill(), drill(1)])
        used, again = asked.take_usage(), asked.take_usage()
    assert (used["n_requests"], used["tokens_in"], used["tokens_out"]) == (2, 200, 4)
    assert used["cost"] == pytest.approx((200 * 2 + 4 * 10) / 1e6)
    assert (again["n_requests"], again["cost"]) == (0, 0)
    assert expert(model.url).take_usage()["cost"] is None


def test_the_identity_names_what_changes_an_answer_and_nothing_else(tmp_path):
    base = OpenAIExpert(url="http://a/v1", **QUICK)
    others = {"url": "https://b/v1", "price_in": 1.0, "concurrency": 64, "read_s": 1.0, "temperature": 0}
    assert {replace(base, **{name: value}).identity.id for name, value in others.items()} == {base.identity.id}
    own = tmp_path / "mine.toml"
    own.write_text(SHIPPED.read_text(encoding="utf-8") + "\n# mine", encoding="utf-8")
    changes = {"model": "x", "coordinates": "unit", "view_px": 504, "crop_px": 224, "multiple_px": 32, "prior": 0.5}
    changes |= {"scan_confidence": "tokens", "drill_confidence": "stated", "check": False, "seed": 1, "revision": "2"}
    changes |= {"temperature": None, "max_tokens": 9, "boxes_max": 2, "thinking": False, "prompts": str(own)}
    ids = {replace(base, **{name: value}).identity.id for name, value in changes.items()}
    assert len(ids | {base.identity.id}) == len(changes) + 1
    told = json.dumps(replace(base, prompts=str(own)).identity.settings)
    assert "://" not in told
    assert str(tmp_path) not in told
    assert not SILENT & dict(base.identity.settings).keys()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"url": "file:///etc"}, "no plain http"),
        ({"model": ""}, "model is missing"),
        ({"coordinates": ""}, "never guessed"),
        ({"check": "no"}, "check cannot be 'no'"),
        ({"view_px": 1.5}, "view_px cannot be"),
        ({"crop_px": 2}, "crop_px must be at least 28"),
        ({"prior": 2}, "prior must be"),
        ({"temperature": -1}, "temperature must be"),
        ({"tries": 0}, "tries must be"),
        ({"top_logprobs": None}, "needs top_logprobs"),
        ({"api_key": "sk-x"}, "unknown settings"),
    ],
)
def test_wrong_settings_are_usage_errors(wrong, why):
    with pytest.raises(UsageError, match=why) as raised:
        make_expert("openai", {"url": "http://a/v1", "model": "m", "coordinates": "unit"} | wrong)
    assert "sk-x" not in str(raised.value)


def test_threads_share_one_check_and_each_pays_for_itself(expert):
    with serving() as model:
        asked = expert(model.url, concurrency=3)

        def shard(first: int) -> tuple[list, dict]:
            return asked.answer([scan(first), drill(first), drill(first + 1)]), asked.take_usage()

        with ThreadPoolExecutor(4) as shards:
            told = list(shards.map(shard, range(0, 40, 10)))
        alone = [expert(model.url, check=False).answer([scan(n), drill(n), drill(n + 1)]) for n in range(0, 40, 10)]
    assert [answers for answers, _ in told] == alone
    assert sorted(used["n_requests"] for _, used in told) == [3, 3, 3, 5]  # the first of them checked
    assert sum("drawing" in each for each in prompts(model)[:14]) == 1
    assert model.n_together <= 3


def test_a_picture_of_many_questions_is_made_once_and_the_order_is_that_of_the_asks(expert, monkeypatch):
    made = []
    monkeypatch.setattr(openai, "scan_view", lambda image, *how: made.append(image.size) or scan_view(image, *how))
    images = [Image.new("L", (400, side), 90) for side in (200, 100)]
    asks = [scan(number, images[number % 2]) for number in range(10)]
    with serving() as model:
        answers = expert(model.url, check=False).answer(asks)
        again = [expert(model.url, check=False).answer([ask])[0] for ask in asks]
    assert answers == again
    assert sorted(made[:2]) == [(400, 100), (400, 200)]
    assert len(made) == 2 + len(asks)


def test_a_failed_check_is_tried_once_and_every_thread_is_told(expert):
    with serving(family="thousand") as model:
        asked = expert(model.url)
        for _ in range(3):
            with pytest.raises(ExpertError, match="coordinates=thousand"):
                asked.answer([scan()])
        assert len(model.requests) == 1
