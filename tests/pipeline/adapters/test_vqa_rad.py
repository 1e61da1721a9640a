"""VQA-RAD in its three forms, with the odd rows each really has; rows in = questions + rejects."""

import hashlib
import io
import json
from dataclasses import asdict
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from pipeline.adapters.png import write_png
from pipeline.adapters.sources.drafts import FILE_PROBLEMS
from pipeline.adapters.sources.vqa_rad import VqaRad
from schemas.errors import InputError
from schemas.rows import to_table
from tests.pictures import read_all


def jpeg(tone: int) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(np.full((10, 12, 3), tone, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def row(qid, image="synpic2.jpg", question="Is it normal?", answer="Yes", **more):
    base = {"qid": qid, "image_name": image, "image_organ": "HEAD", "answer": answer, "answer_type": "CLOSED"}
    return base | {"question_type": "PRES", "question": question, "phrase_type": "freeform"} | more


TRAIN = [
    row(1),
    row(2, "synpic10.jpg", "How many masses? ", 4, question_type="COUNT", answer_type="OPEN"),
    row(3, answer=" no ", answer_type="CLOSED ", phrase_type="para ", question_type="PRSE"),
    row(4, answer="MRI", question_type="POS, ATRIB,PRES"),
    row(5, phrase_type="frame"),
    row(6, "synpic404.jpg"),
    row(7, "broken.jpg"),
    row(8, answer=""),
    row(9, question="   "),
    row(1, "synpic10.jpg"),
    {key: value for key, value in row(10).items() if key != "qid"},
    "not a row",
    row(11, answer=None),
    row(12, image=None),
    row(13, "../synpic2.jpg"),
    row(14, answer=True),
]
TEST = [row(20, "copy.jpg"), row(21, "broken.jpg", phrase_type="para"), row(2)]
N_ROWS = len(TRAIN) + len(TEST)


@pytest.fixture
def mevf(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "synpic2.jpg").write_bytes(jpeg(20))
    (images / "synpic10.jpg").write_bytes(jpeg(100))
    (images / "copy.jpg").write_bytes(jpeg(20))
    (images / "unasked.jpg").write_bytes(jpeg(200))
    (images / "broken.jpg").write_bytes(jpeg(30)[:200])
    (images / "unasked_broken.jpg").write_bytes(b"")
    (images / ".DS_Store").write_bytes(b"x")
    (images / "._synpic2.jpg").write_bytes(b"x")
    (tmp_path / "trainset.json").write_bytes(json.dumps(TRAIN, indent=1).replace("\n", "\r\n").encode("utf-8-sig"))
    (tmp_path / "testset.json").write_text(json.dumps(TEST))
    return tmp_path


def test_every_row_is_a_question_or_a_reject(mevf):
    images, questions, rejects = read_all(VqaRad(mevf))
    about_rows = {key: item for key, item in rejects.items() if not item.error_class.startswith(FILE_PROBLEMS)}
    assert len(questions) + len(about_rows) == N_ROWS
    assert {key: item.error_class for key, item in rejects.items()} == {
        "trainset.json#5": "missing_image",
        "trainset.json#6": "unreadable_image",
        "trainset.json#7": "missing_answer",
        "trainset.json#8": "missing_question",
        "trainset.json#9": "duplicate_qid",
        "trainset.json#10": "missing_qid",
        "trainset.json#11": "malformed_row",
        "trainset.json#12": "missing_answer",
        "trainset.json#13": "missing_image_name",
        "trainset.json#14": "unsafe_path",
        "trainset.json#15": "missing_answer",
        "testset.json#1": "unreadable_image",
        "testset.json#2": "duplicate_qid",
        "unasked_broken.jpg": "unasked_unreadable_image",
    }
    for name, records in (("images", images), ("questions", questions.values()), ("rejects", rejects.values())):
        assert to_table(name, records).num_rows == len(records)


def test_a_reject_says_why_and_where_it_was(mevf):
    _, _, rejects = read_all(VqaRad(mevf))
    assert rejects["trainset.json#9"].message == "vqa-rad/1 is taken by trainset.json#0"
    assert rejects["testset.json#2"].message == "vqa-rad/2 is taken by trainset.json#1"
    assert rejects["trainset.json#5"].message == "no file images/synpic404.jpg"
    assert rejects["trainset.json#15"].message == "column `answer` is True"
    assert rejects["trainset.json#10"].message == "column `qid` is absent"
    assert {(item.stage, item.source, item.shard) for item in rejects.values()} == {("ingest", "vqa-rad", "00000")}
    assert not any(str(mevf) in item.message for item in rejects.values())


def test_odd_cells_are_mended_in_the_open(mevf):
    _, questions, _ = read_all(VqaRad(mevf))
    counted, trimmed, choice = (questions[f"vqa-rad/{qid}"] for qid in (2, 3, 4))
    assert (counted.answer, counted.question, counted.question_type) == ("4", "How many masses?", "COUNT")
    assert (trimmed.answer, trimmed.phrase_type, trimmed.question_type) == ("no", "para", "PRES")
    assert (choice.answer_kind, choice.options, choice.question_type) == ("open", (), "ATTRIB, POS, PRES")
    assert [item.answer_kind for item in (counted, trimmed)] == ["open", "closed"]
    assert [questions[f"vqa-rad/{qid}"].split for qid in (1, 20)] == ["train", "test"]


def test_unasked_images_stay_and_copies_share_one_id(mevf):
    images, questions, _ = read_all(VqaRad(mevf))
    by_path = {image.path: image for image in images}
    assert list(by_path) == ["images/copy.jpg", "images/synpic2.jpg", "images/synpic10.jpg", "images/unasked.jpg"]
    assert by_path["images/copy.jpg"].image_id == by_path["images/synpic2.jpg"].image_id
    assert questions["vqa-rad/20"].image_ids == questions["vqa-rad/1"].image_ids
    assert by_path["images/unasked.jpg"].data == jpeg(200)
    assert {(image.licence, image.modality) for image in images} == {("CC0-1.0", None)}


def test_frames_can_be_left_out(mevf):
    _, kept, rejects = read_all(VqaRad(mevf))
    _, fewer, same_rejects = read_all(VqaRad(mevf, frames=False))
    assert kept.keys() - fewer.keys() == {"vqa-rad/5"}
    assert same_rejects == rejects
    assert VqaRad(mevf).config() != VqaRad(mevf, frames=False).config()


def test_the_digest_follows_rows_and_pixels(mevf):
    def digests():
        source = VqaRad(mevf)
        return [source.digest(shard) for shard in source.plan()]

    first = digests()
    assert digests() == first
    (mevf / "images" / "unasked.jpg").write_bytes(jpeg(201))
    second = digests()
    (mevf / "testset.json").write_text(json.dumps(TEST[1:]))
    assert len({*first, *second, *digests()}) == 3


def test_source_and_shard_survive_the_way_to_a_worker(mevf):
    source = VqaRad(mevf)
    assert VqaRad(str(mevf)) == source
    copy, shard = ForkingPickler.loads(ForkingPickler.dumps((source, source.plan()[0])))
    assert copy.read(shard) == source.read(source.plan()[0])
    assert copy.digest(shard) == source.digest(source.plan()[0])


def test_osf_rows_name_their_own_split(tmp_path, mevf):
    osf = tmp_path / "osf"
    osf.mkdir()
    (mevf / "images").rename(osf / "VQA_RAD Image Folder")
    extra = {
        "qid_linked_id": "03f4",
        "image_case_url": "https://…",
        "evaluation": "evaluated",
        "question_frame": "NULL",
    }
    rows = [
        row("1", phrase_type="freeform", **extra),
        row("2", phrase_type="test_freeform", **extra),
        row("3", phrase_type="test_para ", **extra),
        row("4", phrase_type="Test_paraphrase", **extra),
    ]
    (osf / "VQA_RAD Dataset Public.json").write_text(json.dumps(rows), encoding="utf-8")
    images, questions, _ = read_all(VqaRad(osf))
    assert [item.split for item in questions.values()] == ["train", "test", "test", "test"]
    assert [item.phrase_type for item in questions.values()] == ["freeform", "freeform", "para", "para"]
    assert images[0].path == "VQA_RAD Image Folder/copy.jpg"
    assert VqaRad(osf).config()["form"] == "osf"


def hub_file(path, rows, **options):
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("question", pa.string()), ("answer", pa.string())])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, **options)


def hub_row(data, question="is it normal?", answer="yes", path=None):
    return {"image": {"bytes": data, "path": path}, "question": question, "answer": answer}


@pytest.fixture
def hub(tmp_path):
    one, two = jpeg(20), jpeg(100)
    train = [hub_row(one), hub_row(two, answer="left"), hub_row(one, answer=""), hub_row(None), hub_row(b"junk")]
    hub_file(tmp_path / "data/train-00000-of-00002.parquet", train, row_group_size=2)
    hub_file(tmp_path / "data/train-00001-of-00002.parquet", [hub_row(two), {**hub_row(one), "image": None}])
    hub_file(tmp_path / "data/test-00000-of-00001.parquet", [hub_row(one), hub_row(jpeg(7), path="p.jpg")])
    return tmp_path


@pytest.mark.parametrize("root", [".", "data"])
def test_hub_rows_share_the_images_they_repeat(hub, root):
    images, questions, rejects = read_all(VqaRad(hub / root))
    assert {name: item.answer for name, item in questions.items()} == {
        "vqa-rad/hf-train-0": "yes",
        "vqa-rad/hf-train-1": "left",
        "vqa-rad/hf-train-5": "yes",  # row 0 of the second file: rows are counted through the split
        "vqa-rad/hf-test-0": "yes",
        "vqa-rad/hf-test-1": "yes",
    }
    assert sorted(item.error_class for item in rejects.values()) == [
        "missing_answer",
        "missing_image",
        "missing_image",
        "unreadable_image",
    ]
    assert len(images) == 3
    assert questions["vqa-rad/hf-train-0"].image_ids == questions["vqa-rad/hf-test-0"].image_ids
    assert questions["vqa-rad/hf-train-1"].image_ids == (hashlib.sha256(jpeg(100)).hexdigest(),)
    assert "p.jpg" in {image.path for image in images}


def test_hub_shards_are_read_alone(hub):
    rows = [hub_row(jpeg(tone), answer=str(tone)) for tone in range(0, 250, 3)] * 2
    hub_file(hub / "data/train-00000-of-00002.parquet", rows, row_group_size=20)
    source = VqaRad(hub)
    shards = source.plan()
    assert [len(shard.payload) for shard in shards] == [64, 24]
    found = [item for shard in shards for item in source.read(shard).questions]
    assert len(found) == 2 * 84 + 1 + 2
    answers = {item.image_ids[0]: item.answer for item in found if item.answer != "yes"}
    assert answers == {hashlib.sha256(jpeg(tone)).hexdigest(): str(tone) for tone in range(0, 250, 3)}


def test_a_changed_hub_file_stops_the_shard(hub):
    source = VqaRad(hub)
    shard = source.plan()[0]
    hub_file(hub / "data/test-00000-of-00001.parquet", [hub_row(jpeg(1)), hub_row(jpeg(2))])
    with pytest.raises(InputError, match="changed"):
        source.read(shard)


def test_broken_hub_files_are_refused_by_name(hub):
    path = hub / "data/train-00001-of-00002.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a readable Parquet file") as caught:
        VqaRad(hub).plan()
    assert caught.value.where == str(path)
    pq.write_table(pa.table({"image": ["x.jpg"], "question": ["q"], "answer": ["a"]}), path)
    with pytest.raises(InputError, match="not struct"):
        VqaRad(hub).plan()
    pq.write_table(pa.table({"image": ["x.jpg"], "question": ["q"]}), path)
    with pytest.raises(InputError, match=r"\['answer'\] are missing"):
        VqaRad(hub).plan()
    path.unlink()
    with pytest.raises(InputError, match=r"has 1 files, their names promise \[2\]"):
        VqaRad(hub).plan()


def test_an_unknown_folder_is_told_what_each_form_needs(tmp_path):
    with pytest.raises(InputError) as caught:
        VqaRad(tmp_path).plan()
    for name in ("VQA_RAD Dataset Public.json", "trainset.json", "testset.json", "train-*.parquet"):
        assert name in str(caught.value)


def test_two_forms_in_one_folder_are_refused(mevf):
    (mevf / "VQA_RAD Dataset Public.json").write_text("[]")
    with pytest.raises(InputError, match=r"2 forms at once: \['osf', 'mevf'\]"):
        VqaRad(mevf).plan()


def test_revision_is_raised_when_records_change(tmp_path):
    """Golden: if this digest moves, raise VqaRad.revision (work shards are reused by it), then renew it."""
    (tmp_path / "images").mkdir()
    for name in ("synpic2.jpg", "synpic10.jpg", "copy.jpg"):
        (tmp_path / "images" / name).write_bytes(write_png(np.full((4, 5), len(name), np.uint8)))
    (tmp_path / "trainset.json").write_text(json.dumps(TRAIN))
    (tmp_path / "testset.json").write_text(json.dumps(TEST))
    images, questions, rejects = read_all(VqaRad(tmp_path))
    what = [asdict(item) for item in (*questions.values(), *rejects.values())]
    what += [[image.image_id, image.pixel_sha256, image.path] for image in images]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
    assert (VqaRad.revision, digest) == (2, "d20cdb885c39")
