"""The same bytes from one worker or two, alone or not, killed or not; and no work twice."""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.stages.ingest import REVISION, Ingest, ingest
from pipeline.stages.phantom_source import PhantomSource
from schemas.errors import InputError
from schemas.manifest import sha256_of
from schemas.reader import Store
from schemas.records import Reject
from tests.pipeline.small_stores import asked, drawn_image
from tests.processes import PHANTOM, ROOT, bytes_of, fovea, run, start

GOLDEN = {
    2: "22776d823107125c0e69cae8159444d97f8412970b9ef644bd3e51a246482d7d"
}  # sha256 over the rows of `Drawn`, per REVISION


def published(store: Store, version: int) -> dict[str, str]:
    """What a store held at a version: the later ones, and the parts only they name, left out."""
    named = {part.path for _, part in store.load(version).parts()} | {
        f"manifests/v{n}.json" for n in range(version + 1)
    }
    return {path: digest for path, digest in bytes_of(store.root).items() if path in named}


def test_two_workers_leave_the_bytes_of_one(phantom_store: Store, tmp_path: Path):
    made = fovea("ingest", *PHANTOM, "--store", tmp_path / "two", "--workers", 2)
    assert (made.returncode, made.stdout) == (0, "")
    assert bytes_of(tmp_path / "two") == published(phantom_store, 1)


def killed_in_the_midst(store: Store, *line: object) -> bool:
    """SIGKILL to a builder and its workers as soon as one shard is finished; False when it was faster."""
    builder = start(*line, "--store", store.root, start_new_session=True)
    while builder.poll() is None and not list(store.root.glob("work/ingest/*.json")):
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(builder.pid, signal.SIGKILL)
    builder.communicate()
    return not store.versions()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_build_goes_on_and_leaves_the_same_bytes(workers: int, phantom_store: Store, tmp_path: Path):
    line = ("ingest", *PHANTOM, "--workers", workers)
    store = next(store for n in range(9) if killed_in_the_midst(store := Store(tmp_path / str(n)), *line))
    done = json.loads(fovea(*line, "--store", store.root, "--json").stdout)
    assert 1 <= done["shards_reused"] <= done["shards"] == 5
    assert bytes_of(store.root) == published(phantom_store, 1)


DIES = """
import os, signal, sys
import cli
left = int(sys.argv.pop(1))
def counted(name):
    real = getattr(os, name)
    def named(*paths):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*paths)
    setattr(os, name, named)
counted("link")
counted("replace")
cli.main()
"""  # every file of a store gets its name by one of these two calls


def test_a_build_killed_again_and_again_at_every_stage_of_it_ends_with_the_same_bytes(
    phantom_store: Store, tmp_path: Path
):
    line = ["ingest", *map(str, PHANTOM), "--store", str(tmp_path)]
    for n_files in (2, 4, 6, 7, 2, 6, 7):  # before a record, in a shard, after one, in packing, before the manifest …
        assert Store(tmp_path).versions() == []
        assert run([sys.executable, "-c", DIES, str(n_files), *line], cwd=ROOT).returncode == -signal.SIGKILL
    assert Store(tmp_path).versions() == [1]  # … and between it and the catalog
    assert not (tmp_path / "catalog" / "init.sql").exists()
    assert "nothing to do" in fovea(*line).stderr
    assert (tmp_path / "catalog" / "init.sql").exists()
    assert bytes_of(tmp_path) == published(phantom_store, 1)


def test_two_builders_at_once_make_one_version_and_both_succeed(phantom_store: Store, tmp_path: Path):
    builders = [start("ingest", *PHANTOM, "--store", tmp_path, "--json") for _ in range(2)]
    told = [json.loads(builder.communicate()[0]) for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert {one["version"] for one in told} == {"v1"}
    assert sorted(one["is_new_version"] for one in told) == [False, True]
    assert bytes_of(tmp_path) == published(phantom_store, 1)


def test_an_unchanged_build_does_nothing_and_says_so(phantom_store: Store):
    before = {path: path.stat().st_mtime_ns for path in phantom_store.root.glob("[dmw][!o]*/**/*") if path.is_file()}
    again = fovea("ingest", *PHANTOM, "--store", phantom_store.root)
    assert again.returncode == 0
    assert again.stderr.startswith("nothing to do: ingest/phantom/default is unchanged (5 shards reused, v2)\n")
    told = json.loads(fovea("ingest", *PHANTOM, "--store", phantom_store.root, "--json").stdout)
    assert (told["did_work"], told["is_new_version"], told["version"]) == (False, False, "v2")
    assert before == {path: path.stat().st_mtime_ns for path in before}


def small(n_train: int = 0, n_test: int = 0, **settings: object) -> PhantomSource:
    return PhantomSource(n_train=n_train, n_test=n_test, side_px=112, **settings)


def test_growth_adds_parts_and_leaves_the_old_ones_as_they_are(tmp_path: Path):
    store = Store(tmp_path)
    before = ingest(store, small(3, 2)).slice
    built = ingest(store, small(70, 2))
    assert (built.n_shards, built.n_reused, built.manifest.version) == (3, 1, 2)
    assert set(before.parts) < set(built.slice.parts)
    assert {(part.table, part.rows) for part in set(built.slice.parts) - set(before.parts)} == {
        ("images", 67), ("questions", 67)
    }  # fmt: skip


def test_a_changed_config_is_done_anew_and_the_old_version_stays(tmp_path: Path):
    store = Store(tmp_path)
    old = ingest(store, small(2)).manifest
    built = ingest(store, small(2, seed=1))
    assert (built.n_reused, built.is_new, built.manifest.parent) == (0, True, old.digest)
    assert store.load(1) == old
    assert store.snapshot("v1").records("questions") != store.snapshot("v2").records("questions")


def test_names_keep_slices_apart(tmp_path: Path):
    store = Store(tmp_path)
    ingest(store, small(2))
    ingest(store, small(2, seed=1), name="other")
    assert set(store.head().slices) == {"ingest/phantom/default", "ingest/phantom/other"}


class Drawn:
    """A source of three images, one of which nobody asks about, and one row that cannot be read."""

    name, revision, licence = "drawn", 1, "CC0-1.0"

    def __init__(self, n_shards: int = 1) -> None:
        self.n_shards = n_shards

    def config(self) -> dict[str, object]:
        return {}

    def plan(self) -> list[SourceShard]:
        return [SourceShard(f"s{index}", (index,)) for index in range(self.n_shards)]

    def digest(self, shard: SourceShard) -> str:
        return sha256_of([shard.key])

    def read(self, shard: SourceShard) -> SourceRows:
        images = [drawn_image(number) for number in range(3)]
        questions = [asked(number, image) for number, image in enumerate(images[:2])]
        return SourceRows(images, questions, [Reject("ingest", "drawn", shard.key, "row 2", "InputError", "no answer")])


def test_rows_in_are_rows_kept_and_rejects_and_unasked_images_stay(tmp_path: Path):
    store = Store(tmp_path)
    built = ingest(store, Drawn())
    assert built.summary()["rows"] == {"images": {"pool": 3}, "questions": {"train": 2}, "rejects": {"pool": 1}}
    assert store.snapshot().records("rejects")[0].row_key == "row 2"
    assert built.slice.licences == ("CC0-1.0",)


def test_a_source_without_rows_is_an_error_and_makes_no_version(tmp_path: Path):
    with pytest.raises(InputError, match="no rows to make ingest/drawn/default from"):
        ingest(Store(tmp_path), Drawn(0))
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_says_what_was_built_and_nothing_about_where_or_when(phantom_store: Store):
    text = (phantom_store.manifests / "v1.json").read_text()
    plain = json.loads(text)["slices"]["ingest/phantom/default"]
    parts = plain.pop("parts")
    assert plain == {
        "stage": "ingest",
        "source": "phantom",
        "name": "default",
        "revision": REVISION,
        "config": {"source": "phantom", "revision": PhantomSource.revision, "seed": 0, "level": "L1", "side_px": 112},
        "expert": None,
        "seed": 0,
        "inputs": {},
        "schemas": plain["schemas"],
        "licences": ["CC0-1.0"],
    }
    assert [part["path"] for part in parts] == sorted(part["path"] for part in parts)
    assert str(phantom_store.root) not in text
    assert os.uname().nodename not in text


def test_other_rows_need_another_revision(tmp_path: Path):
    """When this fails on purpose: raise REVISION, which finished work shards are reused by, and pin the new digest."""
    store = Store(tmp_path)
    ingest(store, Drawn())
    rows = [store.snapshot().read(table).to_pylist() for table in ("questions", "rejects")]
    images = store.snapshot().read("images").drop_columns("image").to_pylist()
    assert sha256_of([*rows, images]) == GOLDEN[REVISION]


def test_a_stage_is_what_it_says_in_any_process():
    assert Ingest(small(2)) == Ingest(small(2))
    assert hash(Ingest(small(2))) == hash(Ingest(small(2)))  # a worker sets a stage up once
