"""Checks explain themselves, pass a sound store, and name wrong questions and calls."""

from pathlib import Path
from typing import Any

import pytest
from small_stores import INGEST, SEARCHED, keys_of, small_store, tampered

from pipeline.adapters.catalog import connect
from pipeline.stages.audit_rows import load_checks, run_check
from schemas.reader import Store

Rows = list[dict[str, Any]]


def test_a_sound_store_breaks_no_rule(searched_store: Store):
    con = connect(searched_store)
    assert [check.id for check in load_checks() if run_check(con, check).n] == []


def test_scanning_again_and_silent_drills_break_no_rule(tmp_path: Path):
    store = small_store(tmp_path / "store", 30, rescans=True)
    con = connect(store)
    assert [check.id for check in load_checks() if run_check(con, check).n] == []
    several = "SELECT count(*) FROM trajectories WHERE len(list_distinct(region_call_id)) > 1"
    assert con.execute(several).fetchone()[0] > 3
    silent = "SELECT count(*) FROM expert_calls WHERE mode = 'drill' AND len(candidate_conf) = 0"
    assert con.execute(silent).fetchone()[0] > 3


QUESTIONS = {
    "image": ("question_images", {"image_ids": ["0" * 64]}, ""),
    "no image": ("question_images", {"image_ids": []}, ""),
    "region outside": ("question_regions", {"region_x1": [65.0]}, " region 0"),
    "region on no image": ("question_regions", {"region_image": [1]}, " region 0"),
    "kind": ("enums", {"answer_kind": "essay"}, ""),
    "lists": ("list_lengths", {"region_label": []}, ""),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_a_wrong_question_is_named(case: str, own_store: Store):
    rule, changed, suffix = QUESTIONS[case]
    tampered(own_store, "questions", "train", lambda rows: rows[0].update(changed))
    assert f"{INGEST} drawn-0000{suffix}" in keys_of(own_store, rule)


CALLS = {
    "confidence": ("confidence_range", {"candidate_conf": [-0.1]}),
    "candidate": ("box_bounds", {"candidate_x1": [64.5]}),
    "mode": ("call_shape", {"mode": "scan"}),
    "question": ("call_shape", {"question_id": "drawn-9999"}),
    "words of no failure": ("call_shape", {"message": "late"}),
    "failure without words": ("call_shape", {"error_class": "timeout", "candidate_conf": []}),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_wrong_call_is_named(case: str, own_store: Store):
    rule, changed = CALLS[case]
    calls = []

    def edit(rows: Rows) -> None:
        row = next(row for row in rows if row["mode"] == "drill")
        row.update(changed)
        calls.append(row["call_id"])

    tampered(own_store, "expert_calls", "pool", edit)
    assert f"{SEARCHED} {calls[0]}" in keys_of(own_store, rule)


def test_a_failed_call_supports_nothing(own_store: Store):
    def fail(rows: Rows) -> None:
        row = next(row for row in rows if row["mode"] == "drill")
        row.update(error_class="timeout")

    tampered(own_store, "expert_calls", "pool", fail)
    assert keys_of(own_store, "call_exists")


def test_every_check_says_what_it_is():
    checks = load_checks()
    assert len({check.id for check in checks}) == len(checks)
    assert {check.severity for check in checks} == {"error", "finding"}
    assert all(check.explain and check.explain == check.explain.strip() for check in checks)
