"""The counts of a slice are those of a slow reading of its rows, whatever run of rows they are read in."""

from collections import Counter
from pathlib import Path

import pytest

from pipeline.stages import trajectory_counts
from pipeline.stages.trajectory_counts import counts
from schemas.reader import Store
from tests.pipeline.small_stores import INGEST, SEARCHED, asked, drawn_image, put_questions, put_searches, searched


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("counts") / "store")
    images = [drawn_image(number) for number in range(40)]
    questions = [asked(number, image) for number, image in enumerate(images)]
    put_questions(store, images, questions)
    put_searches(store, searched(questions, images))
    put_searches(store, searched(questions[:5], images), "trajectories/drawn/other")
    return store


def slowly(store: Store, key: str) -> dict:
    rows = [row for row in store.snapshot().records("trajectories", slices=[key]) if row.origin in ("grn", "cvs")]
    variants = {
        question: [row for row in rows if row.question_id == question] for question in {r.question_id for r in rows}
    }
    named = {
        origin: {(row.question_id, step.call_id) for row in rows for step in row.steps if row.origin in origin}
        for origin in (("grn",), ("grn", "cvs"))
    }
    n_grn, n_all = (len({pair for pair in pairs if pair[1]}) for pairs in named.values())
    histogram = Counter(sum(row.origin == "cvs" for row in mine) for mine in variants.values())
    return {
        "stop_reasons": dict(Counter(row.stop_reason for row in rows)),
        "cvs_variants_per_question": {str(n): n_questions for n, n_questions in histogram.items()},
        "expert_calls": {"grn": n_grn, "grn_and_cvs": n_all, "ratio": round(n_all / n_grn, 3)},
    }


@pytest.mark.parametrize("n_rows", [1, 7, 8192])
def test_counts_are_those_of_a_slow_reading(store: Store, monkeypatch: pytest.MonkeyPatch, n_rows: int):
    monkeypatch.setattr(trajectory_counts, "ROWS_AT_ONCE", n_rows)
    told = counts(store, SEARCHED)
    assert told == slowly(store, SEARCHED)
    assert sum(told["cvs_variants_per_question"].values()) == 40
    assert told["expert_calls"]["ratio"] > 1
    assert list(told["stop_reasons"]) == sorted(told["stop_reasons"])
    assert counts(store, "trajectories/drawn/other") == slowly(store, "trajectories/drawn/other")


def test_a_slice_without_trajectories_has_no_counts(tmp_path: Path):
    store = Store(tmp_path / "store")
    put_questions(store, [drawn_image(0)], [])
    nothing = {"grn": 0, "grn_and_cvs": 0, "ratio": None}
    assert counts(store, INGEST) == {"stop_reasons": {}, "cvs_variants_per_question": {}, "expert_calls": nothing}
