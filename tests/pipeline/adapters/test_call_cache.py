"""Answers are found again whoever wrote them, damaged ones never, and a folder of crumbs is swept together."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.adapters import call_cache, call_rows
from pipeline.adapters.call_cache import CallCache, folder_of, join_segments
from schemas.manifest import EMPTY
from schemas.reader import Snapshot
from schemas.records import ExpertCall
from tests.pipeline.small_stores import small_store

EXPERT = "seer@1+00000000"


def call(number: int, **changed: object) -> ExpertCall:
    name = sha256(str(number).encode()).hexdigest()
    box = (1.0, 2.0, 3.0 + number, 4.0)
    told = (((0.0, 0.0, 5.5, 6.25), "spot", 0.25), ((1.0, 1.0, 2.0, 2.0), "", 0.5))
    fields = (name, f"q{number:03d}", "image", EXPERT, "drill", 1, box, box, "{}", "words ä", told[: number % 3], None)
    return replace(ExpertCall(*fields), **changed)


def opened(root: Path, said: list[str] | None = None) -> CallCache:
    def note(text: str) -> None:
        assert said is not None, text
        said.append(text)

    return CallCache(Snapshot(root, EMPTY), EXPERT, note)


def segments(root: Path) -> list[Path]:
    return sorted(folder_of(root, EXPERT).iterdir())


def ids(calls: list[ExpertCall]) -> list[str]:
    return [each.call_id for each in calls]


def by_id(calls: list[ExpertCall]) -> dict[str, ExpertCall]:
    return {each.call_id: each for each in calls}


CALLS = [call(number) for number in range(30)]


def test_calls_are_found_as_they_were_by_this_cache_and_by_the_next(tmp_path: Path):
    cache = opened(tmp_path)
    assert cache.known(ids(CALLS)) == {}
    for first in range(0, 30, 7):
        cache.keep(CALLS[first : first + 7])
    for each in (cache, opened(tmp_path)):
        assert each.known(ids(CALLS)) == by_id(CALLS)
        assert each.known([*ids(CALLS[3:9]), call(99).call_id]) == by_id(CALLS[3:9])
        assert each.known([]) == {}
        assert len(each) == 30
    assert CallCache(Snapshot(tmp_path, EMPTY), "other", print).known(ids(CALLS)) == {}


def test_failures_are_not_kept(tmp_path: Path):
    failed = replace(CALLS[0], error_class="timeout", message="late", candidates=())
    cache = opened(tmp_path)
    cache.keep([failed])
    assert not folder_of(tmp_path, EXPERT).exists()
    cache.keep([failed, CALLS[1]])
    assert opened(tmp_path).known(ids(CALLS)) == by_id(CALLS[1:2])


def test_ids_that_begin_alike_are_told_apart(tmp_path: Path):
    alike = [replace(call(n), call_id=f"{'ab' * 8}{n:048d}") for n in range(5)]
    opened(tmp_path).keep(alike[:4])
    assert opened(tmp_path).known(ids(alike)) == by_id(alike[:4])


def test_what_does_not_fit_in_memory_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(call_rows, "ROWS_BYTES", 1)
    cache = opened(tmp_path)
    for each in CALLS:
        cache.keep([each])
    for _ in range(2):
        assert cache.known(ids(CALLS)) == by_id(CALLS)
        assert len(cache._rows._pieces) == 1


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 3] ^= 1
    path.write_bytes({"flipped": data, "cut": data[:-20], "empty": b"", "text": b"no parquet"}[how])


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "text"])
@pytest.mark.parametrize("is_open", [True, False])
def test_a_damaged_segment_is_named_and_nothing_of_it_is_said(tmp_path: Path, how: str, is_open: bool):
    opened(tmp_path).keep(CALLS[:10])
    (spoiled,) = segments(tmp_path)
    opened(tmp_path).keep(CALLS[10:])
    said: list[str] = []
    cache = opened(tmp_path, said)
    damage(spoiled, how)
    cache = cache if is_open else opened(tmp_path, said)
    assert cache.known(ids(CALLS)) == by_id(CALLS[10:])
    assert len(said) == 1
    assert str(spoiled) in said[0]
    cache.keep(CALLS[:10])
    assert cache.known(ids(CALLS)) == opened(tmp_path).known(ids(CALLS)) == by_id(CALLS)


def test_many_crumbs_become_few_files_whoever_joins_them_and_whoever_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(call_cache, "SEGMENTS_MAX", 10)
    monkeypatch.setattr(call_cache, "JOINED_ROWS", 20)
    cache = opened(tmp_path)
    for each in reversed(CALLS):
        cache.keep([each])
    other = opened(tmp_path)
    torn = folder_of(tmp_path, EXPERT) / "calls-000000000000.parquet"
    torn.write_bytes(b"torn")
    with ThreadPoolExecutor(3) as pool:
        assert 30 in pool.map(join_segments, [tmp_path] * 3, [EXPERT] * 3)
    assert len(segments(tmp_path)) < 10
    assert join_segments(tmp_path, EXPERT) == 0
    torn.unlink()
    for each in (cache, other, opened(tmp_path)):
        assert each.known(ids(CALLS)) == by_id(CALLS)


def test_threads_share_a_cache(tmp_path: Path):
    cache = opened(tmp_path)

    def keep(number: int) -> bool:
        mine = CALLS[number : number + 3]
        cache.keep(mine)
        return cache.known(ids(mine)) == by_id(mine)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(keep, range(28)))
    assert cache.known(ids(CALLS)) == opened(tmp_path).known(ids(CALLS)) == by_id(CALLS)


def test_published_calls_of_the_same_expert_are_known_and_damaged_ones_named(tmp_path: Path):
    store = small_store(tmp_path / "store")
    said: list[str] = []
    calls = store.snapshot().records("expert_calls")
    cache = CallCache(store.snapshot(), "scripted", said.append)
    assert cache.known(ids(calls)) == by_id(calls)
    assert len(CallCache(store.snapshot(), "another", said.append)) == 0
    assert said == []
    (part,) = store.snapshot().parts("expert_calls")
    damage(store.root / part.path, "cut")
    assert CallCache(store.snapshot(), "scripted", said.append).known(ids(calls)) == {}
    assert part.path in said[0]
    (store.root / part.path).unlink()
    assert CallCache(store.snapshot(), "scripted", said.append).known(ids(calls)) == {}
    assert len(said) == 2
