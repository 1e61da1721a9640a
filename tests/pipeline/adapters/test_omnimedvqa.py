"""OmniMedVQA in its literal layout: two to four options, splits by image; rows in = questions + rejects."""

import json
from multiprocessing.reduction import ForkingPickler

import pytest

from pipeline.adapters.sources.omnimedvqa import OmniMedVqa
from schemas import seeds
from schemas.answers import judge
from schemas.errors import InputError, UsageError
from schemas.rows import to_table
from tests.pictures import jpeg, read_all, words_digest

CT = "Images/Chest CT Scan/test/normal/n (1).png"
FUNDUS = "Images/ACRIMA/Im001.png"


def row(number, image=FUNDUS, gold="Glaucoma", options=("Normal", "Glaucoma"), **more):
    base = {
        "dataset": "ACRIMA",
        "question_id": f"ACRIMA_{number:04d}",
        "question_type": "Disease Diagnosis",
        "question": "What disease is shown in this image?",
        "gt_answer": gold,
        "image_path": image,
    }
    cells = {f"option_{letter}": option for letter, option in zip("ABCD", options, strict=False)}
    return base | cells | {"modality_type": "Fundus Photography"} | more


def without(plain, *names):
    return {key: value for key, value in plain.items() if key not in names}


ACRIMA = [
    row(0),
    row(1, gold="glaucoma.", options=("Normal", "Glaucoma", "Cataract")),
    row(2, gold="Yes", options=("Yes", "No", "Maybe", "Unknown")),
    row(2),  # the number repeats
    row(3, gold="Drusen"),
    row(4, options=("Glaucoma",)),
    row(5, options=("Normal", None, "Glaucoma")),
    row(6, image="Images/ACRIMA/Im404.png"),
    row(7, image="Images/ACRIMA/broken.png"),
    row(8, image="/etc/passwd"),
    without(row(9), "gt_answer"),
    without(row(10), "image_path"),
    without(row(11), "question_id"),
    ["not", "a", "row"],
]
CHEST = [
    row(0, CT, modality_type="CT(Computed Tomography)"),
    without(row(1, CT, modality="CT(Computed Tomography)"), "modality_type"),
    without(row(2, "Images/Chest CT Scan/untold.png"), "modality_type"),
    row(3, "Images/Chest CT Scan/disputed.png", modality_type="CT(Computed Tomography)"),
    row(4, "Images/Chest CT Scan/disputed.png", modality_type="MR"),
]
RESTRICTED = [row(0, "Images/Secret/a.png")]


@pytest.fixture(params=[".", "OmniMedVQA"])
def root(tmp_path, request):
    folder = tmp_path / request.param
    for part, name, rows in (
        ("Open-access", "ACRIMA", ACRIMA),
        ("Open-access", "Chest CT Scan", CHEST),
        ("Restricted-access", "Secret", RESTRICTED),
    ):
        (folder / "QA_information" / part).mkdir(parents=True, exist_ok=True)
        (folder / "QA_information" / part / f"{name}.json").write_text(json.dumps(rows))
    images = [CT, FUNDUS, "Images/Chest CT Scan/untold.png", "Images/Chest CT Scan/disputed.png", "Images/Secret/a.png"]
    for tone, name in enumerate(images):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(9 * tone))
    (folder / "Images/ACRIMA/broken.png").write_bytes(b"no png")
    (folder / "Images/ACRIMA/unasked.png").write_bytes(jpeg(99))
    return tmp_path


def test_every_row_is_kept_or_refused_by_its_place(root):
    images, questions, rejects = read_all(OmniMedVqa(root))
    assert len(questions) + len(rejects) == len(ACRIMA) + len(CHEST)
    assert {key.removeprefix("Open-access/ACRIMA.json#"): one.error_class for key, one in rejects.items()} == {
        "3": "duplicate_qid",
        "4": "bad_answer",
        "5": "bad_options",
        "6": "bad_options",
        "7": "missing_image",
        "8": "unreadable_image",
        "9": "unsafe_path",
        "10": "missing_gt_answer",
        "11": "missing_image_path",
        "13": "malformed_row",
    }
    assert {image.path for image in images} == {
        *(CT, FUNDUS, "Images/Chest CT Scan/untold.png", "Images/Chest CT Scan/disputed.png")
    }
    assert {image.licence for image in images} == {"LicenseRef-unknown"}
    assert to_table("questions", list(questions.values())).num_rows == len(questions)
    assert all(str(root) not in one.message for one in rejects.values())


def test_what_a_question_says(root):
    _, questions, _ = read_all(OmniMedVqa(root))
    assert sorted(questions) == [
        *(f"omnimedvqa/ACRIMA/ACRIMA_000{number}" for number in range(3)),
        "omnimedvqa/ACRIMA/row-12",
        *(f"omnimedvqa/Chest CT Scan/ACRIMA_000{number}" for number in range(5)),
    ]
    answers = [questions[f"omnimedvqa/ACRIMA/ACRIMA_000{number}"] for number in range(3)]
    assert [one.answer for one in answers] == ["Glaucoma", "Glaucoma", "Yes"]
    assert [len(one.options) for one in answers] == [2, 3, 4]
    assert {one.answer_kind for one in answers} == {"choice"}
    assert {one.question_type for one in answers} == {"Disease Diagnosis"}
    assert all(judge(one.answer, one.answer, "choice", one.options) for one in answers)


def test_a_modality_is_told_under_either_key_and_null_where_untold_or_disputed(root):
    images, _, _ = read_all(OmniMedVqa(root))
    assert {image.path.rpartition("/")[2]: image.modality for image in images} == {
        "n (1).png": "CT(Computed Tomography)",
        "Im001.png": "Fundus Photography",
        "untold.png": None,
        "disputed.png": None,
    }


def test_restricted_parts_are_read_only_when_asked_for(root):
    _, questions, _ = read_all(OmniMedVqa(root, access="restricted"))
    assert list(questions) == ["omnimedvqa/Secret/ACRIMA_0000"]
    _, both, rejects = read_all(OmniMedVqa(root, access="all"))
    assert len(both) + len(rejects) == len(ACRIMA) + len(CHEST) + len(RESTRICTED)
    assert OmniMedVqa(root).config() == {"access": "open", "test_share": 0.2, "seed": 0}


def test_an_image_is_in_one_split_whatever_else_is_read(root):
    _, opened, _ = read_all(OmniMedVqa(root))
    _, both, _ = read_all(OmniMedVqa(root, access="all"))
    by_image = {}
    for one in both.values():
        by_image.setdefault(one.image_ids, set()).add(one.split)
    assert all(len(splits) == 1 for splits in by_image.values())
    assert all(both[number].split == one.split for number, one in opened.items())


def test_the_split_is_the_stated_rule(tmp_path):
    source = OmniMedVqa(tmp_path)
    names = [f"Images/x/{number}.png" for number in range(5_000)]
    splits = [source.split_of(name) for name in names]
    assert splits == ["test" if seeds.uniform("omnimedvqa", 0, name) < 0.2 else "train" for name in names]
    assert abs(splits.count("test") / len(names) - 0.2) < 0.02
    assert {OmniMedVqa(tmp_path, test_share=0.0).split_of(name) for name in names} == {"train"}
    assert {OmniMedVqa(tmp_path, test_share=1.0).split_of(name) for name in names} == {"test"}
    assert [OmniMedVqa(tmp_path, seed=1).split_of(name) for name in names] != splits
    wider = OmniMedVqa(tmp_path, test_share=0.5)
    assert all(wider.split_of(name) == "test" for name, split in zip(names, splits, strict=True) if split == "test")


def test_a_digest_tells_of_rows_and_images(root):
    source = OmniMedVqa(root)
    (shard,) = source.plan()
    before = source.digest(shard)
    (source.folder() / FUNDUS).write_bytes(jpeg(123))
    assert source.digest(shard) != before
    assert ForkingPickler.dumps((source, shard))


def test_a_wrong_folder_part_or_share_is_refused(tmp_path):
    with pytest.raises(InputError, match="no OmniMedVQA here"):
        OmniMedVqa(tmp_path).plan()
    with pytest.raises(UsageError, match="not 'closed'"):
        OmniMedVqa(tmp_path, access="closed")
    with pytest.raises(UsageError, match="got 20"):
        OmniMedVqa(tmp_path, test_share=20)


def test_revision_is_raised_when_records_change(root):
    assert (OmniMedVqa.revision, words_digest(OmniMedVqa(root, access="all"))) == (1, "0dd3c5f8627f")
