"""Near copies between pictures, splits, sources and families, from stored hashes of real encoded pictures."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps
from small_stores import INGEST, asked, put_questions

from pipeline.adapters.pixels import stored_image
from pipeline.stages.audit import AuditReport, audit
from schemas.reader import Store
from schemas.records import Image, Question


def picture(seed: int) -> Pillow.Image:
    cells = np.random.default_rng(seed).integers(0, 256, (12, 12), np.uint8)
    return Pillow.fromarray(cells).resize((200, 160), Pillow.Resampling.BICUBIC)


def stored(shown: Pillow.Image, path: str, source: str = "drawn", **known: str) -> Image:
    buffer = io.BytesIO()
    shown.save(buffer, "PNG")
    image = stored_image(buffer.getvalue(), path, source=source, licence="CC0-1.0", modality=None)
    return replace(image, **known)


def about(number: int, image: Image, split: str, **changed: Any) -> Question:
    question = asked(number, image, split=split, source=image.source, regions=())
    return replace(question, question_id=f"{image.source}-{number}", **changed)


def reported(report: AuditReport, rule: str) -> dict[str, str]:
    return {
        key: detail
        for one in report.findings
        if one.id == rule
        for key, detail in zip(one.keys, one.details, strict=True)
    }


EDITS: dict[str, Callable[[Pillow.Image], Pillow.Image]] = {
    "as is": lambda shown: shown.resize((150, 120)),
    "inverse": ImageOps.invert,
    "mirror": ImageOps.mirror,
    "mirror; inverse": lambda shown: ImageOps.mirror(ImageOps.invert(shown)),
    "trimmed": lambda shown: ImageOps.expand(shown, (30, 5, 60, 0), 0),
}


@pytest.mark.parametrize("form", EDITS)
def test_an_edited_copy_is_found_and_its_edit_named(form: str, tmp_path: Path):
    store = Store(tmp_path / "store")
    images = [stored(picture(seed), f"{seed}.jpg") for seed in range(4)]
    copy = stored(EDITS[form](picture(2)), "copy.jpg")
    questions = [about(number, image, "train") for number, image in enumerate(images)]
    put_questions(store, [*images, copy], [*questions, about(9, copy, "test")])
    report = audit(store)
    assert report.problems == ()
    found = reported(report, "near_duplicates")
    assert found.pop("drawn") == "1 pairs are near copies for certain and 0 are to review, of 5 pictures"
    assert list(found) == ["drawn pair 01"]
    assert {*found["drawn pair 01"].split(" (")[0].split(" and ")} == {"2.jpg", "copy.jpg"}
    assert f"(certain, {form}: PDQ " in found["drawn pair 01"]
    leaks = reported(report, "near_leakage")
    assert leaks == {"drawn test": "1 of 1 pictures have a certain near copy in train, 0 more one to review"}


def test_equal_pixels_and_empty_pictures_are_no_near_copies(tmp_path: Path):
    store = Store(tmp_path / "store")
    image = stored(picture(1), "a.jpg")
    twin = stored_image(image.data + b"trailing", "b.jpg", source="drawn", licence="CC0-1.0", modality=None)
    blanks = [stored(Pillow.new("L", (200, 160), level), f"blank {level}.jpg") for level in (0, 128, 129)]
    images = [image, twin, *blanks]
    splits = ("train", "test", "train", "test", "test")
    put_questions(store, images, [about(*one) for one in zip(range(5), images, splits, strict=True)])
    report = audit(store)
    assert {one.id for one in report.findings}.isdisjoint({"near_duplicates", "near_leakage", "near_sources"})
    assert reported(report, "duplicate_images") == {"drawn": "2 images in 1 groups of equal pixels"}


def two_sources(root: Path, names: tuple[str, str]) -> Store:
    """Source one trains on three pictures; source two tests with a mirrored copy, an equal one, and one of its own."""
    one, two = names
    store = Store(root)
    shown = [picture(seed) for seed in range(4)]
    train = [
        stored(shown[0], "0.jpg", one, patient_key="p0"),
        stored(shown[1], "1.jpg", one, group_key="volume:1"),
        stored(shown[2], "2.jpg", one, origin="nih:2.png"),
    ]
    test = [
        stored(ImageOps.mirror(shown[0]), "a.jpg", two, patient_key="p0"),
        stored(shown[1], "b.jpg", two, group_key="volume:1"),
        stored(shown[3], "c.jpg", two, origin="nih:2.png"),
    ]
    for images, split, source in ((train, "train", one), (test, "test", two)):
        questions = [about(number, image, split) for number, image in enumerate(images)]
        put_questions(store, images, questions, INGEST.replace("drawn", source))
    return store


def test_what_two_sources_share_is_told_by_how_it_is_known(tmp_path: Path):
    report = audit(two_sources(tmp_path / "store", ("alpha", "beta")))
    assert report.problems == ()
    assert reported(report, "shared_pictures") == {
        "alpha beta": "1 images by pixels, 1 by origin, 1 patients, 1 articles or volumes"
    }
    assert reported(report, "source_leakage") == {
        "beta test": "of 3 images 2 also occur in train of alpha, 1 share a patient, 1 an article or volume"
    }
    assert reported(report, "near_sources") == {
        "alpha beta": "1 of 3 pictures have a certain near copy of alpha in beta, 0 more one to review",
        "beta test": "1 of 3 pictures have a certain near copy in train of alpha, 0 more one to review",
    }
    assert reported(report, "families") == {}


def test_two_of_a_family_are_named_with_what_they_share(tmp_path: Path):
    report = audit(two_sources(tmp_path / "store", ("nih-cxr14", "slake")))
    assert reported(report, "families") == {
        "nih": "nih-cxr14, slake were made from one pool; in common here: 2 pictures by pixels or origin, "
        "1 by certain near copies, 0 to review; make splits over the whole family"
    }


def test_one_of_a_family_alone_is_no_finding(tmp_path: Path):
    assert reported(audit(two_sources(tmp_path / "store", ("slake", "vqa-rad"))), "families") == {}


def test_only_the_nearest_pairs_are_named_but_all_are_counted(tmp_path: Path):
    store = Store(tmp_path / "store")
    images = [stored(picture(1).resize((200 + 3 * step, 160)), f"{step}.jpg") for step in range(6)]
    put_questions(store, images, [about(0, images[0], "train")])
    found = reported(audit(store), "near_duplicates")
    assert found["drawn"] == "15 pairs are near copies for certain and 0 are to review, of 6 pictures"
    distances = [int(detail.split("PDQ ")[1].split()[0]) for key, detail in found.items() if key != "drawn"]
    assert len(distances) == 10
    assert distances == sorted(distances)
