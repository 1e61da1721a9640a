"""CheXpert in its literal layout: 1, 0, −1 and blank stay apart, and only the first two are asked about."""

import pytest

from pipeline.adapters.patients import patient_key
from pipeline.adapters.sources.chexpert import FINDINGS, CheXpert
from schemas.errors import InputError
from tests.pipeline.labelled_sets import answers, put_csv, put_png, read_all

HEADER = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{','.join(FINDINGS)}"
KEY = b"sixteen bytes or more"


def line(path, **labels):
    named = {name.replace("_", " "): value for name, value in labels.items()}
    assert set(named) <= set(FINDINGS)
    return path, "Female", 68, "Frontal", "AP", *(named.get(finding, "") for finding in FINDINGS)


def view(patient, study=1, part="train", root="CheXpert-v1.0-small"):
    return f"{root}/{part}/patient{patient:05d}/study{study}/view1_frontal.jpg"


TRAIN = [
    line(view(1), Edema="1.0", Pneumonia="-1.0", Pleural_Other="1.0", Fracture="0.0", Cardiomegaly="0.0"),
    line(view(1, 2), No_Finding="1.0", Support_Devices="1.0"),
    line(view(2), Pneumonia="-1.0"),
    line(view(3), Edema="1.0"),  # no file
    line(view(1).replace("/study", "//study"), Edema="0.0"),  # again
    line(view(4), Edema="2.0"),
    line("CheXpert-v1.0-small/train/view1_frontal.jpg"),
    line("CheXpert-v1.0-small/../patient00009/x.jpg"),
    ("CheXpert-v1.0-small/train/patient00009/x.jpg", "Male"),
    line("CheXpert-v1.0-small//tmp/patient00009/x.jpg"),  # below that folder, an absolute path
    line("CheXpert-v1.0-small/train/patient00009/study1/x.png", Edema="1.0"),
    line("CheXpert-v1.0-small/train/patient00009/study1/view1.patient00009", Edema="1.0"),
]
VALID = [line(view(64541, part="valid"), Edema="0.0", Atelectasis="0.0")]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "CheXpert-v1.0-small"
    put_csv(folder / "train.csv", HEADER, TRAIN)
    put_csv(folder / "valid.csv", HEADER, VALID)
    for number, path in enumerate((view(1), view(1, 2), view(2), view(64541, part="valid"))):
        put_png(tmp_path / path, number)
    return tmp_path


def test_every_line_is_an_image_or_a_reject(root):
    found = read_all(CheXpert(root))
    assert len(found.images) + len(found.rejects) == len(TRAIN) + len(VALID)
    assert found.reasons() == {
        "train.csv#3": "missing_image",
        "train.csv#4": "duplicate_row",
        "train.csv#5": "malformed_row",
        "train.csv#6": "malformed_row",
        "train.csv#7": "unsafe_path",
        "train.csv#8": "malformed_row",
        "train.csv#9": "unsafe_path",
        "train.csv#10": "missing_image",
        "train.csv#11": "missing_image",
    }


def test_no_patients_number_is_in_names_ids_or_rejects(root):
    found = read_all(CheXpert(root, key=KEY))
    assert list(found.images) == ["train/0.jpg", "train/1.jpg", "train/2.jpg", "valid/0.jpg"]
    assert found.rejects["train.csv#10"].message == "no file train/10.png"
    told = [*found.images.values(), *found.questions.values(), *found.findings, *found.rejects.values()]
    assert "patient0" not in "".join(map(repr, told))


def test_all_labels_stay_what_they_are(root):
    found = read_all(CheXpert(root))
    labels = found.values(found.images["train/0.jpg"], "chexpert-labeler")
    told = {"Edema": 1, "Pneumonia": -1, "Pleural Other": 1, "Fracture": 0, "Cardiomegaly": 0}
    assert labels == {finding: told.get(finding) for finding in FINDINGS}
    assert len(found.findings) == 4 * 14


def test_uncertain_and_unmentioned_findings_are_not_asked_about(root):
    found = read_all(CheXpert(root))
    first = answers(found, "chexpert/train/0/")
    assert first.pop("Edema") == "yes"
    assert list(first.values()) == ["no"]  # one present finding that can be asked about, so one absent
    assert set(first) < {"Fracture", "Cardiomegaly"}
    assert answers(found, "chexpert/train/1/") == {"Support Devices": "yes"}
    assert answers(found, "chexpert/train/2/") == {}
    assert list(answers(found, "chexpert/valid/0/").values()) == ["no"]


def test_splits_are_the_tables_and_patients_need_a_key(root):
    found = read_all(CheXpert(root))
    assert {one.split for key, one in found.questions.items() if "/train/" in key} == {"train"}
    assert {one.split for key, one in found.questions.items() if "/valid/" in key} == {"validation"}
    assert {one.patient_key for one in found.images.values()} == {None}
    source = CheXpert(root, key=KEY)
    keys = [one.patient_key for one in read_all(source).images.values()]
    assert keys[0] == keys[1] == patient_key("chexpert", "patient00001", KEY, restricted=True)
    assert len(set(keys)) == 3
    assert KEY.decode() not in f"{source!r} {source.config()} {source.plan()}"


def test_the_folder_itself_is_a_root_too_whatever_its_name(root):
    inside = read_all(CheXpert(root / "CheXpert-v1.0-small"))
    assert inside == read_all(CheXpert(root))
    renamed = (root / "CheXpert-v1.0-small").rename(root / "mine")
    assert read_all(CheXpert(renamed)) == inside


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(InputError, match="no CheXpert here"):
        CheXpert(tmp_path).plan()
