"""A store's place: what may be one, and a mirror that is worth no more than the bytes it is known by."""

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest

from schemas.errors import DigestError, StoreError, UsageError
from schemas.reader import Store
from schemas.storage import Folder, is_whole, temporary
from tests.pipeline.small_stores import small_store
from tests.processes import ROOT, run

SECRET = "wJalrXUtnFEMI"


@dataclass(frozen=True)
class File:
    path: str
    bytes: int
    sha256: str


def file_of(name: str, data: bytes) -> File:
    return File(name, len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOVEA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def memory(cache: Path) -> Iterator[Folder]:
    """A URL that this process alone can read."""
    files = fsspec.filesystem("memory")
    yield Folder.of("memory://somewhere/store")
    files.rm("/somewhere", recursive=True) if files.exists("/somewhere") else None


def put(folder: Folder, name: str, data: bytes) -> File:
    fsspec.filesystem("memory").pipe_file(f"{folder.url}/{name}", data)
    return file_of(name, data)


@pytest.mark.parametrize(
    ("where", "name", "is_url"),
    [
        ("store", "store", False),
        (Path("/tmp/a b"), "/tmp/a b", False),
        ("file:///tmp/store/", "/tmp/store", False),
        (Path("file:///tmp/store"), "/tmp/store", False),
        ("s3://bucket/some/store", "s3://bucket/some/store", True),
        ("s3://bucket/some//store///", "s3://bucket/some/store", True),
        (Path("s3://bucket/some/store"), "s3://bucket/some/store", True),
        ("s3a://bucket/store", "s3://bucket/store", True),
        ("gcs://bucket/store", "gs://bucket/store", True),
        ("hf://datasets/owner/name", "hf://datasets/owner/name", True),
        ("c:/store", "c:/store", False),
    ],
)
def test_a_place_has_one_name(where: str | Path, name: str, is_url: bool):
    folder = Folder.of(where)
    assert (str(folder), folder.url is not None) == (name, is_url)
    assert Folder.of(folder) is folder
    assert Folder.of(name) == folder
    assert Store(where).folder == folder


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("b\udcffd", r"cannot be at 'b\\udcffd'"),
        ("s3://", "cannot be at 's3://'"),
        ("s3://bucket/store?versionId=1", "cannot be at"),
        ("s3://bucket/store#1", "cannot be at"),
        (f"s3://AKIA:{SECRET}@bucket/store", "no place for credentials"),
    ],
)
def test_what_no_store_can_be_at_is_refused_and_no_secret_is_repeated(where: str, what: str):
    with pytest.raises(UsageError, match=what) as caught:
        Folder.of(where)
    assert SECRET not in str(caught.value)


def test_a_mirror_is_private_and_another_one_for_each_url(cache: Path):
    one, other = Folder.of("memory://a/store"), Folder.of("memory://b/store")
    assert one.root != other.root
    assert one.root.is_relative_to(cache / "stores")
    assert not cache.exists()
    with temporary(one) as path:
        path.write_bytes(b"x")
    assert stat.S_IMODE(one.root.stat().st_mode) == 0o700
    assert list((one.root / "work" / "tmp").iterdir()) == []


def test_the_mirror_is_below_the_home_unless_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("FOVEA_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Folder.of("s3://bucket/store").root.is_relative_to(tmp_path / ".cache" / "fovea" / "stores")


def test_a_file_is_fetched_once(memory: Folder):
    file = put(memory, "data/part", b"rows")
    path = memory.fetch(file)
    assert path.read_bytes() == b"rows"
    fsspec.filesystem("memory").rm_file(f"{memory.url}/data/part")
    assert memory.fetch(file) == path == memory.root / "data" / "part"
    with pytest.raises(DigestError, match="the file is missing") as caught:
        memory.fetch(file, anew=True)
    assert caught.value.where == f"{memory.url}/data/part"


@pytest.mark.parametrize("damage", [b"row", b"rowz", b""])
def test_a_damaged_mirror_is_fetched_again(damage: bytes, memory: Folder):
    file = put(memory, "data/part", b"rows")
    memory.fetch(file).write_bytes(damage)
    assert memory.fetch(file).read_bytes() == b"rows"


@pytest.mark.parametrize(("there", "what"), [(b"row", "has 3 bytes"), (b"rowz", "sha256 "), (None, "is missing")])
def test_what_is_there_is_never_taken_for_what_it_should_be(there: bytes | None, what: str, memory: Folder):
    file = file_of("data/part", b"rows")
    if there is not None:
        put(memory, file.path, there)
    for fetch in (memory.fetch, lambda file: memory.fetch_all([file])):
        with pytest.raises(DigestError, match=what):
            fetch(file)
    assert not (memory.root / "data" / "part").exists()
    assert list((memory.root / "work" / "tmp").iterdir()) == []


def test_a_file_known_by_the_start_of_its_sha256_is_known_by_no_shorter_one(tmp_path: Path):
    path = tmp_path / "part"
    path.write_bytes(b"rows")
    whole = file_of("part", b"rows").sha256
    assert [is_whole(path, File("part", 4, whole[:n])) for n in (64, 12, 11, 0)] == [True, True, False, False]


def test_small_files_and_names_are_asked_every_time(memory: Folder, tmp_path: Path):
    for folder in (memory, Folder.of(tmp_path / "store")):
        for name in ("manifests/v1.json", "manifests/more/v3.json", "other/v9.json"):
            if folder.url is None:
                (folder.root / name).parent.mkdir(parents=True, exist_ok=True)
                (folder.root / name).write_bytes(b"1")
            else:
                put(folder, name, b"1")
        assert {"v1.json"} <= set(folder.names("manifests")) <= {"v1.json", "more"}
        assert folder.names("nothing") == []
        assert folder.read_all(["other/v9.json", "other/none"]) == {"other/v9.json": b"1"}
        with pytest.raises(FileNotFoundError):
            folder.read("manifests/v2.json")
        assert folder.has([file_of("other/v9.json", b"1"), file_of("manifests/v1.json", b"2")])
        assert not folder.has([file_of("other/v9.json", b"12")])
        assert not folder.has([file_of("other/none", b"1")])
        assert folder.has([])


def test_a_store_is_read_from_wherever_fsspec_reads(memory: Folder, tmp_path: Path):
    local = small_store(tmp_path / "store", 6)
    for path in (path for path in local.root.rglob("*") if path.is_file()):
        put(memory, path.relative_to(local.root).as_posix(), path.read_bytes())
    store = Store(memory.name)
    assert (store.versions(), store.head()) == (local.versions(), local.head())
    assert store.manifest(local.head().digest[:12]).version == 2
    there, here = store.snapshot(), local.snapshot()
    assert there.records("trajectories") == here.records("trajectories")
    for question in here.records("questions"):
        assert there.images.data(question.image_ids[0]) == here.images.data(question.image_ids[0])
    assert not (memory.root / "manifests").exists()  # what names no sha256 is never taken from a mirror


def test_an_empty_url_is_no_store(memory: Folder):
    with pytest.raises(StoreError, match="no store here") as caught:
        Store(memory).snapshot()
    assert caught.value.where == memory.url
    with pytest.raises(StoreError, match="no version v3 here; there are: none"):
        Store(memory).load(3)


@pytest.mark.parametrize(
    ("url", "what", "fix"),
    [
        ("nonsense://a/b", "no storage is known as nonsense://", "s3://BUCKET/PATH"),
        ("s3://b/s", "install", "fovea[s3]"),
    ],
)
def test_what_this_machine_cannot_speak_is_told(url: str, what: str, fix: str):
    """In a process where no s3fs can be imported."""
    code = f"""
import sys
sys.modules["s3fs"] = None
from schemas.errors import UsageError
from schemas.reader import Store
try:
    Store({url!r}).versions()
except UsageError as error:
    print(error)
"""
    done = run([sys.executable, "-c", code], cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert what in done.stdout.lower()
    assert fix in done.stdout


@pytest.mark.parametrize("name", ["../../out", "/tmp/out", "data/../../../out", "data//out", "."])
def test_no_manifest_chooses_what_is_written_on_this_machine(name: str, memory: Folder, tmp_path: Path):
    with pytest.raises(StoreError, match="outside of the store"):
        memory.fetch(file_of(name, b""))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_machine_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("FOVEA_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(UsageError, match="nowhere to keep a mirror") as caught:
        _ = Folder.of("s3://bucket/store").root
    assert "FOVEA_CACHE" in caught.value.fix


def test_a_mirror_that_cannot_be_written_says_where_else(memory: Folder, monkeypatch: pytest.MonkeyPatch):
    file = put(memory, "data/part", b"rows")

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28), str(memory.root))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="cannot write: No space left") as caught:
        memory.fetch(file)
    assert "FOVEA_CACHE" in str(caught.value.fix)
