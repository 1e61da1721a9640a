"""VinDr-CXR in the Kaggle layout: three readers, xyxy in native pixels, class 14 with a blank box."""

import pytest

from pipeline.adapters.sources.labelled import split_of
from pipeline.adapters.sources.vindr_cxr import VindrCxr
from schemas.errors import InputError
from tests.pipeline.labelled_sets import answers, boxes, put_csv, put_dicom, read_all

HEADER = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"


def none(image, reader):
    return image, "No finding", 14, reader, "", "", "", ""


ROWS = [
    ("aa", "Cardiomegaly", 3, "R8", 4, 10, 24, 20),
    ("aa", "Nodule/Mass", 8, "R8", 1, 1, 5, 5),
    ("aa", "Cardiomegaly", 3, "R9", 6, 10, 26, 20),
    ("aa", "Aortic enlargement", 0, "R10", 12, 2, 18, 8),
    ("aa", "Cardiomegaly", 3, "R10", 5.0, 13, 25, 23),
    ("aa", "Nodule/Mass", 8, "R10", 20, 1, 24, 5),
    none("bb", "R8"),
    none("bb", "R9"),
    none("bb", "R10"),
    none("cc", "R8"),  # no file
    ("dd", "Cardiomegaly", 3, "R8", 100, 1, 110, 9),  # outside
    ("dd", "Other lesion", 9, "R9", 5, 5, 4, 9),  # inverted
    none("dd", "R10"),
    none("dd", "R9"),
    ("", "Cardiomegaly", 3, "R8", 1, 1, 2, 2),
    ("ee", "", 3, "R8", 1, 1, 2, 2),
    ("../ee", "Cardiomegaly", 3, "R8", 1, 1, 2, 2),
    ("ee", "Cardiomegaly"),
]


@pytest.fixture
def root(tmp_path):
    put_csv(tmp_path / "train.csv", HEADER, ROWS)
    put_dicom(tmp_path / "train/aa.dicom", 1)
    put_dicom(tmp_path / "bb.dicom", 2)
    put_dicom(tmp_path / "train/dd.dcm", 3)
    put_dicom(tmp_path / "test/ff.dicom", 4)
    return tmp_path


def test_every_image_is_kept_or_a_reject(root):
    found = read_all(VindrCxr(root))
    assert list(found.images) == ["train/aa.png", "bb.png", "train/dd.png", "test/ff.png"]
    n_images, n_lines_of_no_image = len({"aa", "bb", "cc", "dd"}), 4
    assert len(found.images) - 1 + len(found.row_rejects()) == n_images + n_lines_of_no_image
    assert found.reasons() == {
        "train.csv:cc": "missing_image",
        "train.csv#14": "malformed_row",
        "train.csv#15": "malformed_row",
        "train.csv#16": "malformed_row",
        "train.csv#17": "malformed_row",
        "train.csv#10": "region_outside",
        "train.csv#11": "region_malformed",
        "train.csv#13": "region_contradictory",  # R9 marks nothing, and a lesion
    }


def test_readers_boxes_are_merged_and_counted(root):
    found = read_all(VindrCxr(root))
    assert boxes(found.questions["vindr-cxr/aa/Cardiomegaly"]) == [
        ("Aortic enlargement", "vindr 1 of 3 readers", (12, 2, 18, 8)),
        ("Cardiomegaly", "vindr 3 of 3 readers", (5, 11, 25, 21)),
        ("Nodule/Mass", "vindr 1 of 3 readers", (1, 1, 5, 5)),
        ("Nodule/Mass", "vindr 1 of 3 readers", (20, 1, 24, 5)),
    ]


def test_each_reader_and_their_vote_are_findings(root):
    found = read_all(VindrCxr(root))
    first, second = found.images["train/aa.png"], found.images["bb.png"]
    names = ("Aortic enlargement", "Cardiomegaly", "Nodule/Mass", "Other lesion")
    assert found.values(first, "vindr-consensus") == dict(zip(names, (-1, 1, 1, 0), strict=True))
    assert found.values(first, "R8") == dict(zip(names, (0, 1, 1, 0), strict=True))
    assert found.values(first, "R9") == dict(zip(names, (0, 1, 0, 0), strict=True))
    assert found.values(second, "vindr-consensus") == dict.fromkeys(names, 0)
    third = found.images["train/dd.png"]  # a broken box marks its class all the same
    assert found.values(third, "R9") == dict(zip(names, (0, 0, 0, 1), strict=True))
    assert found.values(found.images["test/ff.png"], "vindr-consensus") == {}


def test_only_the_vote_is_asked_about(root):
    found = read_all(VindrCxr(root))
    assert answers(found, "vindr-cxr/aa/Card") == {"Cardiomegaly": "yes"}
    asked = {key.split("/", 2)[2]: one.answer for key, one in found.questions.items() if "/aa/" in key}
    assert asked == {"Cardiomegaly": "yes", "Nodule/Mass": "yes"}  # aortic enlargement is disputed; nobody has no class
    assert list(answers(found, "vindr-cxr/bb/").values()) == ["no"]
    assert found.questions["vindr-cxr/aa/Cardiomegaly"].split == split_of("vindr-cxr", "aa")
    assert {one.patient_key for one in found.questions.values()} == {None}


def test_the_order_of_lines_changes_no_finding_and_no_box(root):
    before = read_all(VindrCxr(root))
    put_csv(root / "train.csv", HEADER, ROWS[::-1])
    after = read_all(VindrCxr(root))
    assert {key: boxes(one) for key, one in after.questions.items()} == {
        key: boxes(one) for key, one in before.questions.items()
    }
    assert set(after.findings) == set(before.findings)


def test_physionet_tables_are_read_where_their_columns_are_kaggles(root):
    for name, rows in (("annotations_train.csv", ROWS[:3]), ("annotations_test.csv", [*ROWS[6:9], none("aa", "R1")])):
        put_csv(root / name, HEADER, rows)
    with pytest.raises(InputError, match="two forms at once"):
        VindrCxr(root).plan()
    (root / "train.csv").unlink()
    found = read_all(VindrCxr(root))
    assert {key.split("/")[1]: one.split for key, one in found.questions.items()} == {"aa": "train", "bb": "test"}
    assert found.reasons() == {"annotations_test.csv#3": "second_file"}
    put_csv(root / "annotations_test.csv", "image_id,class_name,x_min,y_min,x_max,y_max", [])
    with pytest.raises(InputError, match=r"columns \['rad_id'\] are missing"):
        VindrCxr(root).plan()
    (root / "annotations_test.csv").unlink()
    assert list(read_all(VindrCxr(root)).questions) == ["vindr-cxr/aa/Cardiomegaly"]


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(InputError, match="no VinDr-CXR here"):
        VindrCxr(tmp_path).plan()
