"""No update is ever lost: who is second reads again and commits on top."""

import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from pipeline.adapters import commits
from pipeline.adapters.commits import commit
from schemas.errors import ConflictError
from schemas.manifest import Slice
from schemas.reader import Store
from tests.processes import ROOT, environment


def slice_named(name: str, **config: object) -> Slice:
    return Slice("stage", "source", name, 1, config, None, None, {}, {}, ("CC0-1.0",))


def put(store: Store, name: str, **config: object) -> bool:
    new = slice_named(name, **config)
    return commit(store, lambda _: new, new.key)[1]


def assert_is_one_chain(store: Store) -> None:
    assert store.versions() == list(range(1, len(store.versions()) + 1))
    for number in store.versions()[1:]:
        assert store.load(number).parent == store.load(number - 1).digest


def test_a_commit_replaces_its_own_slice_and_no_other(tmp_path: Path):
    store = Store(tmp_path)
    assert put(store, "a", n=1)
    assert put(store, "b", n=1)
    assert put(store, "a", n=2)
    assert {key: dict(one.config) for key, one in store.head().slices.items()} == {
        "stage/source/a": {"n": 2},
        "stage/source/b": {"n": 1},
    }
    assert dict(store.load(2).slices["stage/source/a"].config) == {"n": 1}
    assert_is_one_chain(store)


def test_an_equal_slice_makes_no_version(tmp_path: Path):
    store = Store(tmp_path)
    assert put(store, "a", n=1)
    assert not put(store, "a", n=1)
    assert store.versions() == [1]


def test_a_conflict_is_rebased_on_what_came_first(tmp_path: Path):
    """A rival commits both another slice and our own while ours is being packed."""
    store = Store(tmp_path)
    seen = []

    def build(before: Slice | None) -> Slice:
        seen.append(before and dict(before.config))
        if len(seen) == 1:
            put(store, "b", n=1)
            put(store, "a", n=1)
        return slice_named("a", n=2)

    manifest, is_new = commit(store, build, "stage/source/a")
    assert seen == [None, {"n": 1}]
    assert (is_new, manifest.version, set(manifest.slices)) == (True, 3, {"stage/source/a", "stage/source/b"})
    assert_is_one_chain(store)


def test_what_was_packed_stands_when_somebody_commits_another_slice(tmp_path: Path):
    store, seen = Store(tmp_path), []

    def build(before: Slice | None) -> Slice:
        seen.append(before)
        put(store, "b", n=len(seen))
        return slice_named("a")

    manifest, is_new = commit(store, build, "stage/source/a")
    assert (seen, is_new, set(manifest.slices)) == ([None], True, {"stage/source/a", "stage/source/b"})
    assert_is_one_chain(store)


def test_who_always_loses_gives_up_with_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(commits, "ATTEMPTS", 3)
    store, rivals = Store(tmp_path), iter(range(99))

    def build(before: Slice | None) -> Slice:
        put(store, "a", n=next(rivals))
        return slice_named("a")

    with pytest.raises(ConflictError, match="lost 3 commits in a row"):
        commit(store, build, "stage/source/a")
    assert store.versions() == [1, 2, 3]


WRITER = """
import sys
from tests.pipeline.adapters.test_commits import put
from schemas.reader import Store
store, writer = Store(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.read()  # until all are
for n in range(20):
    assert put(store, f"{writer}-{n}")
    assert put(store, "shared", by=writer, n=n)
"""


def test_of_several_writers_at_once_none_loses_a_commit(tmp_path: Path):
    environ = environment() | {"PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, name], stdin=PIPE, stdout=PIPE, env=environ)
        for name in "abc"
    ]
    assert [writer.stdout.readline() for writer in writers] == [b"ready\n"] * 3
    for writer in writers:
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    for writer in writers:
        writer.stdout.close()
    store = Store(tmp_path)
    assert set(store.head().slices) == {
        f"stage/source/{name}" for name in ["shared", *(f"{writer}-{n}" for writer in "abc" for n in range(20))]
    }
    assert len(store.versions()) == 3 * 40
    assert_is_one_chain(store)
    assert list((tmp_path / "work" / "tmp").iterdir()) == []
