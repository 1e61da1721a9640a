"""RSNA Pneumonia in its literal layout: one row per box, blank boxes, repeated classes, DICOM, and the NIH mapping."""

import pytest

from pipeline.adapters.patients import patient_key
from pipeline.adapters.sources.labelled import split_of
from pipeline.adapters.sources.rsna_pneumonia import QUESTION, RsnaPneumonia
from schemas.errors import InputError
from tests.pipeline.labelled_sets import boxes, grey, put_csv, put_dicom, read_all

LABELS = [
    ("p-two", "2.0", "3.0", "10.0", "5.0", 1),
    ("p-none", "", "", "", "", 0),
    ("p-two", "20.0", "10.0", "20.0", "4.5", 1),  # partly outside
    ("p-absent", "", "", "", "", 0),
    ("p-far", "900", "3", "10", "5", 1),
    ("p-both", "1", "1", "2", "2", 1),
    ("p-both", "", "", "", "", 0),
    ("p-unboxed", "", "", "", "", 1),
    ("p-normal", "", "", "", "", 0),
    ("p-torn", "1", "1", "2"),
    ("", "", "", "", "", 0),
    ("../p", "", "", "", "", 0),
    ("p-class", "", "", "", "", 0),
    ("p-classes", "", "", "", "", 0),
    ("p-boxed", "1", "1", "2", "2", 0),
]
CLASSES = [
    ("p-two", "Lung Opacity"),
    ("p-two", "Lung Opacity"),
    ("p-none", "No Lung Opacity / Not Normal"),
    ("p-normal", "Normal"),
    ("p-stranger", "Normal"),
    ("p-class", "Lung Opacity"),
    ("p-classes", "Normal"),
    ("p-classes", "No Lung Opacity / Not Normal"),
]
DICOMS = ("p-two", "p-none", "p-far", "p-unboxed", "p-normal", "p-asked-of-nobody", "p-boxed")


@pytest.fixture
def root(tmp_path):
    put_csv(tmp_path / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target", LABELS)
    put_csv(tmp_path / "stage_2_detailed_class_info.csv", "patientId,class", CLASSES)
    for number, patient in enumerate(DICOMS):
        put_dicom(tmp_path / f"stage_2_train_images/{patient}.dcm", number)
    return tmp_path


def question(found, patient):
    return found.questions[f"rsna-pneumonia/{patient}/opacity"]


def test_every_patient_is_a_question_or_a_reject(root):
    found = read_all(RsnaPneumonia(root))
    n_patients = len({row[0] for row in LABELS} - {"", "p-torn"})
    n_without = 2  # lines that cannot be told to a patient
    assert len(found.questions) + len(found.row_rejects()) == n_patients + n_without
    assert found.row_rejects() == {
        "stage_2_train_labels.csv:p-absent": "missing_image",
        "stage_2_train_labels.csv:p-both": "contradictory_target",
        "stage_2_train_labels.csv#9": "malformed_row",
        "stage_2_train_labels.csv#10": "malformed_row",
        "stage_2_train_labels.csv:../p": "unsafe_path",
        "stage_2_train_labels.csv:p-class": "contradictory_class",
        "stage_2_train_labels.csv:p-classes": "contradictory_class",
    }
    assert {key: why for key, why in found.reasons().items() if key not in found.row_rejects()} == {
        "stage_2_train_labels.csv#4": "region_outside",
        "stage_2_train_labels.csv#7": "region_malformed",
        "stage_2_train_labels.csv#14": "region_malformed",  # a box, and Target 0
        "stage_2_detailed_class_info.csv#4": "unasked_class",
    }
    assert len(found.images) == len(DICOMS)  # the one nobody asks about too


def test_questions_boxes_and_classes(root):
    found = read_all(RsnaPneumonia(root))
    asked = {key.split("/")[1]: one.answer for key, one in found.questions.items()}
    assert asked == {
        "p-two": "yes",
        "p-none": "no",
        "p-far": "yes",
        "p-unboxed": "yes",
        "p-normal": "no",
        "p-boxed": "no",
    }
    assert {one.question for one in found.questions.values()} == {QUESTION}
    assert boxes(question(found, "p-two")) == [
        ("Lung Opacity", "rsna-consensus", (2, 3, 12, 8)),
        ("Lung Opacity", "rsna-consensus", (20, 10, 32, 14.5)),
    ]
    by_name = {path.split("/")[1]: found.values(image, "rsna-consensus") for path, image in found.images.items()}
    assert by_name == {
        "p-two.png": {"Lung Opacity": 1},
        "p-none.png": {"Lung Opacity": 0, "No Lung Opacity / Not Normal": 1},
        "p-far.png": {"Lung Opacity": 1},
        "p-unboxed.png": {"Lung Opacity": 1},
        "p-normal.png": {"Lung Opacity": 0, "Normal": 1},
        "p-asked-of-nobody.png": {},
        "p-boxed.png": {"Lung Opacity": 0},
    }


def test_dicoms_become_nameless_pngs_of_the_same_pixels(root):
    from pipeline.adapters.pixels import decode

    image = read_all(RsnaPneumonia(root)).images["stage_2_train_images/p-none.png"]
    assert decode(image.data).tobytes() == grey(1).tobytes()
    assert b"DOE" not in image.data
    assert (image.modality, image.width, image.height) == ("X-Ray", 32, 24)


def test_without_the_mapping_the_patient_is_their_own(root):
    found = read_all(RsnaPneumonia(root))
    assert {image.origin for image in found.images.values()} == {None}
    assert question(found, "p-two").patient_key == patient_key("rsna", "p-two", None, restricted=False)
    assert question(found, "p-two").split == split_of("rsna", "p-two")


def test_with_the_mapping_the_patient_is_nihs(root):
    put_csv(root / "nih_mapping.csv", "patientId,nih_image_index", [("p-two", "00000823_003.png"), ("p-none", "")])
    found = read_all(RsnaPneumonia(root))
    key = patient_key("nih", "823", None, restricted=False)
    image = found.images["stage_2_train_images/p-two.png"]
    assert (image.origin, image.patient_key, question(found, "p-two").patient_key) == ("nih:00000823_003.png", key, key)
    assert question(found, "p-two").split == split_of("nih", "823") != split_of("rsna", "p-two")
    assert found.images["stage_2_train_images/p-none.png"].origin is None


def test_a_mapping_that_contradicts_itself_is_refused(root):
    rows = [("p-two", "00000823_003.png"), ("p-two", "00000821_003.png")]
    put_csv(root / "nih_mapping.csv", "patientId,nih_image_index", rows)
    with pytest.raises(InputError, match=r"p-two is 00000823_003\.png and 00000821_003\.png"):
        RsnaPneumonia(root).plan()


def test_the_window_is_a_setting_and_a_broken_dicom_a_reject(root):
    assert RsnaPneumonia(root, window="minmax").config() != RsnaPneumonia(root).config()
    (root / "stage_2_train_images/p-two.dcm").write_bytes(b"\0" * 128 + b"DICM")
    found = read_all(RsnaPneumonia(root))
    assert found.reasons()["stage_2_train_labels.csv:p-two"] == "unreadable_image"
    assert str(root) not in found.rejects["stage_2_train_labels.csv:p-two"].message


def test_a_folder_without_labels_is_refused(tmp_path):
    with pytest.raises(InputError, match="no RSNA pneumonia set here"):
        RsnaPneumonia(tmp_path).plan()
