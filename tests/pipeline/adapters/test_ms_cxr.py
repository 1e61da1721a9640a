"""MS-CXR in the literal layout of both versions: phrases of several boxes, other image sizes, restricted patients."""

import numpy as np
import pytest

from pipeline.adapters.patients import patient_key
from pipeline.adapters.sources.labelled import split_of
from pipeline.adapters.sources.ms_cxr import PLACES, MsCxr
from schemas.errors import InputError
from tests.pipeline.labelled_sets import boxes, put_csv, put_png, read_all

HEADER = "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height"
TABLE = "MS_CXR_Local_Alignment_v1.1.0.csv"
KEY = b"sixteen bytes or more"
SIZE = (3000, 2400)
LONG = "d5" * 150


def f32(number):
    return float(np.float32(number))


def path(dicom_id, subject="10000032"):
    return f"files/p{subject[:2]}/p{subject}/s50000001/{dicom_id}.jpg"


def line(dicom_id, text, x, y, w, h, *, category="Pneumonia", split="train", size=SIZE, subject="10000032"):
    return dicom_id, category, text, path(dicom_id, subject), x, y, w, h, *size, split


LINES = [
    line("d1", "Left basilar opacity, new", 2000, 1700, 600, 600),
    line("d1", "two on one side", 2000, 100, 600, 300),
    line("d1", "two on one side", 2200, 200, 600, 300),
    line("d1", "bilateral", 100, 1000, 300, 300, category="Edema"),
    line("d1", "bilateral", 2500, 1000, 300, 300, category="Edema"),
    line("d1", "Left basilar opacity, new", 2100, 1800, 100, 100, category="Consolidation"),
    line("d2", "far away", 5000, 100, 10, 10, split="val", subject="10000033"),
    line("d3", "gone", 100, 100, 10, 10, split="test"),
    line("d3", "gone too", 100, 100, 10, 10, split="test"),
    line("d2", "no width", 100, 100, 0, 10, split="val", subject="10000033"),
    line("d2", "another size", 1, 1, 5, 5, split="val", subject="10000033", size=(5, 5)),
    line("d4", "no such split", 1, 1, 5, 5, split="tuning"),
    ("d4", "Edema", "", path("d4"), 1, 1, 5, 5, *SIZE, "train"),
    ("d4", "Edema", "out", "../x.jpg", 1, 1, 5, 5, *SIZE, "train"),
    ("d4", "Edema", "no size", path("d4"), 1, 1, 5, 5, "", 0, "train"),
    ("d4", "Edema", "no such size", path("d4"), 1, 1, 5, 5, "9" * 5000, 9, "train"),
    (LONG, "Edema", "no such file", path(LONG), 1, 1, 5, 5, *SIZE, "train"),
    line("d2", "another split", 1, 1, 5, 5, subject="10000033"),
    line("d2", "another path", 1, 1, 5, 5, split="val"),
    ("../d2", "Edema", "out", path("d2"), 1, 1, 5, 5, *SIZE, "train"),
    ("a/d2", "Edema", "out", path("d2"), 1, 1, 5, 5, *SIZE, "train"),
    line("d2", "mostly outside", -1400, 100, 1500, 10, split="val", subject="10000033"),
]


@pytest.fixture
def root(tmp_path):
    put_csv(tmp_path / TABLE, f"{HEADER},split", LINES)
    put_png(tmp_path / path("d1"), 1, (300, 120))  # squashed: a tenth by a twentieth
    put_png(tmp_path / "d2.jpg", 2)
    return tmp_path


def test_every_phrase_is_a_question_or_a_reject(root):
    found = read_all(MsCxr(root))
    n_pairs = len({row[:3] for row in (*LINES[:10], LINES[16], LINES[21])})
    n_unreadable = 10
    assert len(found.questions) + len(found.row_rejects()) == n_pairs + n_unreadable
    assert found.row_rejects() == {
        f"{TABLE}#6:phrase": "missing_box",
        f"{TABLE}#7:phrase": "missing_image",
        f"{TABLE}#8:phrase": "missing_image",
        f"{TABLE}#9:phrase": "missing_box",
        f"{TABLE}#10": "contradictory_row",
        f"{TABLE}#11": "malformed_row",
        f"{TABLE}#12": "malformed_row",
        f"{TABLE}#13": "malformed_row",
        f"{TABLE}#14": "malformed_row",
        f"{TABLE}#15": "malformed_row",
        f"{TABLE}#16:phrase": "unreadable_image",
        f"{TABLE}#17": "contradictory_row",
        f"{TABLE}#18": "contradictory_row",
        f"{TABLE}#19": "malformed_row",
        f"{TABLE}#20": "malformed_row",
    }
    beside = {key: why for key, why in found.reasons().items() if key not in found.row_rejects()}
    assert beside == {f"{TABLE}#6": "region_outside", f"{TABLE}#9": "region_malformed"}


def test_questions_ask_for_the_patients_side(root):
    found = read_all(MsCxr(root))
    asked = {key: (one.question, one.answer) for key, one in found.questions.items() if "/d1/" in key}
    assert asked == {
        "ms-cxr/d1/0": ("Where is this finding: Left basilar opacity, new?", "lower left"),  # large x
        "ms-cxr/d1/1": ("Where is this finding: two on one side?", "upper left"),
        "ms-cxr/d1/2": ("Where is this finding: bilateral?", "several places"),
        "ms-cxr/d1/3": ("Where is this finding: Left basilar opacity, new?", "lower left"),
    }
    six = {f"{zone} {side}" for zone in ("upper", "middle", "lower") for side in ("left", "right")}
    assert set(PLACES) == six | {"several places"}
    kinds = {(one.answer_kind, one.options, one.question_type) for one in found.questions.values()}
    assert kinds == {("choice", PLACES, "place")}


def test_boxes_are_rescaled_and_all_of_them_stay(root):
    found = read_all(MsCxr(root))
    expected = [  # the phrase is the last part of the id of its question
        ("Pneumonia", "ms-cxr phrase 0", (200, 85, 260, 115)),
        ("Pneumonia", "ms-cxr phrase 1", (200, 5, 260, 20)),
        ("Pneumonia", "ms-cxr phrase 1", (220, 10, 280, 25)),
        ("Edema", "ms-cxr phrase 2", (10, 50, 40, 65)),
        ("Edema", "ms-cxr phrase 2", (250, 50, 280, 65)),
        ("Consolidation", "ms-cxr phrase 3", (210, 90, 220, 95)),
    ]
    assert all(boxes(found.questions[f"ms-cxr/d1/{number}"]) == expected for number in range(4))
    assert boxes(found.questions["ms-cxr/d2/2"]) == [
        ("Pneumonia", "ms-cxr phrase 2", (0, 1, f32(100 * 32 / 3000), f32(1.1)))
    ]


def test_only_presence_is_told(root):
    found = read_all(MsCxr(root))
    image = found.images["d1.jpg"]
    assert found.values(image, "ms-cxr") == {"Pneumonia": 1, "Edema": 1, "Consolidation": 1}
    assert {one.value for one in found.findings} == {1}
    assert (image.origin, image.modality) == ("mimic-cxr:d1", "X-Ray")


def test_patients_are_told_with_a_key_only_and_the_key_to_nobody(root):
    assert {one.patient_key for one in read_all(MsCxr(root)).questions.values()} == {None}
    source = MsCxr(root, key=KEY)
    expected = {patient_key("mimic", number, KEY, restricted=True) for number in ("10000032", "10000033")}
    found = read_all(source)
    assert {one.patient_key for one in found.questions.values()} == expected
    assert {one.patient_key for one in found.images.values()} == expected
    assert KEY.decode() not in f"{source!r} {source.config()} {source.plan()}"
    told = [*found.images.values(), *found.questions.values(), *found.findings, *found.rejects.values()]
    assert "1000003" not in "".join(map(repr, told))
    assert source.config()["patient_key"] != MsCxr(root, key=KEY + b"!").config()["patient_key"]


def test_splits_are_the_published_ones_or_drawn_by_patient(root):
    splits = {key.split("/")[1]: one.split for key, one in read_all(MsCxr(root)).questions.items()}
    assert splits == {"d1": "train", "d2": "validation"}
    (root / TABLE).unlink()
    old = [row[:-1] for row in (*LINES[:6], LINES[21])] + [("d5", "Edema", "x", "files/d5.jpg", 1, 1, 5, 5, *SIZE)]
    put_csv(root / "MS_CXR_Local_Alignment_v1.0.0.csv", HEADER, old)
    found = read_all(MsCxr(root))
    splits = {key.split("/")[1]: one.split for key, one in found.questions.items()}
    assert splits == {"d1": split_of("mimic", "10000032"), "d2": split_of("mimic", "10000033")}
    assert found.reasons()["MS_CXR_Local_Alignment_v1.0.0.csv#7"] == "malformed_row"  # no subject, so no split


def test_the_path_of_the_table_comes_before_other_places(root):
    put_png(root / "d1.jpg", 7)
    put_png(root / "images/d2.jpg", 8)
    sizes = {name: (one.width, one.height) for name, one in read_all(MsCxr(root)).images.items()}
    assert sizes == {"d1.jpg": (300, 120), "d2.jpg": (32, 24)}
    (root / path("d1")).unlink()
    assert read_all(MsCxr(root)).images["d1.jpg"].width == 32


def test_one_table_must_be_there(root):
    put_csv(root / "MS_CXR_Local_Alignment_v1.0.0.csv", HEADER, [])
    with pytest.raises(InputError, match="2 tables of MS-CXR"):
        MsCxr(root).plan()
    for table in root.glob("*.csv"):
        table.unlink()
    with pytest.raises(InputError, match="no MS-CXR here"):
        MsCxr(root).plan()
