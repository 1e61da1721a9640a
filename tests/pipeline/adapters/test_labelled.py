"""What the chest X-ray sources share: splits drawn by patient, files found by name, names that tell nobody."""

from collections import Counter

import pytest

from pipeline.adapters.sources.base import SourceShard
from pipeline.adapters.sources.labelled import Entry, Mark, digest, files_by_name, key_name, read, split_of
from pipeline.adapters.sources.nih_cxr14 import NihCxr14
from pipeline.adapters.sources.rsna_pneumonia import RsnaPneumonia
from pipeline.adapters.sources.vindr_cxr import VindrCxr
from schemas.errors import UsageError
from tests.pipeline.labelled_sets import put_csv, put_dicom, put_png


def test_splits_are_frozen_draws_of_four_in_five_by_family_and_patient():
    """Another draw would quietly part stores that share patients."""
    drawn = [number for number in range(40) if split_of("nih", str(number)) == "test"]
    assert drawn == [3, 4, 7, 15, 19, 24, 25, 28, 30, 31, 35, 36]
    counts = Counter(split_of("nih", str(number)) for number in range(5000))
    assert 0.78 < counts["train"] / counts.total() < 0.82
    assert any(split_of("nih", str(number)) != split_of("mimic", str(number)) for number in range(20))


def test_files_are_found_by_name_in_the_first_folder_that_has_them(tmp_path):
    for path in ("a/1.PNG", "b/1.PNG", "b/2.png", "b/.3.png", "b/4.txt", "5.png"):
        put_png(tmp_path / path, 1)
    found = files_by_name(tmp_path, ("a", "[b]", "none"), (".png",))
    assert found == {"1.PNG": "a/1.PNG", "2.png": "b/2.png"}
    assert files_by_name(tmp_path, ("", "b"), (".png",)) == {"5.png": "5.png", "1.PNG": "b/1.PNG", "2.png": "b/2.png"}


def test_another_name_takes_the_place_of_the_files_own_everywhere(tmp_path):
    put_png(tmp_path / "Jane Doe/1.png", 1)
    (tmp_path / "Jane Doe/2.png").write_bytes(b"no image")
    (tmp_path / "Jane Doe/3.png").mkdir()
    entries = [
        Entry(
            str(n),
            f"Jane Doe/{n}.png",
            rows=(f"t#{n}",),
            stored_as=f"{n}.png",
            marks=(Mark("b", (1, 1, 2, 2), "x", "y"),),
        )
        for n in (1, 2, 3, 4)
    ]
    rows = read(NihCxr14(tmp_path), SourceShard("00000", tuple(entries)), tmp_path)
    assert [image.path for image in rows.images] == ["1.png"]
    assert [(one.row_key, one.error_class) for one in rows.rejects] == [
        ("t#2", "unreadable_image"),
        ("t#3", "unreadable_image"),
        ("t#4", "missing_image"),
    ]
    assert "Jane" not in repr(rows)


def test_a_digest_follows_what_a_shard_says_and_its_files(tmp_path):
    put_png(tmp_path / "1.png", 1)
    one = digest(SourceShard("0", (Entry("1", "1.png", split="train"),)), tmp_path)
    assert digest(SourceShard("0", (Entry("1", "1.png", split="test"),)), tmp_path) != one
    put_png(tmp_path / "1.png", 2)
    assert digest(SourceShard("0", (Entry("1", "1.png", split="train"),)), tmp_path) != one


def test_a_key_is_named_and_not_told():
    assert key_name(None) is None
    assert key_name(b"sixteen bytes or more") == "c52f7f5b"


@pytest.mark.parametrize(
    ("make", "table", "header", "row", "file"),
    [
        (
            *(RsnaPneumonia, "stage_2_train_labels.csv", "patientId,x,y,width,height,Target"),
            *(("p", "", "", "", "", 0), "stage_2_train_images/p.dcm"),
        ),
        (
            *(VindrCxr, "train.csv", "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"),
            *(("p", "ILD", 5, "R1", 1, 1, 5, 5), "p.dicom"),
        ),
    ],
)
def test_the_window_reaches_the_pixels_and_the_fingerprint(tmp_path, make, table, header, row, file):
    put_csv(tmp_path / table, header, [row])
    put_dicom(tmp_path / file, 1)
    stored = {}
    for window in (None, "0", "minmax"):
        source = make(tmp_path, window=window)
        assert source.config()["window"] == window
        stored[window] = source.read(source.plan()[0]).images[0].data
    assert stored[None] == stored["0"] != stored["minmax"]
    with pytest.raises(UsageError, match="no window 'lung'"):
        make(tmp_path, window="lung").plan()
