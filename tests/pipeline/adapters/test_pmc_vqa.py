"""PMC-VQA: two versions, three test sets, the literal layout with its odd cells; rows in = questions + rejects."""

import csv
import tracemalloc
from multiprocessing.reduction import ForkingPickler

import pytest

from pipeline.adapters.sources.pmc_vqa import PmcVqa
from schemas.answers import judge
from schemas.errors import InputError, UsageError
from schemas.rows import to_table
from tests.pictures import jpeg, read_all, words_digest

V1 = ["Figure_path", "Question", "Answer", "Choice A", "Choice B", "Choice C", "Choice D", "Answer_label"]
V2 = [
    *("index", "Figure_path", "Caption", "Question", "Choice A", "Choice B", "Choice C", "Choice D", "Answer"),
    "split",
]
CHOICES = [" A:Diffuse uptake pattern ", " B:Focal uptake pattern ", "C: No uptake pattern", " D:Cannot be told"]
ASKED = "What is the uptake pattern in the breast? "
SECRET = "Focal uptake was seen in the left breast."


def v1(figure="PMC1064097_F1.jpg", asked=ASKED, answer="Focal uptake pattern", label="B", choices=CHOICES):
    return [figure, asked, answer, *choices, label]


def v2(number, figure="PMC1064097_Fig1_2.jpg", label="B", choices=CHOICES):
    return [str(number), figure, f'{SECRET}\n"quoted", and more', ASKED, *choices, label, "train"]


TRAIN = [
    v1(),
    v1(),  # the row repeats; so it is asked twice
    v1("PMC2_F1.jpg", asked='Which, "left"\nor right?', answer=" A:yes", label=" A "),
    v1("PMC404_F1.jpg"),
    v1(label="E"),
    v1(label=""),
    v1(choices=[" A:x", " B: ", " C:y", " D:z"]),
    v1(choices=[" A:", " B:", " C:", " D:"]),
    v1(asked="   "),
    v1(figure=""),
    v1(figure="../PMC1064097_F1.jpg"),
    v1(figure="broken.jpg"),
    v1()[:5],
    [*v1(), "more"],
    v1(figure="chart.jpg"),
    v1(choices=[" A:one", " B:two", " C:three", " D:"]),
]
REFUSED = {
    "train.csv#3": "missing_image",
    "train.csv#4": "bad_answer",
    "train.csv#5": "bad_answer",
    "train.csv#6": "bad_options",
    "train.csv#7": "bad_options",
    "train.csv#8": "missing_Question",
    "train.csv#9": "missing_Figure_path",
    "train.csv#10": "unsafe_path",
    "train.csv#11": "unreadable_image",
    "train.csv#12": "malformed_row",
    "train.csv#13": "malformed_row",
}


def write(path, header, rows, newline="\r\n"):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator=newline).writerows([header, *rows])


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "train.csv", V1, TRAIN)
    write(tmp_path / "test.csv", V1, [v1("PMC7_F1.jpg"), v1("PMC8_F1.jpg")], "\n")
    old = ["Anwser" if name == "Answer" else name for name in V1]
    write(tmp_path / "test_clean.csv", old, [v1("PMC7_F1.jpg", label="C")])
    write(tmp_path / "train_2.csv", V2, [v2(0), v2(1, label=" D "), v2(2, label="E")])
    write(tmp_path / "test_2.csv", V2, [v2(9, figure="PMC9_Fig1_1.jpg", label="A")])
    for folder, name, tone in [
        *(("images", f"PMC{number}_F1.jpg", number) for number in (2, 7, 8)),
        *(("images", "PMC1064097_F1.jpg", 50), ("images", "chart.jpg", 60), ("images", "PMC55_F1.jpg", 61)),
        *(("images_2", "PMC1064097_Fig1_2.jpg", 70), ("figures", "PMC9_Fig1_1.jpg", 80)),
    ]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_bytes(jpeg(tone))
    (tmp_path / "images" / "broken.jpg").write_bytes(jpeg(1)[:100])
    return tmp_path


def test_every_row_is_kept_or_refused_by_its_number(root):
    source = PmcVqa(root, test_set="test_clean")
    images, questions, rejects = read_all(source)
    assert {key: one.error_class for key, one in rejects.items()} == REFUSED
    assert len(questions) + len(rejects) == len(TRAIN) + 1
    assert sorted(image.path for image in images) == [
        *("images/PMC1064097_F1.jpg", "images/PMC2_F1.jpg", "images/PMC7_F1.jpg", "images/chart.jpg")
    ]  # not the figures of the other test set
    assert to_table("questions", list(questions.values())).num_rows == len(questions)
    assert all(str(root) not in one.message for one in rejects.values())


def test_what_a_question_says(root):
    images, questions, _ = read_all(PmcVqa(root, test_set="test_clean"))
    keys = {image.image_id: image.group_key for image in images}
    first, repeat = questions["pmc-vqa/v1-train-0"], questions["pmc-vqa/v1-train-1"]
    assert first.question == repeat.question == "What is the uptake pattern in the breast?"
    options = ("Diffuse uptake pattern", "Focal uptake pattern", "No uptake pattern", "Cannot be told")
    assert (first.options, first.answer, first.answer_kind, first.split) == (options, options[1], "choice", "train")
    assert keys[first.image_ids[0]] == "article:PMC1064097"
    assert keys[questions["pmc-vqa/v1-train-14"].image_ids[0]] is None  # a name that tells no article
    assert questions["pmc-vqa/v1-train-2"].question == 'Which, "left"\nor right?'
    assert questions["pmc-vqa/v1-train-15"].options == ("one", "two", "three")
    test = questions["pmc-vqa/v1-test_clean-0"]
    assert (test.split, test.answer) == ("test", "No uptake pattern")
    assert all(judge(one.answer, one.answer, "choice", one.options) for one in questions.values())


@pytest.mark.parametrize(
    ("test_set", "version", "ids"),
    [
        ("test", "v1", ["pmc-vqa/v1-test-0", "pmc-vqa/v1-test-1"]),
        ("test_clean", "v1", ["pmc-vqa/v1-test_clean-0"]),
        ("test_2", "v2", ["pmc-vqa/v2-test_2-0"]),
    ],
)
def test_a_test_set_is_chosen_by_name_and_named_everywhere(root, test_set, version, ids):
    source = PmcVqa(root, test_set=test_set)
    assert source.config() == {"version": version, "test_set": test_set, "splits": ["test", "train"]}
    _, questions, _ = read_all(source)
    assert sorted(one.question_id for one in questions.values() if one.split == "test") == ids


def test_version_2_has_letters_for_answers_and_its_captions_stay_outside(root):
    source = PmcVqa(root, version="v2")
    images, questions, rejects = read_all(source)
    answers = {number: one.answer for number, one in questions.items()}
    assert answers == {
        "pmc-vqa/v2-train_2-0": "Focal uptake pattern",
        "pmc-vqa/v2-train_2-1": "Cannot be told",
        "pmc-vqa/v2-test_2-0": "Diffuse uptake pattern",
    }
    assert list(rejects) == ["train_2.csv#2"]
    assert sorted(image.path for image in images) == ["figures/PMC9_Fig1_1.jpg", "images_2/PMC1064097_Fig1_2.jpg"]
    assert SECRET not in repr([source.plan(), questions, rejects])


def test_an_answer_column_with_texts_and_no_labels(tmp_path):
    write(tmp_path / "test_clean.csv", V1[:-1], [v1()[:-1], v1(answer="neither")[:-1]])
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "PMC1064097_F1.jpg").write_bytes(jpeg(1))
    source = PmcVqa(tmp_path, test_set="test_clean")
    assert source.config()["splits"] == ["test"]
    _, questions, rejects = read_all(source)
    assert questions["pmc-vqa/v1-test_clean-0"].answer == "Focal uptake pattern"
    assert list(rejects) == ["test_clean.csv#1"]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({}, "cannot be compared"),
        ({"version": "v1"}, "cannot be compared"),
        ({"test_set": "dev"}, "not 'dev'"),
        ({"test_set": "test", "version": "v2"}, "belongs to v1"),
    ],
)
def test_an_unnamed_or_unknown_test_set_is_wrong_usage(tmp_path, options, what):
    with pytest.raises(UsageError, match=what):
        PmcVqa(tmp_path, **options)


def test_a_folder_without_the_test_set_and_a_file_without_a_column_are_refused(root):
    (root / "test.csv").unlink()
    with pytest.raises(InputError, match=r"no test\.csv"):
        PmcVqa(root, test_set="test").plan()
    write(root / "test.csv", V1[:2], [])
    with pytest.raises(InputError, match="Answer or Anwser"):
        PmcVqa(root, test_set="test").plan()


def test_a_digest_tells_of_rows_and_of_every_folder_a_picture_may_be_in(root):
    source = PmcVqa(root, test_set="test_clean")
    (shard,) = source.plan()
    seen = {source.digest(shard)}
    (root / "images" / "PMC2_F1.jpg").write_bytes(jpeg(222))
    seen.add(source.digest(shard))
    (root / "figures" / "PMC404_F1.jpg").write_bytes(jpeg(5))
    seen.add(source.digest(shard))
    write(root / "test_clean.csv", V1, [v1("PMC7_F1.jpg", label="D")])
    seen.add(source.digest(source.plan()[0]))
    assert len(seen) == 4
    assert ForkingPickler.dumps((source, shard))  # both cross process borders


def test_a_plan_takes_little_memory_per_row(tmp_path):
    n_rows = 5_000
    write(tmp_path / "test_clean.csv", V1, (v1(f"PMC{number // 2}_F1.jpg") for number in range(n_rows)))
    tracemalloc.start()
    shards = PmcVqa(tmp_path, test_set="test_clean").plan()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(len(figure.rows) for shard in shards for figure in shard.payload) == n_rows
    assert peak_bytes < 900 * n_rows


def test_revision_is_raised_when_records_change(root):
    found = [words_digest(PmcVqa(root, test_set=name)) for name in ("test_clean", "test_2")]
    assert (PmcVqa.revision, found) == (1, ["d724b163963f", "f7218fe0d602"])
