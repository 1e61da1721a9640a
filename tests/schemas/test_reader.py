"""A reader chooses a version, verifies what it reads, and refuses by name what does not match."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import DigestError, SchemaError, StoreError, UsageError
from schemas.manifest import EMPTY, Manifest, Part, Slice
from schemas.reader import Store
from schemas.tables import TABLES
from tests.pipeline.small_stores import INGEST, asked, drawn_image, put_questions

IMAGES = [drawn_image(number) for number in range(60)]
QUESTIONS = [asked(number, image) for number, image in enumerate(IMAGES)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """v1 and v2 of one slice; v3 adds another."""
    one = Store(tmp_path / "store")
    put_questions(one, IMAGES[:30], QUESTIONS[:30])
    put_questions(one, IMAGES, QUESTIONS)
    put_questions(one, IMAGES[:3], QUESTIONS[:3], "ingest/drawn/few")
    return one


def put(store: Store, manifest: Manifest) -> Manifest:
    store.manifests.mkdir(parents=True, exist_ok=True)
    (store.manifests / f"v{manifest.version}.json").write_bytes(manifest.to_bytes())
    return manifest


@pytest.mark.parametrize("name", [2, "2", "v2", "v002", "v00000000002"])
def test_a_version_is_found_by_its_number(name: str | int, store: Store):
    assert store.manifest(name).version == 2


def test_a_version_is_found_by_its_digest_or_the_start_of_it(store: Store):
    for number in store.versions():
        digest = hashlib.sha256((store.manifests / f"v{number}.json").read_bytes()).hexdigest()
        for name in (digest, digest[:8], f"sha256:{digest}", f"sha256:{digest[:12]}"):
            assert store.manifest(name).version == number
            assert store.manifest(name).digest == digest


def test_eight_digits_are_the_start_of_a_digest_and_seven_are_a_number(tmp_path: Path):
    store = Store(tmp_path)
    slices = (Slice("stage", "drawn", str(n), 1, {}, None, None, {}, {}, ()) for n in range(10_000))
    digest = next(one.digest for one in map(EMPTY.with_slice, slices) if put(store, one).digest[:8].isdigit())
    assert store.manifest(digest[:8]).version == 1
    with pytest.raises(StoreError, match=f"no version v{int(digest[:7])} here"):
        store.manifest(digest[:7])


@pytest.mark.parametrize(
    "name", ["v9", "9", "v0", "0", 0, "f" * 64, "v", "", "newest", "-1", "²", "1.0", "main", "v" + "9" * 5000]
)
def test_a_version_that_is_not_there_is_an_error_that_says_what_is(name: str | int, store: Store):
    with pytest.raises(StoreError) as caught:
        store.manifest(name)
    assert "v1, v2, v3" in caught.value.what or "a version is v3" in caught.value.fix


def test_a_short_digest_names_nothing(store: Store):
    with pytest.raises(StoreError, match="no versions have digest"):
        store.manifest(f"sha256:{store.head().digest[:7]}")


def test_the_newest_is_the_default_and_older_ones_stay_readable(store: Store):
    assert (store.manifest().version, store.head().version) == (3, 3)
    assert len(store.snapshot("v1").records("questions")) == 30
    assert len(store.snapshot("v2").records("questions")) == 60


def test_versions_count_past_nine(tmp_path: Path):
    store, manifest = Store(tmp_path), EMPTY
    for n in range(11):
        manifest = put(store, manifest.with_slice(Slice("s", "s", str(n), 1, {}, None, None, {}, {}, ())))
    (tmp_path / "manifests" / "v012.json").write_text("notes")
    (tmp_path / "manifests" / "v7.json.bak").write_text("notes")
    assert store.versions() == list(range(1, 12))
    assert store.head() == manifest


def test_a_folder_without_manifests_is_no_store_and_stays_untouched(tmp_path: Path):
    store = Store(tmp_path / "nowhere")
    assert (store.versions(), store.head()) == ([], EMPTY)
    with pytest.raises(StoreError, match="no store here") as caught:
        store.snapshot()
    assert "fovea ingest" in caught.value.fix
    assert not store.root.exists()


@pytest.mark.parametrize("root", [__file__, f"file://{__file__}"])
def test_a_file_is_no_store(root: str):
    for spelling in (root, Path(root)):
        with pytest.raises(UsageError, match="a store is a folder or a URL"):
            Store(spelling)


def test_a_path_that_is_no_text_is_refused():
    with pytest.raises(UsageError, match=r"cannot be at 'b\\udcffd'"):
        Store("b\udcffd")


def test_a_manifest_that_cannot_be_opened_is_an_error_for_people(store: Store):
    (store.manifests / "v4.json").mkdir()
    with pytest.raises(StoreError, match="cannot be read: Is a directory"):
        store.snapshot()


def test_a_copy_of_an_old_manifest_under_a_new_name_is_refused(store: Store):
    shutil.copy(store.manifests / "v2.json", store.manifests / "v4.json")
    with pytest.raises(StoreError, match="file holds version 2") as caught:
        store.snapshot()
    assert caught.value.where.endswith("v4.json")


def test_an_edited_manifest_is_refused_by_name_and_no_longer_has_its_digest(store: Store):
    path = store.manifests / "v3.json"
    digest = store.head().digest
    path.write_bytes(path.read_bytes().replace(b'"rows":', b'"rows": ', 1))
    with pytest.raises(StoreError, match="edited") as caught:
        store.snapshot()
    assert caught.value.where == str(path)
    put(store, replace(store.load(2), version=3))  # canonical, so only its digest tells
    with pytest.raises(StoreError, match="no versions have digest"):
        store.snapshot(digest)


def part_of(store: Store, table: str) -> Part:
    return next(part for _, part in store.head().parts(table))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (Path.unlink, "file named by the manifest is missing"),
        (flip, "bytes differ from the manifest"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes differ from the manifest"),
        (lambda path: path.write_bytes(b""), "bytes differ from the manifest"),
    ],
)
@pytest.mark.parametrize("table", ["questions", "images"])
def test_a_missing_or_damaged_part_is_refused_by_name(
    damage: Callable[[Path], object], what: str, table: str, store: Store
):
    path = store.root / part_of(store, table).path
    damage(path)
    snapshot = store.snapshot()
    with pytest.raises(DigestError, match=what) as caught:
        snapshot.images.data(IMAGES[0].image_id) if table == "images" else snapshot.read(table)
    assert caught.value.where == str(path)
    assert "build its slice again" in caught.value.fix
    other = {"images": "questions", "questions": "images"}[table]
    assert snapshot.read(other).num_rows  # the rest stays readable


def test_damage_after_a_first_read_is_noticed_too(store: Store):
    snapshot = store.snapshot()
    path = store.root / part_of(store, "questions").path
    assert snapshot.read("questions").num_rows == 63
    flip(path)
    with pytest.raises(DigestError):
        snapshot.read("questions")


@pytest.mark.parametrize(
    ("claim", "error", "what"),
    [
        ({"rows": 7}, DigestError, "the manifest says 7"),
        ({"table": "rejects"}, SchemaError, "table rejects lacks column `stage`"),
    ],
)
@pytest.mark.parametrize("columns", [None, ["question_id"]])
def test_a_manifest_that_claims_something_else_is_not_believed(
    claim: dict[str, object], error: type[Exception], what: str, columns: list[str] | None, store: Store
):
    part = replace(part_of(store, "questions"), **claim)
    with pytest.raises(error, match=what):
        store.snapshot().read_part(part, columns)


def test_rows_are_read_by_split_slice_and_column(store: Store):
    snapshot = store.snapshot()
    rows = snapshot.read("questions", split="train", slices=[INGEST], columns=["answer", "question_id"])
    assert rows.column_names == ["answer", "question_id"]
    train = [one.question_id for one in QUESTIONS if one.split == "train"]
    assert rows.column("question_id").to_pylist() == train
    assert [one.question_id for one in snapshot.each("questions", split="train", slices=[INGEST])] == train
    assert snapshot.records("questions", slices=["ingest/drawn/few"]) == sorted(
        QUESTIONS[:3], key=lambda one: one.split
    )


def test_a_table_without_rows_is_empty_and_has_its_columns(store: Store):
    assert store.snapshot().read("rejects").schema.equals(TABLES["rejects"].schema)
    assert store.snapshot().read("rejects", columns=["stage"]).column_names == ["stage"]


def test_a_slice_is_named_in_full_or_by_a_pattern_that_fits_one(store: Store):
    snapshot = store.snapshot()
    assert snapshot.slice(INGEST).key == snapshot.slice("ingest/*/def?ult").key == INGEST
    with pytest.raises(UsageError, match=r"2 slices match 'ingest/drawn/\*'; slices here: ingest/drawn/default, "):
        snapshot.slice("ingest/drawn/*")
    with pytest.raises(UsageError, match="no slice matches 'x'; slices here: ingest/drawn/default, ingest/drawn/few"):
        snapshot.slice("x")


def test_images_are_found_by_the_sha256_of_their_bytes(store: Store):
    images = store.snapshot().images
    for image in IMAGES:
        assert image.image_id in images
        assert hashlib.sha256(images.data(image.image_id)).hexdigest() == image.image_id
    with pytest.raises(StoreError, match="image 000000000000… is in no part"):
        images.data("0" * 64)
