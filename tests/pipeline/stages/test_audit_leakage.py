"""Leaks told by names, languages, patients, volumes and words, as printed numbers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_stores import asked, drawn_image, put_questions

from pipeline.stages.audit import AuditReport, audit, show
from schemas.reader import Store
from schemas.records import Image, Question


def found(report: AuditReport) -> dict[str, tuple[str, ...]]:
    return {finding.id: finding.details for finding in report.findings}


def audited(root: Path, images: Sequence[Image], questions: Sequence[Question]) -> dict[str, tuple[str, ...]]:
    store = Store(root / "store")
    numbered = [replace(one, question_id=f"drawn/{number}") for number, one in enumerate(questions)]
    put_questions(store, images, numbered)
    report = audit(store)
    assert report.problems == ()
    return found(report)


def question(image: Image, split: str, **changed: Any) -> Question:
    return asked(0, image, split=split, **changed)


def test_other_pixels_under_the_same_name_leak_by_name(tmp_path: Path):
    images = [drawn_image(number) for number in range(4)]
    renamed = replace(drawn_image(7), path=images[0].path)
    questions = [
        *(question(one, "train") for one in images),
        question(renamed, "test"),
        question(drawn_image(8), "test"),
    ]
    findings = audited(tmp_path, [*images, renamed, drawn_image(8)], questions)
    assert findings["image_leakage"] == ("1 of 2 test images also occur in train (1 by name alone)",)


def test_a_name_that_all_pictures_have_tells_nothing(tmp_path: Path):
    images = [replace(drawn_image(number), path="image.jpg") for number in range(4)]
    splits = ("train", "train", "test", "test")
    findings = audited(tmp_path, images, [question(*one) for one in zip(images, splits, strict=True)])
    assert "image_leakage" not in findings


def test_leaks_are_told_apart_by_language(tmp_path: Path):
    images = [drawn_image(number) for number in range(4)]
    asked_in = [(0, "train", "en"), (1, "train", "zh"), (2, "train", "zh"), (1, "test", "en"), (3, "test", "en")]
    findings = audited(
        tmp_path, images, [question(images[number], split, language=language) for number, split, language in asked_in]
    )
    assert findings["image_leakage"] == ("1 of 2 test images also occur in train",)
    assert findings["language_leakage"] == (
        "0 of 2 en test images also occur in en train",
        "1 of 2 en test images also occur in zh train",
    )


def test_one_language_needs_no_table_of_languages(tmp_path: Path):
    images = [drawn_image(0)]
    findings = audited(tmp_path, images, [question(images[0], "train"), question(images[0], "test")])
    assert "language_leakage" not in findings


def test_patients_and_volumes_of_images_count(tmp_path: Path):
    keys = [("p1", "volume:1"), ("p2", "volume:1"), ("p1", "volume:2"), (None, None)]
    images = [
        replace(drawn_image(number), patient_key=patient, group_key=group)
        for number, (patient, group) in enumerate(keys)
    ]
    splits = ("train", "test", "test", "test")
    findings = audited(tmp_path, images, [question(*one) for one in zip(images, splits, strict=True)])
    assert findings["patient_leakage"] == ("1 test patients also occur in train",)
    assert findings["group_leakage"] == ("1 test articles or volumes also occur in train",)


def test_a_question_on_two_patients_leaks_both(tmp_path: Path):
    images = [replace(drawn_image(number), patient_key=f"p{number % 2}") for number in range(4)]
    both = replace(question(images[2], "test"), image_ids=(images[2].image_id, images[3].image_id))
    findings = audited(tmp_path, images, [question(images[0], "train"), question(images[1], "train"), both])
    assert findings["patient_leakage"] == ("2 test patients also occur in train",)


WORDS = [  # split, words, answer, phrase type
    ("train", "Is it bright?", "no", "freeform"),
    ("train", "Is it bright?", "Yes", "frame"),
    ("train", "Is it bright?", "Yes", "frame"),
    ("train", "Where?", "Left", "freeform"),
    ("test", "Is it  BRIGHT?", "yes", "freeform"),
    ("test", "where?", "left", "freeform"),
    ("test", "Is it dark?", "no", "freeform"),
]


def worded(tmp_path: Path) -> Store:
    images = [drawn_image(number) for number in range(len(WORDS))]
    questions = [
        replace(
            question(image, split, question=words, answer=answer, phrase_type=phrase),
            question_id=f"drawn/{number + 7}",  # 10 comes after 9
            answer_kind="open" if answer.lower() == "left" else "closed",
            answer_type="OPEN" if words == "Is it dark?" else None,
        )
        for number, (image, (split, words, answer, phrase)) in enumerate(zip(images, WORDS, strict=True))
    ]
    store = Store(tmp_path / "store")
    put_questions(store, images, questions)
    return store


def test_words_and_answers_that_are_known_are_counted(tmp_path: Path):
    assert found(audit(worded(tmp_path)))["text_leakage"] == (
        "2 of 3 test questions occur in train with the same words and answer; without templated rows 1 of 3",
    )


def test_the_wording_alone_is_judged_with_and_without_templates_and_by_the_sources_own_kinds(tmp_path: Path):
    rows = audit(worded(tmp_path)).summary["question_only"]
    columns = ("train_rows", "kind", "n_questions", "accuracy", "known_accuracy", "known_accuracy_as_written")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        ("all", "all", 3, pytest.approx(2 / 3), pytest.approx(2 / 3), 0.0),
        ("all", "closed", 1, 1.0, 1.0, 0.0),
        ("all", "open", 2, 0.5, 0.5, 0.0),  # "Is it dark?" is OPEN to its source, and no wording of train
        ("own", "all", 3, pytest.approx(1 / 3), pytest.approx(1 / 3), 0.0),
        ("own", "closed", 1, 0.0, 0.0, 0.0),
        ("own", "open", 2, 0.5, 0.5, 0.0),
    ]


def test_of_equally_common_answers_the_first_asked_is_guessed(tmp_path: Path):
    image = drawn_image(0)
    answers = ("right", "left", "left", "right")
    questions = [
        question(image, split, question="Where?", answer=answer, answer_kind="open")
        for split, answer in [*(("train", answer) for answer in answers), ("test", "right")]
    ]
    store = Store(tmp_path / "store")
    put_questions(store, [image], [replace(one, question_id=f"drawn/{9 + at}") for at, one in enumerate(questions)])
    assert audit(store).summary["question_only"][0]["known_accuracy"] == 1.0


def test_people_read_how_far_the_wording_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    show(audit(worded(tmp_path)))
    told = capsys.readouterr().err
    assert "drawn test en, wording alone, without templated train rows:" in told
    assert "33.3 % of 3 have the usual answer to their wording (closed 0.0 %, open 50.0 %)" in told
