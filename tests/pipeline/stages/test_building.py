"""A build with too many rejects is not committed, and loses no work by it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.adapters.work import Output, Shard
from pipeline.stages.building import RejectLimit, build, schemas_of
from schemas.errors import FoveaError
from schemas.manifest import Slice
from schemas.reader import Store
from schemas.records import Reject
from schemas.rows import to_table
from tests.small_stages import Numbers, shards

REASONS = ("Odd", "Even", "Odd", "Prime", "Odd", "Even", "Rare")


@dataclass(frozen=True, slots=True)
class Fussy(Numbers):
    """Rejects the numbers below `until`, each for its reason."""

    until: int = len(REASONS)

    def describe(self) -> Slice:
        names = {"stage": self.name, "source": "test", "name": "default", "revision": 1, "expert": None, "seed": None}
        return Slice(**names, config={}, inputs={}, schemas=schemas_of(self.tables), licences=())

    def process(self, state: None, shard: Shard) -> Output:
        bad = [number for number in shard.payload if number < self.until]
        rows = [Reject(self.name, "test", shard.key, str(number), REASONS[number], "") for number in bad]
        return {("rejects", "pool"): to_table("rejects", rows)}


def limit(rate: float) -> RejectLimit:
    return RejectLimit(rate, "mend it")


def test_more_rejects_than_allowed_commit_nothing_and_keep_the_work(tmp_path: Path):
    store = Store(tmp_path)
    with pytest.raises(FoveaError) as caught:
        build(store, Fussy(), shards(4), limit=limit(0.58))  # 7 of 12
    assert caught.value.what == (
        "7 of 12 rows were rejected, more than --max-reject-rate 0.58 allows; mostly Odd (3), Even (2), Prime (1)"
    )
    assert "not committed" in caught.value.where
    assert caught.value.fix == "mend it"
    assert store.versions() == []
    built = build(store, Fussy(), shards(4), limit=limit(0.59))
    assert (built.n_reused, built.is_new, built.summary()["rows"]) == (4, True, {"rejects": {"pool": 7}})


@pytest.mark.parametrize(("until", "rate", "is_committed"), [(0, 0.0, True), (1, 0.0, False), (6, 0.5, True)])
def test_the_limit_itself_is_allowed(until: int, rate: float, is_committed: bool, tmp_path: Path):
    store = Store(tmp_path)
    try:
        build(store, Fussy(until=until), shards(4), limit=limit(rate))
    except FoveaError:
        assert not is_committed
    assert store.versions() == ([1] if is_committed else [])


@pytest.mark.parametrize("n_rejected", [29, 57, 58])  # n/100 * 100 < n in floating point
def test_the_limit_itself_is_allowed_whatever_its_digits(n_rejected: int, tmp_path: Path):
    todo = [Shard("all", 100, tuple(index % 7 for index in range(n_rejected)))]
    assert build(Store(tmp_path), Fussy(), todo, limit=limit(n_rejected / 100)).is_new


def test_a_rate_of_one_allows_more_rejects_than_rows(tmp_path: Path):
    todo = [Shard(shard.key, 1, shard.payload) for shard in shards(2)]  # an image may have many bad questions
    assert build(Store(tmp_path), Fussy(), todo, limit=limit(1.0)).is_new
