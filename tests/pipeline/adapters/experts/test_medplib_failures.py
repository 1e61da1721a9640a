"""The `medplib` expert against a server that misbehaves: one bad answer is one failure, another server ends all."""

from dataclasses import replace

import pytest

from pipeline.adapters.experts.medplib_contract import REGION
from schemas.errors import ExpertError
from schemas.experts import Failure, Seen
from tests.doubles import question
from tests.pipeline.adapters.experts.medplib_asks import KEY, LOOK, drill, scan
from tests.pipeline.medplib_servers import OddService, StandIn, serving


@pytest.mark.parametrize(
    ("how", "error_class"),
    [
        ("500", "http_status"),
        ("422", "http_status"),
        ("hang", "timeout"),
        ("cut", "cut_connection"),
        ("malformed", "malformed_json"),
        ("list", "malformed_json"),
        ("huge", "oversized"),
        ("nan_score", "nan"),
        ("nan_box", "nan"),
        ("no_score", "wrong_schema"),
        ("high_score", "wrong_schema"),
        ("three_numbers", "wrong_schema"),
        ("too_many", "wrong_schema"),
        ("extra", "wrong_schema"),
        ("out_of_frame", "out_of_frame"),
        ("inverted", "inverted"),
        ("other_size", "wrong_mask"),
        ("short_rle", "wrong_mask"),
        ("other_box", "wrong_mask"),
        ("other_area", "wrong_mask"),
        ("empty_mask", "empty_mask"),
        ("nothing_drawn", "empty_mask"),
        ("no_seg", "contradiction"),
    ],
)
def test_one_bad_scan_is_one_failure(medplib, how, error_class):
    with serving(odd={"about 1?": how}) as service:
        asked = medplib(service, read_s=0.3 if how == "hang" else 5.0)
        answers = asked.answer([scan(n) for n in range(3)])
    assert [isinstance(each, Seen) for each in answers] == [True, False, True]
    assert answers[1].error_class == error_class
    assert KEY not in repr(answers)


@pytest.mark.parametrize(
    ("how", "error_class"),
    [("nan_yes", "nan"), ("text_yes", "wrong_schema"), ("both_sure", "contradiction"), ("unsure", "no_yes_or_no")],
)
def test_one_bad_drill_is_one_failure(medplib, how, error_class):
    with serving(odd={"about 1?": how}) as service:
        answers = medplib(service).answer([drill(n) for n in range(3)])
    assert isinstance(answers[1], Failure)
    assert (answers[1].error_class, type(answers[0]), type(answers[2])) == (error_class, Seen, Seen)


@pytest.mark.parametrize("token", ["<SEG>", "<image>", REGION])
def test_a_question_that_holds_a_token_of_the_model_is_not_asked(medplib, token):
    odd = replace(scan(), question=question("q", question=f"What is {token}?"))
    with serving() as service:
        answers = medplib(service).answer([odd, replace(odd, query=LOOK), scan(1)])
    assert [getattr(each, "error_class", None) for each in answers] == ["unaskable", "unaskable", None]
    assert len(service.model.seen) == 1


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ({"revision": "f00"}, "other weights or settings: revision f00"),
        ({"contract": "fovea-medplib/9"}, "speaks fovea-medplib/9, not fovea-medplib/1"),
        ({"contract": "\x1b[31mnew"}, r"speaks \\x1b\[31mnew, not"),  # and no terminal obeys it
        ({"model": None}, "says nothing usable of itself"),
    ],
)
def test_another_server_is_refused_before_any_question(medplib, says, told):
    with serving(says=says) as service:
        with pytest.raises(ExpertError, match=told):
            medplib(service).answer([scan()])
        assert [name for name, _ in service.asked] == ["health"]


def test_weights_that_change_in_the_middle_end_everything(medplib):
    with serving(odd={"about 1?": "other_weights"}) as service, pytest.raises(ExpertError, match="revision another"):
        medplib(service, concurrency=1).answer([scan(n) for n in range(3)])


def test_a_key_that_the_server_wants_is_borne_and_another_refused(medplib, monkeypatch):
    with serving(OddService(StandIn()), key=KEY) as service:
        assert isinstance(medplib(service).answer([scan()])[0], Seen)
        monkeypatch.setenv("FOVEA_EXPERT_API_KEY", "sk-another")
        with pytest.raises(ExpertError, match="refuses the key") as raised:
            medplib(service).answer([scan()])
    assert "sk-another" not in str(raised.value)


def test_no_server_ends_everything(medplib):
    with serving() as service:
        asked = medplib(service)
    with pytest.raises(ExpertError, match="cannot be reached"):
        asked.answer([scan()])


def test_failures_are_blamed_on_questions_only_while_the_server_answers_others(medplib):
    with serving(odd={"What about": "500"}) as service:
        answers = medplib(service).answer([scan(0), drill(1)])
        assert [each.error_class for each in answers] == ["http_status"] * 2
        assert "rectangle" in service.asked[-1][1]["query"]
    gone = pytest.raises(ExpertError, match="answers no more, not even about a drawing")
    with serving(odd={"What about": "500", "rectangle": "500"}) as service, gone:
        medplib(service).answer([scan(1)])
