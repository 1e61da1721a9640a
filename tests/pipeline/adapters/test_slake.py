"""SLAKE's literal layout with every odd file and row; region problems cost no question."""

import hashlib
import json
from dataclasses import asdict
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from PIL import Image as Pillow

from pipeline.adapters.png import write_png
from pipeline.adapters.sources.drafts import FILE_PROBLEMS
from pipeline.adapters.sources.slake import Slake
from pipeline.adapters.sources.slake_regions import mask_names
from schemas.errors import InputError, UsageError
from schemas.rows import to_table

WIDTH, HEIGHT = 40, 30
MASK_TXT = '\ufeff1:Left Lung\r\n2: Lung Cancer \r\n"255:Liver",\r\nnot a line\r\n\r\n'


def row(qid, image=1, question="Is the lung healthy?", answer="Yes", **more):
    base = {"img_id": image, "img_name": f"xmlab{image}/source.jpg", "question": question, "answer": answer}
    base |= {"q_lang": "en", "location": "Lung", "modality": "CT", "answer_type": "CLOSED", "base_type": "vqa"}
    return base | {"triple": ["vhead", "_", "_"], "qid": qid, "content_type": "Organ"} | more


def zh(qid, answer, **more):
    return row(qid, question="肺部健康吗?", answer=answer, q_lang="zh", **more)


TRAIN = [
    row(1),
    row(2, answer=" T2 "),
    row(3, image=2, answer="NO", modality="X-Ray"),
    row(4, image=404),
    row(5, image=9),
    row(6, answer=""),
    row(1, image=2, modality="X-Ray"),
    {key: value for key, value in row(7).items() if key != "q_lang"},
    zh(100, "不是"),
    zh(101, "肺"),
    zh(102, "包含", modality="MRI", image=10),
    [],
]
VALIDATION = [row(20, image=10, modality="MRI"), row(21, image=10, answer=3, modality="CT")]
TEST = [row(30, image=10, modality="MRI")]


def folder(root, number, pixels=None, *, boxes=None, mask=None):
    """imgs/xmlab<number>; PNG bytes in source.jpg are fine: a file is what it contains."""
    place = root / "imgs" / f"xmlab{number}"
    place.mkdir(parents=True)
    grey = np.full((HEIGHT, WIDTH), number, np.uint8)
    (place / "source.jpg").write_bytes(write_png(grey) if pixels is None else pixels)
    if boxes is not None:
        (place / "detection.json").write_text(boxes if isinstance(boxes, str) else json.dumps(boxes))
    if mask is not None:
        mask.save(place / "mask.png")
    (place / "question.json").write_text("[]")


def painted(mode="L", size=(WIDTH, HEIGHT)):
    """Value 1 in columns 3…9 of rows 5…6, value 2 in one corner pixel, value 255 in two far pixels."""
    values = np.zeros((size[1], size[0]), np.uint8)
    values[5:7, 3:10] = 1
    values[-1, -1] = 2
    values[0, 0] = values[20, 30] = 255
    return Pillow.fromarray(values).convert(mode)


@pytest.fixture
def root(tmp_path):
    folder(tmp_path, 1, boxes=[{"Lung Cancer": [2.0, 3.0, 10.5, 4.0]}, {"Liver": [30, 20, 100, 100]}], mask=painted())
    folder(tmp_path, 2)
    folder(tmp_path, 9, pixels=b"\xff\xd8 not a jpeg")
    folder(tmp_path, 10, boxes=[], mask=painted("RGBA"))
    folder(tmp_path, 77)
    for name, rows in (("train", TRAIN), ("validate", VALIDATION), ("test", TEST)):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "mask.txt").write_text(MASK_TXT, encoding="utf-8", newline="")
    return tmp_path


def read(source):
    found = [source.read(shard) for shard in source.plan()]
    images = {image.path: image for rows in found for image in rows.images}
    questions = {item.question_id: item for rows in found for item in rows.questions}
    rejects = {item.row_key: item for rows in found for item in rows.rejects}
    assert len(questions) == sum(len(rows.questions) for rows in found)
    assert len(rejects) == sum(len(rows.rejects) for rows in found)
    return images, questions, rejects


def regions_of(root, question="slake/1"):
    _, questions, rejects = read(Slake(root))
    regions = [(item.label, item.provenance, item.box_xyxy_px) for item in questions[question].regions]
    return regions, {key: item for key, item in rejects.items() if item.error_class.startswith(FILE_PROBLEMS)}


def test_every_row_is_a_question_or_a_reject(root):
    images, questions, rejects = read(Slake(root, "all"))
    assert len(questions) + len(rejects) == len(TRAIN) + len(VALIDATION) + len(TEST)
    assert {key: item.error_class for key, item in rejects.items()} == {
        "train.json#3": "missing_image",
        "train.json#4": "unreadable_image",
        "train.json#5": "missing_answer",
        "train.json#6": "duplicate_qid",
        "train.json#7": "missing_q_lang",
        "train.json#11": "malformed_row",
    }
    assert list(images) == [f"imgs/xmlab{number}/source.jpg" for number in (1, 2, 10, 77)]
    for name, records in (("images", images), ("questions", questions), ("rejects", rejects)):
        assert to_table(name, records.values()).num_rows == len(records)


def test_one_language_leaves_the_other_unread(root):
    _, english, rejects = read(Slake(root))
    _, chinese, _ = read(Slake(root, "zh"))
    _, both, both_rejects = read(Slake(root, "all"))
    assert {item.language for item in english.values()} == {"en"}
    assert {item.language for item in chinese.values()} == {"zh"}
    assert english | chinese == both
    assert rejects == both_rejects


@pytest.mark.parametrize(
    ("qid", "kind", "answer", "split"),
    [
        (1, "closed", "Yes", "train"),
        (2, "open", "T2", "train"),  # CLOSED in the source, but a choice without its options
        (3, "closed", "NO", "train"),
        (20, "closed", "Yes", "validation"),
        (21, "open", "3", "validation"),
        (30, "closed", "Yes", "test"),
        (100, "closed", "不是", "train"),
        (101, "open", "肺", "train"),
        (102, "closed", "包含", "train"),
    ],
)
def test_kind_answer_and_split(root, qid, kind, answer, split):
    _, questions, _ = read(Slake(root, "all"))
    found = questions[f"slake/{qid}"]
    assert (found.answer_kind, found.answer, found.split, found.options) == (kind, answer, split, ())
    assert found.question_type == "Organ"


def test_modality_comes_from_all_rows_or_is_unknown(root):
    images, _, _ = read(Slake(root))
    modality = {path: image.modality for path, image in images.items()}
    assert modality == {
        "imgs/xmlab1/source.jpg": "CT",
        "imgs/xmlab2/source.jpg": "X-Ray",
        "imgs/xmlab10/source.jpg": None,  # its rows say MRI and CT
        "imgs/xmlab77/source.jpg": None,
    }
    assert {image.licence for image in images.values()} == {"CC-BY-4.0"}


def test_boxes_are_xywh_cut_to_the_image_and_masks_half_open(root):
    regions, problems = regions_of(root)
    assert regions == [
        ("Lung Cancer", "detection", (2.0, 3.0, 12.5, 7.0)),
        ("Liver", "detection", (30.0, 20.0, 40.0, 30.0)),
        ("Left Lung", "mask", (3.0, 5.0, 10.0, 7.0)),
        ("Lung Cancer", "mask", (39.0, 29.0, 40.0, 30.0)),
        ("Liver", "mask", (0.0, 0.0, 31.0, 21.0)),
    ]
    assert problems == {}
    assert regions_of(root, "slake/20")[0] == regions[2:]  # the same mask as RGBA
    assert regions_of(root, "slake/3")[0] == []


@pytest.mark.parametrize(
    ("entry", "error_class"),
    [
        ({"Liver": [1, 1, 0, 5]}, "region_malformed"),
        ({"Liver": [1, 1, 5, -2]}, "region_malformed"),
        ({"Liver": [1, 1, 5]}, "region_malformed"),
        ({"Liver": "1 1 5 5"}, "region_malformed"),
        ({"Liver": ["1", "1", "5", "5"]}, "region_malformed"),
        ({"Liver": [1, 1, True, 5]}, "region_malformed"),
        ({"Liver": [1, 1, float("nan"), 5]}, "region_malformed"),
        ({"Liver": [1, 1, 10**400, 5]}, "region_malformed"),
        ({" ": [1, 1, 5, 5]}, "region_malformed"),
        ({}, "region_malformed"),
        (["Liver", 1, 1, 5, 5], "region_malformed"),
        ({"Liver": [40, 1, 5, 5]}, "region_outside"),
        ({"Liver": [-9, -9, 5, 5]}, "region_outside"),
    ],
)
def test_a_box_that_is_none_is_told_and_costs_nothing_else(root, entry, error_class):
    (root / "imgs/xmlab2/detection.json").write_text(json.dumps([entry, {"Heart": [1, 2, 3, 4]}]))
    regions, problems = regions_of(root, "slake/3")
    assert regions == [("Heart", "detection", (1.0, 2.0, 4.0, 6.0))]
    ((key, problem),) = problems.items()
    assert key.startswith("imgs/xmlab2/detection.json#0")
    assert problem.error_class == error_class
    assert problem.message


@pytest.mark.parametrize("text", ['[{"Liver": [1, 2', '{"Liver": [1, 1, 5, 5]}', ""])
def test_an_unreadable_box_file_is_told_once(root, text):
    (root / "imgs/xmlab2/detection.json").write_text(text)
    regions, problems = regions_of(root, "slake/3")
    assert (regions, list(problems)) == ([], ["imgs/xmlab2/detection.json"])
    assert problems["imgs/xmlab2/detection.json"].error_class == "region_file"


def test_masks_that_cannot_be_used_are_told(root):
    place = root / "imgs/xmlab2/mask.png"
    painted(size=(WIDTH + 1, HEIGHT)).save(place)
    assert regions_of(root)[1][f"imgs/xmlab2/{place.name}"].error_class == "region_size"
    place.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert regions_of(root)[1][f"imgs/xmlab2/{place.name}"].error_class == "region_file"
    painted().save(place)
    (root / "mask.txt").write_text("2:Lung Cancer\n")
    regions, problems = regions_of(root, "slake/3")
    assert [label for label, _, _ in regions] == ["Lung Cancer"]
    assert problems["imgs/xmlab2/mask.png"].message == "mask.txt does not name the values [1, 255]"
    (root / "mask.txt").unlink()
    assert regions_of(root, "slake/3")[0] == []


def test_mask_names(root, tmp_path):
    assert mask_names(root / "mask.txt") == {1: "Left Lung", 2: "Lung Cancer", 255: "Liver"}
    assert mask_names(tmp_path / "absent.txt") == {}


def test_validation_file_under_either_name(root):
    _, before, _ = read(Slake(root))
    text = (root / "validate.json").read_text(encoding="utf-8")
    (root / "validation.json").write_text(text.replace(", ", ",\r\n"), encoding="utf-8-sig")
    assert read(Slake(root))[1] == before
    (root / "validate.json").unlink()
    assert read(Slake(root))[1] == before
    (root / "validate.json").write_text("[]")
    with pytest.raises(InputError, match="differ"):
        Slake(root).plan()


def test_the_parent_folder_is_found_too(tmp_path, root):
    inner = tmp_path / "parent" / "Slake1.0"
    inner.mkdir(parents=True)
    for path in list(root.iterdir()):
        if path.name != "parent":
            path.rename(inner / path.name)
    assert read(Slake(tmp_path / "parent")) == read(Slake(inner))


def test_without_images_every_row_says_so(root):
    (root / "imgs").rename(root / "elsewhere")
    images, questions, rejects = read(Slake(root))
    assert (images, questions) == ({}, {})
    assert sum(item.error_class == "missing_image" for item in rejects.values()) == 8


@pytest.mark.parametrize("name", ["detection.json", "mask.png", "source.jpg"])
def test_the_digest_follows_every_file_read(root, name):
    def digests():
        source = Slake(root)
        return [source.digest(shard) for shard in source.plan()]

    first = digests()
    assert digests() == first
    (root / "imgs/xmlab1" / name).write_bytes(b"[]")
    second = digests()
    (root / "mask.txt").write_text("1:Heart")
    assert len({*first, *second, *digests()}) == 3


def test_source_and_shard_survive_the_way_to_a_worker(root):
    source = Slake(root, "all")
    copy, shard = ForkingPickler.loads(ForkingPickler.dumps((source, source.plan()[0])))
    assert copy.read(shard) == source.read(source.plan()[0])


def test_what_cannot_be_slake_is_refused(tmp_path, root):
    with pytest.raises(InputError, match="no SLAKE here"):
        Slake(tmp_path / "imgs").plan()
    with pytest.raises(UsageError, match="fr"):
        Slake(root, "fr")
    (root / "test.json").write_text('[{"qid": 1')
    with pytest.raises(InputError, match="not a readable JSON file"):
        Slake(root).plan()


def test_revision_is_raised_when_records_change(root):
    """Golden: if this digest moves, raise Slake.revision (work shards are reused by it), then renew it."""
    images, questions, rejects = read(Slake(root, "all"))
    what = [asdict(item) for item in (*questions.values(), *rejects.values())]
    what += [[image.image_id, image.pixel_sha256, image.path, image.modality] for image in images.values()]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
    assert (Slake.revision, digest) == (2, "42c9aa52b8f9")
