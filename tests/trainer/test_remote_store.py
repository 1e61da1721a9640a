"""A run reads its store from wherever it is, with the rows and pixels of the local one."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from schemas.errors import DigestError
from schemas.reader import Store
from trainer.data import ingest_of, load_image, load_train_data, questions_of


@pytest.fixture
def copied(run_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The store at a URL that this process alone can read."""
    monkeypatch.setenv("FOVEA_CACHE", str(tmp_path / "cache"))
    files, root = fsspec.filesystem("memory"), run_store.root
    for path in (path for path in root.rglob("*") if path.is_file()):
        files.pipe_file(f"/run-store/{path.relative_to(root).as_posix()}", path.read_bytes())
    yield Store("memory://run-store")
    files.rm("/run-store", recursive=True)


def test_the_same_training_data_comes_from_a_url(run_store: Store, copied: Store):
    there, here = copied.snapshot(), run_store.snapshot()
    assert there.manifest == here.manifest
    slice_ = here.slice("trajectories/*/*")
    assert load_train_data(there, slice_, "grn", 2) == load_train_data(here, slice_, "grn", 2)
    for question in questions_of(here, ingest_of(slice_), "train")[:3]:
        for image_id in question.image_ids:
            assert load_image(there, image_id).tobytes() == load_image(here, image_id).tobytes()


def test_a_damaged_part_at_a_url_is_refused(copied: Store):
    part = copied.head().parts("questions")[0][1]
    fsspec.filesystem("memory").pipe_file(f"/run-store/{part.path}", b"x" * part.bytes)
    with pytest.raises(DigestError, match="sha256"):
        copied.snapshot().read("questions")
