"""Macros agree with Python, and the views count what the rows hold."""

import math
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_stores import rows_of

from pipeline.adapters.catalog import catalog_sql, connect
from pipeline.core.grn import delta_c
from schemas.boxes import inside, iou
from schemas.manifest import EMPTY
from schemas.reader import Store

numbers = st.floats(-50, 50, width=32)
boxes = st.tuples(numbers, numbers, numbers, numbers)


@pytest.fixture(scope="module")
def con():
    import duckdb

    made = duckdb.connect()
    made.execute(catalog_sql(EMPTY))
    return made


def one(con: Any, text: str, *values: Any) -> Any:
    return con.execute(f"SELECT {text}", values).fetchone()[0]


@given(a=boxes, b=boxes)
@settings(max_examples=60, deadline=None)
def test_box_iou_is_the_one_of_python(con: Any, a: tuple, b: tuple):
    assert one(con, "box_iou(?, ?, ?, ?, ?, ?, ?, ?)", *a, *b) == iou(a, b)


@pytest.mark.parametrize(
    "box",
    [
        (0.0, 0.0, 64.0, 48.0),  # the whole image
        (0.0, 0.0, 64.5, 48.0),
        (-0.1, 0.0, 4.0, 4.0),
        (4.0, 0.0, 4.0, 4.0),  # empty
        (5.0, 0.0, 4.0, 4.0),  # inverted
        (0.0, math.nan, 4.0, 4.0),
        (0.0, 0.0, math.inf, 4.0),
    ],
)
def test_box_inside_is_the_one_of_python(con: Any, box: tuple):
    assert one(con, "box_inside(?, ?, ?, ?, 64, 48)", *box) == inside(box, (64, 48))


def test_a_box_with_a_null_is_not_inside(con: Any):
    assert one(con, "box_inside(0, 0, NULL, 4, 64, 48)") is False


@given(before=st.floats(0, 1, width=32), after=st.floats(0, 1, width=32))
@settings(max_examples=60, deadline=None)
def test_delta_c_is_the_one_of_the_machine_to_the_last_bit(con: Any, before: float, after: float):
    assert one(con, "delta_c(?, ?)", before, after) == delta_c(before, after)


@pytest.mark.parametrize(
    ("a", "b", "agree"),
    [
        (0.5, 0.5 + 9e-7, True),
        (0.5, 0.5 + 2e-6, False),
        (1e6, 1e6 + 0.5, True),  # relative above 1
        (None, None, True),
        (None, 0.0, False),
        (math.nan, 0.0, False),
    ],
)
def test_agrees(con: Any, a: float | None, b: float | None, agree: bool):
    assert one(con, "agrees(?, ?)", a, b) is agree


def test_steps_are_the_steps_of_the_rows(searched_store: Store):
    rows = rows_of(searched_store, "trajectories", "train") + rows_of(searched_store, "trajectories", "test")
    con = connect(searched_store)
    n_steps = sum(len(row["step_mode"]) for row in rows)
    for view in ("steps", "steps_geom", "steps_conf", "steps_text"):
        assert con.execute(f"SELECT count(*) FROM {view}").fetchall() == [(n_steps,)]
    row = rows[0]
    key = [row["question_id"], row["origin"], row["variant"]]
    found = con.execute(
        "SELECT step, mode, region, x0, conf_after, candidates, text FROM steps"
        " WHERE question_id = ? AND origin = ? AND variant = ? ORDER BY step",
        key,
    ).fetchall()
    columns = ("step_mode", "step_region", "step_x0", "step_conf_after", "step_candidates", "step_text")
    assert found == [(step, *values) for step, values in enumerate(zip(*(row[c] for c in columns), strict=True))]


def test_regions_know_their_image(searched_store: Store):
    con = connect(searched_store)
    question = rows_of(searched_store, "questions", "test")[0]
    found = con.execute(
        "SELECT image_id, x0, y0, x1, y1, label FROM regions WHERE question_id = ?", [question["question_id"]]
    ).fetchall()
    assert found == [(question["image_ids"][0], 10.0, 1.0, 20.0, 7.0, "spot")]


def test_call_counts_and_variants_count_what_is_there(searched_store: Store):
    rows = rows_of(searched_store, "trajectories", "train") + rows_of(searched_store, "trajectories", "test")
    calls: dict[str, set[str]] = defaultdict(set)
    paths: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        calls[row["origin"]] |= {call for call in row["step_call_id"] if call}
        if row["origin"] in ("grn", "cvs"):
            paths[row["question_id"]].add(repr((row["step_region"], row["step_mode"])))
    con = connect(searched_store)
    counted = con.execute("SELECT n_calls_grn, n_calls_grn_cvs, ratio FROM call_counts").fetchall()
    grn, both = len(calls["grn"]), len(calls["grn"] | calls["cvs"])
    assert counted == [(grn, both, both / grn)]
    found = dict(con.execute("SELECT question_id, n_paths FROM variants_per_question").fetchall())
    assert found == {question_id: len(one) for question_id, one in paths.items()}
    assert max(found.values()) > 2  # the fixture is not trivial


def test_choices_recompute_what_the_sampler_stored(searched_store: Store):
    con = connect(searched_store)
    wide, n = con.execute(
        "SELECT count(*) FILTER (len(nucleus) > 1), count(*) FROM choices WHERE nucleus = ranked_ids[1:n_nucleus]"
    ).fetchone()
    assert wide > 5
    assert con.execute("SELECT count(*) FROM choices").fetchone() == (n,)


def test_overlapping_regions_are_in_the_fixture(searched_store: Store):
    """Else the rule that a choice leaves out what overlaps a visited region would be tested by nothing."""
    con = connect(searched_store)
    left_out = con.execute("""
        SELECT count(*) FROM (
            SELECT len(region_label) - len(step_candidates[i]) AS n_gone, len([
                j FOR j IN generate_series(1, i - 1) IF step_round[j] = 1
            ]) AS n_visited
            FROM (SELECT *, unnest(generate_series(1, len(step_mode))) AS i FROM trajectories WHERE origin = 'grn')
            WHERE len(step_candidates[i]) > 0
        ) WHERE n_gone > n_visited
    """).fetchone()
    assert left_out[0] > 0
