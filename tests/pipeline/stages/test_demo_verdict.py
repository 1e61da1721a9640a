"""Sentences claim what the intervals allow, and no more."""

import pytest

from pipeline.stages.demo_results import Audited, Evaluation, Played, Results, Score
from pipeline.stages.demo_verdict import Changed, changed, claims, crop_only, lines, summary


def evaluation(label: str, score: Score, rights: str = "", **by_type: Score) -> Evaluation:
    played = tuple(Played(f"q{at}", "a", mark == "+", (), ()) for at, mark in enumerate(rights))
    return Evaluation(label, "step-000000", "digest", 0.7, score, by_type, played)


def results(trained: Score, before: str = "", after: str = "", **by_type: Score) -> Results:
    zero = Score(trained.n, 0.0, (0.0, 0.0), trained.majority)
    evaluations = (
        evaluation("untrained", zero, **by_type),
        evaluation("warm start", zero, before, **by_type),
        evaluation("trained", trained, after, **by_type),
    )
    return Results(
        {"store_digest": "digest", "recipe_sha256": "r"}, (), evaluations, Audited("v1", "digest", (), (), ())
    )


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (4, 0, 0.125), (6, 0, 0.03125), (3, 3, 1.0), (10, 2, 0.03857421875)],
)
def test_the_sign_test_is_exact(gained: int, lost: int, p: float):
    assert Changed(gained, lost).p_value == pytest.approx(p)
    assert Changed(lost, gained).p_value == pytest.approx(p)


def test_only_questions_that_both_were_asked_are_compared():
    one = Score(1, 0.0, (0.0, 0.0), 0.5)
    assert changed(evaluation("a", one, "+--+"), evaluation("b", one, "-+++-")) == Changed(2, 1)


@pytest.mark.parametrize(
    ("interval", "majority", "said"),
    [
        ((0.51, 0.69), 0.5, "lies wholly above that"),
        ((0.5, 0.69), 0.5, "the image is not shown to have helped"),  # to touch is not to be above
        ((0.4, 0.5), 0.5, "the image is not shown to have helped"),
        ((0.4, 0.49), 0.5, "lies wholly below that"),
        ((0.4, 0.49), None, "is not known"),
    ],
)
def test_against_the_majority(interval: tuple[float, float], majority: float | None, said: str):
    told = claims(results(Score(100, 0.6, interval, majority)), "full")
    assert said in told[1]
    assert "(95 % interval" in told[0]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "------",
            "++++++",
            "put 6 answers right and 0 wrong since the warm start (exact sign test, p\u00a0=\u00a00.031).",
        ),
        ("----", "++++", "p\u00a0=\u00a00.12): one run of this size does not tell them apart"),
        ("+-", "+-", "has changed no answer"),
    ],
)
def test_since_the_warm_start(before: str, after: str, said: str):
    assert said in claims(results(Score(6, 0.5, (0.1, 0.9), 0.5), before, after), "full")[-1]


def test_crop_only_questions_are_told_apart():
    score, pattern = Score(8, 0.75, (0.7, 0.8), 0.5), Score(6, 0.5, (0.3, 0.7), 0.5)
    found = results(score, side=score, pattern=pattern)
    assert crop_only(found.trained) == ("pattern", pattern)
    assert "Of the 6 crop-only questions" in claims(found, "full")[2]
    assert "crop-only (pattern), 6 test questions" in lines(found)
    assert summary(found)["crop_only"]["trained"] == {
        "type": "pattern",
        "n": 6,
        "accuracy": 0.5,
        "interval_95": [0.3, 0.7],
        "majority": 0.5,
    }
    assert not any("crop-only" in one for one in claims(results(score, side=score), "full"))


def test_the_short_form_says_so():
    score = Score(8, 0.75, (0.7, 0.8), 0.5)
    assert "short form" in claims(results(score), "short")[-1]
    assert not any("short form" in one for one in claims(results(score), "full"))
