"""MMMU from the Hub's Parquet: several images a question, options as a literal, answers that are withheld."""

import io
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from pipeline.adapters.sources import mmmu_parquet
from pipeline.adapters.sources.mmmu import HEALTH, Mmmu
from schemas.errors import InputError, UsageError
from schemas.rows import to_table

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXTS = ("id", "question", "options", "explanation", "answer", "topic_difficulty", "question_type", "subfield")
SCHEMA = pa.schema(
    [*((name, pa.string()) for name in TEXTS), ("img_type", pa.string())]
    + [(f"image_{number}", IMAGE) for number in range(1, 8)]
)


def png(tone: int) -> dict:
    buffer = io.BytesIO()
    Pillow.fromarray(np.full((6, 8), tone, np.uint8)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": f"tone_{tone}.png"}


def row(number, question="What is in <image 1>?", split="validation", subject="Pharmacy", **more):
    base = dict.fromkeys(SCHEMA.names) | {"id": f"{split}_{subject}_{number}", "question": question}
    base |= {"options": "['a cyst', 'a clip']", "answer": "B", "question_type": "multiple-choice"}
    return base | {"image_1": png(number), "explanation": "", "img_type": "['Tables']"} | more


def write(root, rows, subject="Pharmacy", split="validation", part="00000-of-00001", group=2):
    (root / subject).mkdir(exist_ok=True, parents=True)
    path = root / subject / f"{split}-{part}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, row_group_size=group)
    return path


def read(source):
    found = [source.read(shard) for shard in source.plan()]
    images = {image.image_id: image for rows in found for image in rows.images}
    questions = {item.question_id.removeprefix("mmmu/"): item for rows in found for item in rows.questions}
    rejects = {item.row_key: item for rows in found for item in rows.rejects}
    assert len(questions) == sum(len(rows.questions) for rows in found)
    assert len(rejects) == sum(len(rows.rejects) for rows in found)
    return images, questions, rejects


def tones(question, images):
    """What each image of a question shows, in order."""
    return [int(images[name].path.removeprefix("tone_").removesuffix(".png")) for name in question.image_ids]


def one(tmp_path, **more):
    write(tmp_path, [row(1, **more)])
    images, questions, rejects = read(Mmmu(tmp_path, "Pharmacy"))
    assert len(questions) + len(rejects) == 1
    return images, next(iter(questions.values()), None), next(iter(rejects.values()), None)


def test_a_choice_between_images_keeps_their_order_and_its_letter(tmp_path):
    more = {f"image_{number}": png(10 * number) for number in range(2, 8)}
    options = "['<image 2>', \"<image 3>\", '<image 4> (lateral)', '<image 7>']"
    images, question, _ = one(tmp_path, question="Which fits <image 1>?", options=options, answer="C", **more)
    assert tones(question, images) == [1, 20, 30, 40, 50, 60, 70]  # 5 and 6 are named nowhere, and shown
    assert question.options == ("<image 2>", "<image 3>", "<image 4> (lateral)", "<image 7>")
    assert (question.answer, question.answer_kind) == ("C", "choice")
    assert (question.split, question.question_type, question.source) == ("validation", "Pharmacy", "mmmu")


def test_numbers_count_the_images_shown_where_columns_are_null(tmp_path):
    more = {"image_1": None, "image_3": png(30), "image_5": png(50)}
    images, question, _ = one(tmp_path, question="<image 3> or <image 5>", options="['<image 5>', 'none']", **more)
    assert tones(question, images) == [30, 50]
    assert (question.question, question.options) == ("<image 1> or <image 2>", ("<image 2>", "none"))


def test_an_image_of_the_solution_alone_is_neither_shown_nor_stored(tmp_path):
    told = {"explanation": "see <image 2> and <image 1>", "image_2": png(20), "image_3": png(30)}
    images, question, _ = one(tmp_path, question="<image 1> <image 3>", **told)
    assert tones(question, images) == [1, 30]
    assert question.question == "<image 1> <image 2>"
    assert {image.path for image in images.values()} == {"tone_1.png", "tone_30.png"}


def test_one_image_in_two_columns_is_shown_twice(tmp_path):
    images, question, _ = one(tmp_path, question="<image 2> after <image 1>", image_2=png(1))
    assert tones(question, images) == [1, 1]
    assert len(images) == 1


@pytest.mark.parametrize(
    ("kind", "options", "answer", "stored"),
    [
        ("open", "[]", "12.5", ("12.5", "open")),
        ("short-answer", "[]", "C", ("C", "open")),
        ("open", None, "['0.5', '1/2']", ("['0.5', '1/2']", "open")),  # several golds: the list as it is published
        ("multiple-choice", r"['$\frac{1}{2}$', '$\sigma$']", "B", (r"$\sigma$", "choice")),
        ("multiple-choice", "[1, 2.5]", "B", ("2.5", "choice")),
    ],
)
def test_answers(tmp_path, kind, options, answer, stored):
    _, question, _ = one(tmp_path, question_type=kind, options=options, answer=answer)
    assert (question.answer, question.answer_kind) == stored
    assert bool(question.options) == (kind == "multiple-choice")


@pytest.mark.parametrize(
    ("more", "error_class", "message"),
    [
        ({"answer": "?"}, "answer_withheld", "the source gives no answer: '?'"),
        ({"answer": ""}, "answer_withheld", "the source gives no answer: ''"),
        ({"answer": None}, "answer_withheld", "the source gives no answer: None"),
        ({"answer": "C"}, "bad_answer", "answer 'C' is none of AB"),
        ({"options": "__import__('os').getcwd()"}, "bad_options", "options are str, not a list"),
        ({"options": "('a', 'b')"}, "bad_options", "options are tuple, not a list"),
        ({"options": "['a', 'b'"}, "bad_options", "options are str, not a list"),
        ({"options": "[" * 500}, "bad_options", "options are str, not a list"),
        ({"options": "['a', None]"}, "bad_options", "option B is None"),
        ({"options": "[]"}, "bad_options", "0 options"),
        ({"question_type": "essay"}, "bad_question_type", "'essay' is none of multiple-choice, open, short-answer"),
        ({"question": " "}, "missing_question", "column `question` is ' '"),
        ({"id": None}, "missing_id", "column `id` is None"),
        ({"question": "<image 2>"}, "missing_image", "column `image_2` is null, and the row names <image 2>"),
        ({"options": "[0x" + "f" * 5000 + ", 'a']"}, "bad_options", "options are str, not a list"),
        (
            {"options": "['\\x3cimage 9>', 'a']"},
            "missing_image",
            "column `image_9` is null, and the row names <image 9>",
        ),
        (
            {"options": "['<ima' 'ge 9>', 'a']"},
            "missing_image",
            "column `image_9` is null, and the row names <image 9>",
        ),
        ({"options": "['<image 9>', 'a']"}, "missing_image", "column `image_9` is null, and the row names <image 9>"),
        ({"image_2": {"path": "a.png"}}, "missing_image", "column `image_2` holds no file"),
        ({"image_1": None, "question": "Which?"}, "missing_image", "the row names no image"),
        ({"image_1": {"bytes": b"GIF89a", "path": "a.gif"}}, "unreadable_image", None),
    ],
)
def test_a_row_that_cannot_be_asked_or_judged_is_refused(tmp_path, more, error_class, message):
    _, question, reject = one(tmp_path, **more)
    assert question is None
    assert (reject.row_key, reject.error_class) == ("Pharmacy/validation-00000-of-00001.parquet#0", error_class)
    assert message is None or reject.message == message
    assert str(tmp_path) not in reject.message


@pytest.fixture
def health(tmp_path):
    """Five subjects with three splits each; the test answers are withheld, but one."""
    for at, subject in enumerate(HEALTH):
        for offset, split in enumerate(("dev", "validation", "test")):
            rows = [row(40 * at + 10 * offset + n, split=split, subject=subject) for n in range(5)]
            if split == "test":
                rows = [each | {"answer": "A" if n == 3 else "?"} for n, each in enumerate(rows)]
            write(tmp_path, rows, subject, split)
    return tmp_path


def test_health_and_medicine_is_read_whole(health):
    images, questions, rejects = read(Mmmu(health))
    splits = [question.split for question in questions.values()]
    assert {split: splits.count(split) for split in splits} == {"train": 25, "validation": 25, "test": 5}
    assert {item.error_class for item in rejects.values()} == {"answer_withheld"}
    assert (len(rejects), len(images)) == (20, 75)
    for name, records in (
        ("images", images.values()),
        ("questions", questions.values()),
        ("rejects", rejects.values()),
    ):
        assert to_table(name, records).num_rows == len(records)


def test_subjects_are_chosen_by_name(health):
    write(health, [row(200, subject="Biology", split=split) for split in ("dev",)], "Biology", "dev")
    assert {question.question_type for question in read(Mmmu(health, " Pharmacy,"))[1].values()} == {"Pharmacy"}
    assert Mmmu(health, ("Pharmacy", "Biology")) == Mmmu(health, "Biology, Pharmacy")
    assert Mmmu(health, "Biology").config() == {"form": "parquet", "subjects": ["Biology"]}
    with pytest.raises(InputError, match="has the splits"):
        Mmmu(health, "all").plan()
    with pytest.raises(InputError, match="no files of Surgery") as caught:
        Mmmu(health, "Surgery").plan()
    assert "Basic_Medical_Science,Biology" in caught.value.fix
    for wrong in ("", "../Biology", "Bio*"):
        with pytest.raises(UsageError, match="not a subject"):
            Mmmu(health, wrong)


def test_ids_are_taken_once(tmp_path):
    write(tmp_path, [row(1), row(2), row(1, image_1=png(9))])
    _, questions, rejects = read(Mmmu(tmp_path, "Pharmacy"))
    assert sorted(questions) == ["validation_Pharmacy_1", "validation_Pharmacy_2"]
    assert [item.error_class for item in rejects.values()] == ["duplicate_qid"]


def test_a_digest_changes_with_the_words_and_the_pixels_only(tmp_path):
    first = write(tmp_path / "a", [row(number) for number in range(1, 4)])
    write(tmp_path / "b", [row(number) for number in range(1, 4)], group=1)
    write(tmp_path / "c", [row(1), row(2), row(3, image_1=png(99))])
    write(tmp_path / "d", [row(1), row(2), row(3, answer="A")])
    digests = [
        [source.digest(shard) for shard in source.plan()] for source in (Mmmu(tmp_path / n, "all") for n in "abcd")
    ]
    assert digests[0] == digests[1]
    assert len({*map(str, digests)}) == 3
    ForkingPickler.dumps((Mmmu(first.parent.parent), Mmmu(tmp_path / "a", "all").plan()))


def test_only_wanted_rows_are_given_back(tmp_path):
    path = write(tmp_path, [row(number) for number in range(1, 30)], group=10)
    assert [number for number, _, _ in mmmu_parquet.rows(path)] == list(range(29))
    found = dict(mmmu_parquet.images(path, {3, 21, 28}))
    assert {number: [name for _, name in images.values()] for number, images in found.items()} == {
        3: ["tone_4.png"],
        21: ["tone_22.png"],
        28: ["tone_29.png"],
    }


def test_a_folder_that_is_none_says_what_is_expected(tmp_path):
    with pytest.raises(InputError, match="no MMMU here") as caught:
        Mmmu(tmp_path).plan()
    assert "validation-*.parquet" in caught.value.fix
    write(tmp_path, [row(1)], part="00000-of-00002")
    with pytest.raises(InputError, match="promise"):
        Mmmu(tmp_path, "Pharmacy").plan()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"id": ["a"]}), r"columns \['question'"),
        (pa.Table.from_pylist([row(1) | {"image_1": "x"}]), "column `image_1` is string, not struct"),
        (None, "not a readable Parquet file"),
    ],
)
def test_a_file_that_is_not_of_the_hub_is_named(tmp_path, table, message):
    path = write(tmp_path, [row(1)])
    path.write_bytes(b"PAR1") if table is None else pq.write_table(table, path)
    with pytest.raises(InputError, match=message):
        Mmmu(tmp_path, "Pharmacy").plan()
