"""PathVQA as JSON with images and as the Hub's Parquet; its pickles are never opened. Rows in = questions + rejects."""

import hashlib
import json
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.adapters.sources.path_vqa import PathVqa
from schemas.errors import InputError
from schemas.rows import to_table
from tests.pictures import jpeg, read_all, words_digest


def entry(img_id, *pairs):
    return {
        "img_id": img_id,
        "labelf": {"pvqa": [label if isinstance(label, dict) else {label: 1} for _, label in pairs]},
        "sentf": {"pvqa": [asked for asked, _ in pairs]},
    }


TRAIN = [
    entry("train_0000", ("What is shown?", "nests of cells"), ("Is it benign?", "no"), ("Is it benign?", "no")),
    entry("train_0001", ("Is it?", "Yes"), ("What?", ""), ("", "yes"), ("Which?", {"a": 1, "b": 0.3})),
    entry("train_0002"),
    entry("train_0001", ("Is it?", "no")),
]
TEST = [
    entry("test_0003", ("Where?", "in the wall"), ("Who?", {"a": 1, "b": 1}), ("When?", {}), ("Why?", {"a": "1"})),
    entry("test_0404", ("Is it there?", "no")),
    entry("../../x", ("Is it there?", "no")),
    {**entry("test_0003", ("a?", "b"), ("c?", "d")), "sentf": {"pvqa": ["a?"]}},
    "not an entry",
    {"img_id": "test_0003"},
    {key: value for key, value in entry("test_0003", ("Is it?", "no")).items() if key != "img_id"},
]


@pytest.fixture(params=[".", "qas", "pvqa/qas"])
def lxmert(tmp_path, request):
    folder = tmp_path / request.param
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pvqa_train.json").write_text(json.dumps(TRAIN))
    (folder / "pvqa_test.json").write_bytes(json.dumps(TEST).encode("utf-8-sig"))
    images = (folder.parent if folder.name == "qas" else folder) / "images"
    for split, tone in (("train", 0), ("test", 100), ("val", 200)):
        (images / split).mkdir(parents=True)
        for number in range(5):
            (images / split / f"{split}_{number:04d}.jpg").write_bytes(jpeg(tone + 3 * number))
    (images / "test" / "._test_0003.jpg").write_bytes(b"x")
    return tmp_path


def test_every_question_is_kept_or_refused_with_its_place(lxmert):
    source = PathVqa(lxmert)
    assert source.config() == {"form": "lxmert", "splits": ["train", "test"]}
    images, questions, rejects = read_all(source)
    n_pairs = 3 + 4 + 0 + 1 + 4 + 1 + 1 + 1 + 1 + 1 + 1  # an entry that cannot be taken apart is one row
    assert len(questions) + len(rejects) == n_pairs
    assert {key: reject.error_class for key, reject in rejects.items()} == {
        "pvqa_train.json#1.1": "missing_answer",
        "pvqa_train.json#1.2": "missing_question",
        "pvqa_train.json#3.0": "duplicate_qid",
        "pvqa_test.json#0.1": "missing_answer",  # two answers share the best score
        "pvqa_test.json#0.2": "missing_answer",
        "pvqa_test.json#0.3": "missing_answer",
        "pvqa_test.json#1.0": "missing_image",
        "pvqa_test.json#2.0": "unsafe_path",
        "pvqa_test.json#3": "malformed_row",
        "pvqa_test.json#4": "malformed_row",
        "pvqa_test.json#5": "malformed_row",
        "pvqa_test.json#6.0": "missing_image",
    }
    assert len(images) == 15  # those nobody asks about too, a hidden file not
    assert {image.licence for image in images} == {"LicenseRef-PathVQA"}
    assert {image.modality for image in images} == {None}
    assert to_table("questions", list(questions.values())).num_rows == len(questions)


def test_what_a_question_says(lxmert):
    images, questions, _ = read_all(PathVqa(lxmert))
    path_of = {image.image_id: image.path for image in images}
    shown = questions["path-vqa/train_0000-0"]
    assert (shown.question, shown.answer, shown.answer_kind) == ("What is shown?", "nests of cells", "open")
    assert (shown.split, [path_of[one] for one in shown.image_ids]) == ("train", ["images/train/train_0000.jpg"])
    assert questions["path-vqa/train_0000-1"].answer_kind == "closed"
    assert questions["path-vqa/train_0001-0"].answer_kind == "closed"
    assert questions["path-vqa/train_0000-2"].question == "Is it benign?"  # a repeat is kept, as in the original
    assert questions["path-vqa/train_0001-3"].answer == "a"
    assert questions["path-vqa/test_0003-0"].split == "test"


def test_a_digest_tells_of_its_images(lxmert):
    source = PathVqa(lxmert)
    (shard,) = source.plan()
    before = source.digest(shard)
    assert source.digest(shard) == before
    (source.images() / "train" / "train_0000.jpg").write_bytes(jpeg(77))
    assert source.digest(shard) != before


@pytest.mark.parametrize("folder", [".", "qas", "pvqa/qas"])
def test_pickles_alone_are_refused_and_the_way_out_is_told(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / "train_vqa.pkl").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(InputError, match="pickles only") as caught:
        PathVqa(tmp_path).plan()
    assert "pvqa_train.json" in str(caught.value.fix)
    assert "Hub" in str(caught.value.fix)
    assert not (tmp_path / "opened").exists()


def test_an_empty_folder_and_one_with_two_forms_are_refused(lxmert, tmp_path_factory):
    with pytest.raises(InputError, match="no PathVQA here"):
        PathVqa(tmp_path_factory.mktemp("empty")).config()
    write_hub(lxmert)
    with pytest.raises(InputError, match="2 forms"):
        PathVqa(lxmert).plan()


HUB = {
    "train": [(jpeg(1), "what?", "nests"), (jpeg(1), "is it?", "yes"), (jpeg(1), "is it?", "yes"), (None, "a?", "b")],
    "validation": [(jpeg(2), "is it?", "no"), (jpeg(9)[:50], "is it?", "no")],
    "test": [(jpeg(1), "where?", None), (jpeg(3), "where?", "there")],
}


def write_hub(root):
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("question", pa.string()), ("answer", pa.string())])
    (root / "data").mkdir(exist_ok=True)
    for split, rows in HUB.items():
        plain = [
            {"image": None if data is None else {"bytes": data, "path": None}, "question": asked, "answer": answer}
            for data, asked, answer in rows
        ]
        pq.write_table(pa.Table.from_pylist(plain, schema), root / "data" / f"{split}-00000-of-00001.parquet")


def test_the_hub_form(tmp_path):
    write_hub(tmp_path)
    source = PathVqa(tmp_path)
    assert source.config() == {"form": "parquet", "splits": ["train", "validation", "test"]}
    images, questions, rejects = read_all(source)
    assert len(questions) + len(rejects) == sum(map(len, HUB.values()))
    assert sorted(questions) == [
        *("path-vqa/hf-test-1", "path-vqa/hf-train-0", "path-vqa/hf-train-1", "path-vqa/hf-train-2"),
        "path-vqa/hf-validation-0",
    ]
    assert sorted(one.error_class for one in rejects.values()) == [
        *("missing_answer", "missing_image", "unreadable_image")
    ]
    assert {image.image_id for image in images} == {hashlib.sha256(jpeg(tone)).hexdigest() for tone in (1, 2, 3)}
    assert questions["path-vqa/hf-validation-0"].split == "validation"
    assert questions["path-vqa/hf-train-1"].answer_kind == "closed"
    assert all(asdict(image)["path"].endswith(".jpg") for image in images)


def test_revision_is_raised_when_records_change(lxmert):
    assert (PathVqa.revision, words_digest(PathVqa(lxmert))) == (1, "7577a8e4759f")
