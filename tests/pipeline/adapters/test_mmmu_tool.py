"""MMMU-Pro's tool form: ids, subjects and splits told by image names."""

import json
from collections import Counter

import numpy as np
import pytest

from pipeline.adapters.png import write_png
from pipeline.adapters.sources.mmmu import Mmmu
from schemas.errors import InputError

OPTIONS = [f"finding {number}" for number in range(10)]


def row(name, question="Which? <image 1>", **more):
    return {"question": question, "options": OPTIONS, "answer": "J", "image_1": f"images/{name}"} | more


ROWS = [
    row("test_Clinical_Medicine_69_1.png"),
    row("validation_Biology_1_1.png"),
    row("dev_Pharmacy_2_1.png", "<image 1> <image 2>", image_2="images/dev_Pharmacy_2_2.png", answer="A"),
    row("validation_Pharmacy_3_1.png", image_2=None),
    row("validation_Pharmacy_3_1.png"),
    row("photo.png"),
    row("../../secret.png"),
    row("test_Pharmacy_4_1.png", options=str(OPTIONS)),
    row("test_Pharmacy_5_1.png", options="ten"),
    row("test_Pharmacy_6_1.png", image_1=["images/test_Pharmacy_6_1.png"]),
    row("test_Pharmacy_7_1.png", "<image 1> <image 2>", image_2=7),
    ["no row"],
]
ABSENT = "images/test_Pharmacy_4_1.png"


@pytest.fixture
def root(tmp_path):
    tool = tmp_path / "mmmu-pro" / "tool"
    (tool / "static" / "images").mkdir(parents=True)
    cells = [cell for each in ROWS if isinstance(each, dict) for cell in (each["image_1"], each.get("image_2"))]
    told = {cell for cell in cells if isinstance(cell, str) and ".." not in cell} - {ABSENT}
    for tone, name in enumerate(sorted(told | {"images/unasked.png"})):
        (tool / "static" / name).write_bytes(write_png(np.full((4, 5), tone, np.uint8)))
    (tool / "data.jsonl").write_text("\n".join([*map(json.dumps, ROWS), "", "{oops"]))
    return tmp_path


def read(source):
    found = [source.read(shard) for shard in source.plan()]
    questions = {item.question_id: item for rows in found for item in rows.questions}
    rejects = {item.row_key: item.error_class for rows in found for item in rows.rejects}
    return {image.path: image.image_id for rows in found for image in rows.images}, questions, rejects


def test_image_names_tell_id_split_and_subject(root):
    images, questions, _ = read(Mmmu(root, "all"))
    assert {name: (one.split, one.question_type) for name, one in questions.items()} == {
        "mmmu/pro-test_Clinical_Medicine_69": ("test", "Clinical_Medicine"),
        "mmmu/pro-validation_Biology_1": ("validation", "Biology"),
        "mmmu/pro-dev_Pharmacy_2": ("train", "Pharmacy"),
        "mmmu/pro-validation_Pharmacy_3": ("validation", "Pharmacy"),
    }
    pair = questions["mmmu/pro-dev_Pharmacy_2"]
    assert pair.image_ids == (images["images/dev_Pharmacy_2_1.png"], images["images/dev_Pharmacy_2_2.png"])
    assert (pair.answer, pair.options) == ("finding 0", tuple(OPTIONS))
    assert "images/unasked.png" in images


def test_rows_in_are_questions_and_rejects(root):
    _, questions, rejects = read(Mmmu(root, "all"))
    assert len(questions) + len(rejects) == len(ROWS) + 1
    assert rejects == {
        "data.jsonl#4": "duplicate_qid",
        "data.jsonl#5": "missing_id",
        "data.jsonl#6": "unsafe_path",
        "data.jsonl#7": "missing_image",
        "data.jsonl#8": "bad_options",
        "data.jsonl#9": "missing_id",
        "data.jsonl#10": "missing_image",
        "data.jsonl#11": "malformed_row",
        "data.jsonl#13": "malformed_row",
    }


def test_subjects_not_asked_for_are_left_unread_with_their_images(root):
    images, questions, rejects = read(Mmmu(root))
    assert "mmmu/pro-validation_Biology_1" not in questions
    assert "images/validation_Biology_1_1.png" not in images
    assert (len(questions), len(rejects)) == (3, 9)


def test_the_tool_is_found_below_the_root_and_its_shards_follow_their_files(root):
    tool = root / "mmmu-pro" / "tool"
    sources = [Mmmu(folder, "all") for folder in (root, root / "mmmu-pro", tool)]
    before = [[source.digest(shard) for shard in source.plan()] for source in sources]
    assert before[0] == before[1] == before[2]
    (tool / "static" / ABSENT).write_bytes(write_png(np.full((4, 5), 200, np.uint8)))
    assert [sources[0].digest(shard) for shard in sources[0].plan()] != before[0]
    assert Counter(read(sources[0])[2].values())["missing_image"] == 1


def test_two_forms_in_one_folder_are_refused(root):
    (root / "Pharmacy").mkdir()
    (root / "Pharmacy" / "dev-00000-of-00001.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="two forms"):
        Mmmu(root).plan()
