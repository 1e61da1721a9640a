"""MedXpertQA-MM in both its forms: the options leave the question, every image keeps its place."""

import io
import json
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from PIL import Image as Pillow

from pipeline.adapters.sources.medxpertqa import MedXpertQa
from pipeline.stages.audit import audit
from pipeline.stages.ingest import ingest
from schemas.errors import InputError
from schemas.reader import Store

TEXTS = ('Graves" disease', "Iron deficiency", "Sarcoidosis, stage  II", "End-stage renal disease", "Figure C")


def appended(texts, before="What is it?"):
    return f"{before}\nAnswer Choices: " + " ".join(
        f"({letter}) {text}" for letter, text in zip("ABCDE", texts, strict=False)
    )


def row(number, images=("a.jpeg",), texts=TEXTS, **more):
    base = {"id": f"MM-{number}", "question": appended(texts), "options": dict(zip("ABCDE", texts, strict=False))}
    base |= {"label": "B", "images": [f"MM-{number}-{name}" for name in images], "medical_task": "Diagnosis"}
    return base | {"body_system": "Skeletal", "question_type": "Reasoning"} | more


def as_input(row):
    """The same row as the authors' evaluation code reads it."""
    options = [{"letter": letter, "content": text} for letter, text in row["options"].items()]
    return row | {
        "options": options,
        "label": [row["label"]],
        "images": [{"image_path": name} for name in row["images"]],
    }


GOOD = [
    row(1),
    row(2, ("a.png", "b.JPG", "c.jpg", "d.jpeg", "e.jpeg", "f.jpeg"), label="E"),
    row(10, texts=("D", "B", "E", "C", "A"), label="A"),
    row(4, question="No copy here."),
    row(5, question=appended(TEXTS).replace(" (", "\n("), label="C"),
]
BAD = [
    (row(1, ("z.png",)), "duplicate_qid"),
    (row(20, ("absent.png",)), "missing_image"),
    (row(21, ("broken.png",)), "unreadable_image"),
    (row(22, question=appended(TEXTS[:4])), "options_differ"),
    (row(23, label="F"), "bad_answer"),
    (row(24, label=["A", "B"]), "missing_label"),
    (row(25, label=None), "missing_label"),
    (row(26, options=list(TEXTS)), "bad_options"),
    (row(27, options={"A": "x", "C": "y"}), "bad_options"),
    (row(28, options={"A": "x", "B": " "}), "bad_options"),
    (row(29, images=()), "missing_images"),
    (row(30) | {"images": "MM-30-a.jpeg"}, "missing_images"),
    (row(31) | {"images": [None]}, "missing_images"),
    (row(32) | {"images": ["../x.png"]}, "unsafe_path"),
    (row(33, question=appended(TEXTS, before="")), "missing_question"),
    (row(34, question=None), "missing_question"),
    ({**row(35), "id": ""}, "missing_id"),
    ("text", "malformed_row"),
]


DEV = [row(900)]


def picture(tone, kind):
    buffer = io.BytesIO()
    Pillow.fromarray(np.full((20, 24, 3), tone, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def write_images(folder, rows):
    folder.mkdir(parents=True)
    told = [name for row in rows if isinstance(row, dict) for name in row["images"] if isinstance(name, str)]
    names = {name for name in told if name.startswith("MM-") and "absent" not in name} | {"MM-99-unasked.jpeg"}
    for tone, name in enumerate(sorted(names)):
        data = b"\x89PNG" if "broken" in name else picture(5 * tone, "PNG" if name.endswith("png") else "JPEG")
        (folder / name).write_bytes(data)


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def hub(tmp_path):
    rows = [*GOOD, *(row for row, _ in BAD)]
    write_images(tmp_path / "images", rows + DEV)
    (tmp_path / "MM").mkdir()
    (tmp_path / "MM" / "test.jsonl").write_text(lines(rows) + "not json\n")
    (tmp_path / "MM" / "dev.jsonl").write_text(lines(DEV))
    return tmp_path


def read(source):
    found = [source.read(shard) for shard in source.plan()]
    questions = {item.question_id.removeprefix("medxpertqa/"): item for rows in found for item in rows.questions}
    rejects = {item.row_key: item for rows in found for item in rows.rejects}
    assert len(questions) == sum(len(rows.questions) for rows in found)
    assert len(rejects) == sum(len(rows.rejects) for rows in found)
    return {image.image_id: image.path for rows in found for image in rows.images}, questions, rejects


def test_every_row_is_a_question_or_a_reject(hub):
    images, questions, rejects = read(MedXpertQa(hub))
    splits = {name: item.split for name, item in questions.items()}
    assert splits == {
        "MM-1": "test",
        "MM-2": "test",
        "MM-10": "test",
        "MM-4": "test",
        "MM-5": "test",
        "MM-900": "train",
    }
    wanted = {f"test.jsonl#{number}": kind for number, (_, kind) in enumerate(BAD, len(GOOD))}
    wanted[f"test.jsonl#{len(GOOD) + len(BAD)}"] = "malformed_row"
    assert {key: item.error_class for key, item in rejects.items()} == wanted
    assert not any(str(hub) in item.message for item in rejects.values())
    assert f"line {len(GOOD) + len(BAD) + 1} is no JSON" in rejects[f"test.jsonl#{len(GOOD) + len(BAD)}"].message
    assert "images/MM-99-unasked.jpeg" in images.values()


def test_images_come_in_the_order_of_the_row(hub):
    images, questions, _ = read(MedXpertQa(hub))
    assert [images[name] for name in questions["MM-2"].image_ids] == [f"images/{name}" for name in GOOD[1]["images"]]


def test_options_leave_the_question_and_the_gold_is_one_of_them(hub):
    _, questions, _ = read(MedXpertQa(hub))
    first, labelled = questions["MM-1"], questions["MM-10"]
    assert (first.question, first.answer, first.answer_kind) == ("What is it?", "Iron deficiency", "choice")
    assert first.options == TEXTS
    assert (labelled.options, labelled.answer) == (
        ("D", "B", "E", "C", "A"),
        "A",
    )  # the letter: its text D is another's
    assert questions["MM-4"].question == "No copy here."
    assert (questions["MM-5"].question, questions["MM-5"].answer) == ("What is it?", TEXTS[2])
    assert first.question_type == "Reasoning"


@pytest.mark.parametrize("folder", [".", "eval/data/medxpertqa/input", "eval/data/medxpertqa_sampled/input"])
@pytest.mark.parametrize("images", ["root", "beside", "above"])
def test_the_evaluation_input_gives_the_same_test_questions(tmp_path, hub, folder, images):
    root = tmp_path / "github"
    inputs = root / folder
    inputs.mkdir(parents=True)
    (inputs / "medxpertqa_mm_input.jsonl").write_text(lines([as_input(row) for row in GOOD]))
    home = {"root": root, "beside": inputs, "above": inputs.parent}[images]
    (hub / "images").rename(home / "images")
    source = MedXpertQa(root)
    assert source.config() == {"form": "input"}
    _, questions, rejects = read(source)
    assert [*rejects] == ["MM-21-broken.png"]  # nobody asks about it here
    (home / "images").rename(hub / "images")
    from_hub = read(MedXpertQa(hub))[1]
    assert questions == {name: item for name, item in from_hub.items() if item.split == "test"}


def test_a_digest_follows_rows_and_images(hub):
    def digests():
        return [MedXpertQa(hub).digest(shard) for shard in MedXpertQa(hub).plan()]

    before = digests()
    assert digests() == before
    (hub / "images" / "MM-2-f.jpeg").write_bytes(picture(250, "JPEG"))
    assert digests() != before
    ForkingPickler.dumps((MedXpertQa(hub), MedXpertQa(hub).plan()))


def test_a_store_of_it_passes_the_audit(hub, tmp_path):
    store = Store(tmp_path / "store")
    built = ingest(store, MedXpertQa(hub))
    assert built.slice.licences == ("MIT",)
    assert built.summary()["rows"]["questions"] == {"train": 1, "test": len(GOOD)}
    assert built.summary()["rows"]["rejects"] == {"pool": len(BAD) + 1}
    assert not audit(store).problems


def test_a_folder_that_is_none_says_what_is_expected(tmp_path):
    with pytest.raises(InputError, match="no MedXpertQA here") as caught:
        MedXpertQa(tmp_path).plan()
    assert "MM/test.jsonl" in caught.value.fix
    (tmp_path / "test.jsonl").write_text(lines(GOOD))
    with pytest.raises(InputError, match="no folder images/") as caught:
        MedXpertQa(tmp_path).plan()
    assert "images.zip" in caught.value.fix
