"""Facts about a source are findings, not problems: leaks, duplicates, imbalance, rejects, privileged and stale rows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from small_stores import (
    INGEST,
    asked,
    drawn_image,
    put_questions,
    put_searches,
    put_slice,
    searched,
    small_store,
)
from typer.testing import CliRunner

from pipeline.adapters.pixels import stored_image
from pipeline.stages.audit import AuditReport, audit, command
from schemas.reader import Store
from schemas.records import Image, Question, Reject
from schemas.rows import to_table

app = typer.Typer()
app.command()(command)


def found(report: AuditReport) -> dict[str, tuple[str, ...]]:
    return {finding.id: finding.details for finding in report.findings}


def invoke(store: Store, *options: str) -> Any:
    return CliRunner().invoke(app, ["--store", str(store.root), *options], catch_exceptions=False)


def leaky(root: Path, **changed: Any) -> Store:
    """Four images; the test question repeats the picture of a train question in another file, and its text."""
    store = Store(root)
    images = [drawn_image(number) for number in range(4)]
    copy = stored_image(images[0].data + b"trailing", "copy.png", source="drawn", licence="CC0-1.0", modality=None)
    questions = [asked(number, images[number], split="train") for number in range(4)]
    questions.append(replace(asked(0, copy, split="test", **changed), question_id="drawn-copy"))
    put_questions(store, [*images, copy], questions)
    return store


def test_leaks_are_findings(tmp_path: Path):
    findings = found(audit(leaky(tmp_path / "store", question=" is SPOT 0  bright?")))
    assert findings["image_leakage"] == ("1 of 1 test images also occur in train",)
    assert findings["question_leakage"] == ("1 test questions occur in train with the same image, words and answer",)
    assert findings["duplicate_images"] == ("2 images in 1 groups of equal pixels",)


def test_another_answer_is_no_question_leak(tmp_path: Path):
    assert "question_leakage" not in found(audit(leaky(tmp_path / "store", answer="no")))


def test_templated_rows_are_told_apart(tmp_path: Path):
    findings = found(audit(leaky(tmp_path / "store", phrase_type="frame")))
    assert findings["image_leakage"] == ("1 of 1 test images also occur in train; without templated rows 0 of 0",)


def many(n: int, answer: Callable[[int], str], **changed: Any) -> tuple[tuple[Image, ...], list[Question]]:
    image = drawn_image(0), drawn_image(1)
    questions = [
        asked(number, image[number % 2], split=("train", "test")[number % 2], answer=answer(number), **changed)
        for number in range(n)
    ]
    return image, questions


def test_unbalanced_and_guessable_answers_are_findings(tmp_path: Path):
    store = Store(tmp_path / "store")
    images, questions = many(100, lambda number: "no" if number % 10 < 2 else "yes", question="Is it bright?")
    put_questions(store, images, questions)
    findings = found(audit(store))
    assert findings["class_balance"] == tuple(
        "80.0 % of 50 closed questions are answered yes" for _ in ("test", "train")
    )
    assert findings["question_only"] == ("80.0 % of 50 closed questions need no image",)


def test_balanced_answers_are_no_finding_but_in_the_summary(tmp_path: Path):
    store = Store(tmp_path / "store")
    images, questions = many(100, lambda number: ("yes", "no")[number // 2 % 2], question="Is it bright?")
    put_questions(store, images, questions)
    report = audit(store)
    assert not {"class_balance", "question_only"} & found(report).keys()
    assert report.summary["question_only"][0]["accuracy"] == 0.5


def test_a_question_asked_twice_is_a_finding(tmp_path: Path):
    store = Store(tmp_path / "store")
    image = drawn_image(0)
    put_questions(store, [image], [asked(0, image), replace(asked(0, image), question_id="drawn-again")])
    assert found(audit(store))["duplicate_questions"] == ("1 questions repeat another one",)


def test_patients_in_two_splits_are_a_finding(tmp_path: Path):
    store = Store(tmp_path / "store")
    images, questions = many(4, lambda number: "yes")
    put_questions(store, images, [replace(one, patient_key=f"p{number // 3}") for number, one in enumerate(questions)])
    assert found(audit(store))["patient_leakage"] == ("1 test patients also occur in train",)


def test_rejects_are_a_finding_by_reason(own_store: Store):
    rejects = [Reject("ingest", "drawn", "0", f"row {number}", "unreadable", "cut short") for number in range(3)]
    put_slice(own_store, "ingest/drawn/broken", {("rejects", "pool"): to_table("rejects", rejects)}, {})
    assert found(audit(own_store))["rejected_rows"] == ("3 rows, for example row 0: cut short",)


def test_privileged_rows_outside_train_and_stale_inputs_are_findings(tmp_path: Path):
    store = small_store(tmp_path / "store", 3)
    images = [drawn_image(number) for number in range(3)]
    questions = [asked(number, image) for number, image in enumerate(images)]
    put_searches(store, searched(questions, privileged=True))
    put_questions(store, [*images, drawn_image(9)], questions)
    report = audit(store)
    assert report.problems == ()
    assert set(found(report)) == {"privileged_rows", "stale_inputs"}
    assert found(report)["stale_inputs"] == (f"was made from an older {INGEST}; build it again",)


def test_findings_fail_only_when_strict(tmp_path: Path):
    store = leaky(tmp_path / "store")
    assert invoke(store).exit_code == 0
    assert invoke(store, "--strict").exit_code == 1


def test_people_read_it_on_stderr(tmp_path: Path):
    done = invoke(leaky(tmp_path / "store"))
    assert done.stdout == ""
    assert "problems: none" in done.stderr
    assert "drawn test: 1 of 1 test images also occur in train" in done.stderr
