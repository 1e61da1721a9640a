"""NIH ChestX-ray14 in its literal layout: the split header, both spellings, both folder forms, every odd line."""

import pytest

from pipeline.adapters.patients import patient_key
from pipeline.adapters.sources.labelled import split_of
from pipeline.adapters.sources.nih_boxes import FINDINGS
from pipeline.adapters.sources.nih_cxr14 import NihCxr14, nih_patient
from schemas.errors import InputError
from tests.pipeline.labelled_sets import answers, boxes, put_csv, put_png, read_all

ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def entry(name, labels, patient):
    return name, labels, 0, patient, 50, "F", "PA", 2500, 2048, 0.168, 0.168


ENTRIES = [
    entry("00000001_000.png", "Cardiomegaly|Effusion", 1),
    entry("00000001_001.png", "No Finding", 1),
    entry("00000002_000.png", "Infiltration", 2),
    entry("00000003_000.png", "Mass", 3),  # no file
    entry("00000002_000.png", "Hernia", 2),  # again
    entry("00000004_000.png", "Mass|Broken arm", 4),
    entry("00000005_000.png", "No Finding|Mass", 5),
    entry("00000006_000.png", "Mass", ""),
    entry("../00000007_000.png", "Mass", 7),
    ("00000008_000.png", "Mass"),
    entry("00000009_000.png", "Edema", 9),  # not an image
    entry("00000010_000.png", "Edema", "9" * 5000),
]
BOXES = [
    ("00000001_000.png", "Cardiomegaly", 256, 512, 512, 256.0),
    ("00000001_000.png", "Pneumonia", 100.5, 1000, 10, 900),  # not in the label list; partly outside
    ("00000002_000.png", "Infiltrate", 0, 0, 1024, 1024),
    ("00000002_000.png", "Infiltration", 1, 1, 10, 10, "", "", ""),
    ("00000002_000.png", "Nodule", 1, 1, 0, 10),
    ("00000002_000.png", "Nodule", 1, "one", 5, 10),
    ("00000002_000.png", "Nodule", 1, 1, 5),
    ("00000002_000.png", "Nodule", 1100, 1, 5, 5),
    ("00000002_000.png", "Nodule", 1000, 1, 1e-5, 5),  # no width in the column's float32
    ("00000002_000.png", "Nodules", 1, 1, 5, 5),
    ("00099999_000.png", "Nodule", 1, 1, 5, 5),
]


@pytest.fixture
def root(tmp_path):
    put_csv(tmp_path / "Data_Entry_2017_v2020.csv", ENTRY_HEADER, ENTRIES)
    put_csv(tmp_path / "BBox_List_2017.csv", BOX_HEADER, BOXES)
    put_png(tmp_path / "images/00000001_000.png", 1, (1024, 1024))
    put_png(tmp_path / "images/00000001_001.png", 2, (64, 64))
    put_png(tmp_path / "images_001/images/00000002_000.png", 3, (512, 256))
    put_png(tmp_path / "images_002/images/00000777_000.png", 4)
    (tmp_path / "images/00000009_000.png").write_bytes(b"no image")
    (tmp_path / "images/00000778_000.png").write_bytes(b"no image either")
    return tmp_path


def test_every_line_is_an_image_or_a_reject(root):
    found = read_all(NihCxr14(root))
    listed = [path for path in found.images if "00000777" not in path]
    assert len(listed) + len(found.row_rejects()) == len(ENTRIES)
    assert found.row_rejects() == {
        "Data_Entry_2017_v2020.csv#3": "missing_image",
        "Data_Entry_2017_v2020.csv#4": "duplicate_row",
        "Data_Entry_2017_v2020.csv#5": "unknown_label",
        "Data_Entry_2017_v2020.csv#6": "contradictory_labels",
        "Data_Entry_2017_v2020.csv#7": "malformed_row",
        "Data_Entry_2017_v2020.csv#8": "unsafe_path",
        "Data_Entry_2017_v2020.csv#9": "malformed_row",
        "Data_Entry_2017_v2020.csv#10": "unreadable_image",
        "Data_Entry_2017_v2020.csv#11": "malformed_row",
    }
    assert {key: why for key, why in found.reasons().items() if key not in found.row_rejects()} == {
        "BBox_List_2017.csv#4": "region_malformed",
        "BBox_List_2017.csv#5": "region_malformed",
        "BBox_List_2017.csv#6": "region_malformed",
        "BBox_List_2017.csv#7": "region_outside",
        "BBox_List_2017.csv#8": "region_outside",
        "BBox_List_2017.csv#9": "region_unknown_label",
        "BBox_List_2017.csv#10": "region_unlisted_image",
        "00000778_000.png": "unasked_unreadable_image",
    }


def test_boxes_are_xywh_of_the_large_image_and_infiltrate_is_infiltration(root):
    found = read_all(NihCxr14(root))
    who = "nih-radiologist"
    assert boxes(found.questions["nih-cxr14/00000001_000.png/Effusion"]) == [
        ("Cardiomegaly", who, (256, 512, 768, 768)),
        ("Pneumonia", who, (100.5, 1000, 110.5, 1024)),
    ]
    assert boxes(found.questions["nih-cxr14/00000002_000.png/Infiltration"]) == [  # stored at 512 × 256
        ("Infiltration", who, (0, 0, 512, 256)),
        ("Infiltration", who, (0.5, 0.25, 5.5, 2.75)),
    ]
    assert NihCxr14(root).config()["repairs"] == {"Infiltrate": "Infiltration"}


def test_the_label_list_is_complete_and_a_box_says_only_that_it_is_there(root):
    found = read_all(NihCxr14(root))
    image = found.images["images/00000001_000.png"]
    mined = found.values(image, "nih-nlp")
    assert mined == {finding: int(finding in ("Cardiomegaly", "Effusion")) for finding in FINDINGS}
    assert found.values(image, "nih-radiologist") == {"Cardiomegaly": 1, "Pneumonia": 1}
    assert set(found.values(found.images["images/00000001_001.png"], "nih-nlp").values()) == {0}
    assert found.values(found.images["images_002/images/00000777_000.png"], "nih-nlp") == {}


def test_questions_are_balanced_and_drawn_boxes_count_as_present(root):
    found = read_all(NihCxr14(root))
    asked = answers(found, "nih-cxr14/00000001_000.png/")
    assert {key for key, answer in asked.items() if answer == "yes"} == {"Cardiomegaly", "Effusion", "Pneumonia"}
    assert list(asked.values()).count("no") == 3
    assert list(answers(found, "nih-cxr14/00000001_001.png/").values()) == ["no"]
    assert answers(found, "nih-cxr14/00000777") == {}


def test_patients_origins_and_drawn_splits(root):
    found = read_all(NihCxr14(root))
    image = found.images["images/00000001_001.png"]
    assert image.origin == "nih:00000001_001.png"
    assert image.patient_key == patient_key("nih", "1", None, restricted=False)
    assert {one.patient_key for one in found.questions.values()} == {
        patient_key("nih", number, None, restricted=False) for number in "12"
    }
    for key, question in found.questions.items():
        assert question.split == split_of("nih", nih_patient(key.split("/")[1]))


def test_published_lists_decide_the_split(root):
    (root / "test_list.txt").write_text("00000001_000.png\n00000001_001.png\n")
    with pytest.raises(InputError, match=r"test_list.txt is here alone"):
        NihCxr14(root).plan()
    (root / "train_val_list.txt").write_text("00000002_000.png\n")
    found = read_all(NihCxr14(root))
    splits = {key.split("/")[1]: one.split for key, one in found.questions.items()}
    assert splits == {"00000001_000.png": "test", "00000001_001.png": "test", "00000002_000.png": "train"}
    assert found.reasons()["Data_Entry_2017_v2020.csv#10"] == "missing_split"
    (root / "train_val_list.txt").write_text("00000001_000.png\n")
    with pytest.raises(InputError, match="both split lists"):
        NihCxr14(root).plan()


def test_boxes_need_their_header_and_may_be_absent(root):
    put_csv(root / "BBox_List_2017.csv", "Image Index,Finding Label,x,y,w,h", BOXES)
    with pytest.raises(InputError, match="unexpected header"):
        NihCxr14(root).plan()
    (root / "BBox_List_2017.csv").unlink()
    assert all(not one.regions for one in read_all(NihCxr14(root)).questions.values())


def test_the_digest_follows_tables_and_files_and_no_path(root, tmp_path_factory):
    def digests(place):
        return [NihCxr14(place).digest(shard) for shard in NihCxr14(place).plan()]

    before = digests(root)
    moved = root.rename(tmp_path_factory.mktemp("elsewhere") / "nih")
    assert digests(moved) == before
    put_png(moved / "images/00000003_000.png", 9)
    assert digests(moved) != before


def test_a_folder_without_the_label_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="no NIH ChestX-ray14 here"):
        NihCxr14(tmp_path).plan()


@pytest.mark.parametrize(
    ("name", "patient"),
    [("00000550_012.png", "550"), ("a_000.png", None), ("00000550.png", None), (f"{'9' * 5000}_000.png", None)],
)
def test_patient_of_a_file_name(name, patient):
    assert nih_patient(name) == patient
