"""An audit names the file, the row and the rule."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import typer
from small_stores import (
    INGEST,
    SEARCHED,
    tampered,
)
from typer.testing import CliRunner

from pipeline.stages.audit import AuditReport, audit, command
from schemas.errors import StoreError
from schemas.reader import Store

app = typer.Typer()
app.command()(command)
Rows = list[dict[str, Any]]


def caught(report: AuditReport) -> dict[str, tuple[str, ...]]:
    return {problem.id: problem.keys for problem in report.problems}


def test_a_sound_store_has_no_problems_and_no_findings(searched_store: Store):
    report = audit(searched_store)
    assert (report.problems, report.findings, report.skipped) == ((), (), ())
    assert report.counts["questions"] == 18
    assert {one["origin"] for one in report.summary["trajectories"]} == {
        "cvs", "drill_only", "grn", "random", "scan_only"
    }  # fmt: skip
    assert sum(one["n_questions"] for one in report.summary["variants"]) == 18


def first(rows: Rows, **fits: Any) -> dict[str, Any]:
    return next(row for row in rows if all(row[name] == value for name, value in fits.items()))


def drill(row: dict[str, Any]) -> int:
    return row["step_mode"].index("drill")


def wrong_gain(rows: Rows) -> str:
    row = first(rows, origin="grn")
    row["step_delta_c"][drill(row)] += 0.5
    return f"{SEARCHED} {row['question_id']} grn variant 0 step {drill(row)}"


def wrong_stop(rows: Rows) -> str:
    row = first(rows, origin="grn", stop_reason="length")
    row["stop_reason"] = "exhausted"
    return f"{SEARCHED} {row['question_id']} grn variant 0"


def wrong_box(rows: Rows) -> str:
    row = first(rows, origin="grn")
    row["step_x1"][drill(row)] = 1000.0
    return f"{SEARCHED} {row['question_id']} grn variant 0 step {drill(row)}"


def wrong_answer_of_a_call(rows: Rows) -> str:
    row = first(rows, origin="grn")
    row["step_conf_after"][drill(row)] *= 1 - 1e-6
    return f"{SEARCHED} {row['question_id']} grn variant 0 step {drill(row)}"


def cold_draw(rows: Rows) -> str:
    row = first(rows, origin="cvs")
    row["temperature"] = 0.0
    return f"{SEARCHED} {row['question_id']} cvs variant {row['variant']}"


def wrong_draw(rows: Rows) -> str:
    row = next(row for row in rows if row["origin"] == "cvs" and len(row["step_nucleus"][1]) > 1)
    row["step_region"][1] = next(region for region in row["step_nucleus"][1] if region != row["step_region"][1])
    return f"{SEARCHED} {row['question_id']} cvs variant {row['variant']} step 1"


def lost_question(rows: Rows) -> str:
    question_id = rows[0]["question_id"]
    rows[:] = [row for row in rows if row["question_id"] != question_id]
    return f"{SEARCHED} {question_id}"


@pytest.mark.parametrize(
    ("rule", "edit"),
    [
        ("delta_c", wrong_gain),
        ("stop_reason", wrong_stop),
        ("box_bounds", wrong_box),
        ("call_answer", wrong_answer_of_a_call),
        ("cvs_draw", wrong_draw),
        ("cvs_draw", cold_draw),
        ("unaccounted_questions", lost_question),
    ],
)
def test_one_wrong_value_is_named(rule: str, edit: Callable[[Rows], str], own_store: Store):
    expected = []
    tampered(own_store, "trajectories", "train", lambda rows: expected.append(edit(rows)))
    assert expected[0] in caught(audit(own_store))[rule]


def test_a_missing_call_is_named(own_store: Store):
    calls = []
    tampered(own_store, "expert_calls", "pool", lambda rows: calls.append(rows.pop()["call_id"]))
    problems = {problem.id: problem for problem in audit(own_store).problems}
    assert all(calls[0] in detail for detail in problems["call_exists"].details)


def test_a_flipped_byte_and_a_missing_part_are_named_and_the_rest_is_still_checked(own_store: Store):
    paths = {part.table: part.path for _, part in own_store.head().parts()}
    tampered(own_store, "trajectories", "train", lambda rows: wrong_gain(rows) and None)
    flipped = own_store.root / paths["images"]
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    (own_store.root / paths["expert_calls"]).unlink()

    report = audit(own_store)
    assert caught(report)["part_files"] == tuple(sorted((paths["images"], paths["expert_calls"])))
    assert caught(report).keys() == {"part_files", "delta_c"}
    assert {"box_bounds", "call_exists", "question_images"} <= set(report.skipped)


@pytest.mark.parametrize(
    ("claim", "wrong"),
    [
        ({"rows": 7}, "rows"),
        ({"bytes": 1}, "bytes"),
        ({"sha256": "0" * 64}, "sha256"),
        ({"table": "rejects"}, "schema"),
    ],
)
def test_a_file_that_is_not_what_the_manifest_claims(claim: dict[str, Any], wrong: str, own_store: Store):
    head = own_store.head()
    ingested = head.slices[INGEST]
    parts = tuple(replace(part, **claim) if part.table == "images" else part for part in ingested.parts)
    path = own_store.manifests / f"v{head.version + 1}.json"
    path.write_bytes(head.with_slice(replace(ingested, parts=parts)).to_bytes())
    problem = next(problem for problem in audit(own_store).problems if problem.id == "part_files")
    assert wrong in problem.details[0]


def test_an_edited_history_is_named(own_store: Store):
    path = own_store.manifests / "v1.json"
    other = replace(own_store.load(1), parent="0" * 64)
    path.write_bytes(other.to_bytes())
    assert caught(audit(own_store)).keys() == {"manifest_chain"}
    path.write_bytes(path.read_bytes() + b" ")
    assert caught(audit(own_store))["manifest_chain"] == ("v1.json",)
    path.unlink()  # removed on purpose: nothing to compare with
    assert caught(audit(own_store)) == {}


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"width": 65}, "decodes to 64 x 48"),
        ({"pixel_sha256": "0" * 64}, "pixels"),
        ({"image_id": "0" * 64}, "sha256"),
        ({"image": {"bytes": b"no image", "path": "x.png"}}, "sha256"),
        ({"image": {"bytes": None, "path": "x.png"}}, "no bytes"),
        ({"pdq": "0" * 64}, "another pdq"),
        ({"phash_mirror": "0" * 16, "pdq_trimmed": "0" * 64}, "another pdq_trimmed, phash_mirror"),
    ],
)
def test_an_image_that_is_not_what_its_row_says(changed: dict[str, Any], wrong: str, own_store: Store):
    tampered(own_store, "images", "pool", lambda rows: rows[3].update(changed))
    problem = next(problem for problem in audit(own_store).problems if problem.id == "image_bytes")
    assert problem.n == 1
    assert wrong in problem.details[0]


def test_a_null_where_none_may_be(own_store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipeline.adapters.files.check", lambda *_, **__: None)
    tampered(own_store, "questions", "test", lambda rows: rows[0].update(answer=None))
    tampered(own_store, "images", "pool", lambda rows: rows[0].update(image=None))
    tampered(own_store, "trajectories", "train", lambda rows: first(rows, origin="cvs").update(step_mode=None))
    missing = caught(audit(own_store))["missing_values"]
    assert missing == (f"{INGEST} images.image", f"{INGEST} questions.answer", f"{SEARCHED} trajectories.step_mode")


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def test_the_command_speaks_json_and_exit_codes(own_store: Store):
    sound = invoke("--store", own_store.root, "--json")
    plain = json.loads(sound.stdout)
    assert sound.exit_code == 0
    assert (plain["problems"], plain["findings"], plain["trajectories"] > 50) == ([], [], True)
    assert plain["digest"] == own_store.head().digest

    tampered(own_store, "trajectories", "train", lambda rows: wrong_gain(rows) and None)
    broken = invoke("--store", own_store.root, "--json")
    assert broken.exit_code == 1
    problem = json.loads(broken.stdout)["problems"][0]
    assert (problem["id"], problem["n"], len(problem["keys"])) == ("delta_c", 1, 1)
    assert invoke("--store", own_store.root, "--version", "v2").exit_code == 0


def test_no_store_is_an_error(tmp_path: Any):
    with pytest.raises(StoreError, match="no store here"):
        audit(Store(tmp_path))
