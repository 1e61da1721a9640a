"""What an expert has answered is not asked again, costs nothing again, and is never taken for another expert's."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from pipeline.adapters.call_cache import CallCache
from pipeline.adapters.commits import commit
from pipeline.core.cvs import SamplerConfig
from pipeline.core.grn import NavigatorConfig
from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem
from pipeline.core.search import SearchResult, search
from pipeline.stages.audit_expert import PRIVILEGED, Which, audit_recorded
from pipeline.stages.audit_expert_shown import cost_lines
from schemas.errors import StoreError
from schemas.reader import Store
from tests.pipeline.scripted_truths import TellingExpert, measured, store_of
from tests.pipeline.small_stores import SEARCHED, put_searches

SCRIPT = [(0.25, False, 0.125), (0.75, True, 0.875), (0.5, True, 0.75)]
ONCE = SearchConfig(NavigatorConfig(1e9, 1.0, 4), SamplerConfig(variants=0))


@dataclass
class CostlyExpert(TellingExpert):
    is_costly: ClassVar[bool] = True


def answers_of(store: Store, expert: TellingExpert, n: int | None = None) -> SearchResult:
    """A real search of the first questions."""
    questions = store.snapshot().records("questions")[:n]
    items = [
        SearchItem(one, tuple(SearchImage(each, (64, 48), lambda: None) for each in one.image_ids)) for one in questions
    ]
    return search(items, expert, ONCE, source="drawn", seed=7)


def test_a_costly_expert_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipeline.stages.audit_expert_answers.QUESTIONS_AT_ONCE", 4)
    store = store_of(tmp_path / "store", 6)
    first, second, third = (CostlyExpert(SCRIPT) for _ in range(3))
    some = measured(store, first, Which(n_questions=2))
    assert some.cost["calls"] == first.n_asks == 4
    assert "calls_cached" not in some.cost
    whole = measured(store, second)
    assert (whole.cost["calls_asked"], whole.cost["calls_cached"], second.n_asks) == (8, 4, 8)
    again = measured(store, third)
    assert (again.cost["calls_asked"], again.cost["calls_cached"], third.n_asks) == (0, 12, 0)
    assert again.worth == whole.worth == measured(store_of(tmp_path / "other", 6), TellingExpert(SCRIPT)).worth
    assert [again.cost["per_question"][name] for name in ("calls", "scans", "drills")] == [2, 1, 1]


def test_what_was_known_before_makes_no_question_cheaper(tmp_path: Path):
    """16 requests for 8 calls are 2 a call, not 16 for 6 questions; of no call, nothing."""
    store = store_of(tmp_path / "store", 6)
    measured(store, CostlyExpert(SCRIPT), Which(n_questions=2))
    cost = measured(store, CostlyExpert(SCRIPT)).cost
    assert cost["per_call_asked"]["counted_n_requests"] == 2
    assert set(cost["per_question"]) == {"calls", "scans", "drills"}
    none = measured(store, CostlyExpert(SCRIPT))
    assert none.cost["per_call_asked"] == {}
    assert "12 of 12 calls were known, 0 were asked" in list(cost_lines(none))


def test_calls_of_a_slice_are_known_too(tmp_path: Path):
    store = store_of(tmp_path / "store", 3)
    put_searches(store, answers_of(store, CostlyExpert(SCRIPT)))
    named = CostlyExpert(SCRIPT).identity.id
    commit(store, lambda before: replace(before, expert=named), SEARCHED)
    expert = CostlyExpert(SCRIPT)
    assert (measured(store, expert).cost["calls_cached"], expert.n_asks) == (6, 0)


def test_a_failed_scan_is_asked_again(tmp_path: Path):
    store = store_of(tmp_path / "store", 3)
    assert measured(store, CostlyExpert(SCRIPT, fails=frozenset({1}))).questions["failed"] == 1
    expert = CostlyExpert(SCRIPT)
    report = measured(store, expert)
    assert (report.questions["failed"], report.failures, expert.asked) == (0, {}, ["drawn-0001"])


def test_only_a_costly_expert_leaves_something_behind_and_no_version(tmp_path: Path):
    store = store_of(tmp_path / "store", 3)
    before = files_of(store)
    measured(store, TellingExpert(SCRIPT))
    assert files_of(store) == before
    measured(store, CostlyExpert(SCRIPT))
    fresh = files_of(store) - before
    assert fresh
    assert all(name.startswith("work/calls/") for name in fresh)


def files_of(store: Store) -> set[str]:
    return {path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file()}


def test_where_nothing_can_be_kept_it_is_measured_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    store = store_of(tmp_path / "store", 3)

    def refuse(self: CallCache, calls: object) -> None:
        raise StoreError("cannot be written: Read-only file system")

    monkeypatch.setattr(CallCache, "keep", refuse)
    assert measured(store, CostlyExpert(SCRIPT)).questions["measured"] == 3
    assert capsys.readouterr().err.count("are not kept for another run: cannot be written") == 1


def test_cost_is_per_question_that_was_asked(tmp_path: Path):
    """A slice that was made from two of six questions: 4 calls are 2 a question."""
    store = store_of(tmp_path / "store", 6)
    put_searches(store, answers_of(store, TellingExpert(SCRIPT), n=2))
    snapshot = store.snapshot()
    report = audit_recorded(snapshot, snapshot.slice(SEARCHED), Which())
    assert (report.questions["unasked"], report.cost["calls"]) == (4, 4)
    assert report.cost["per_question"] == {"calls": 2, "scans": 1, "drills": 1}


def test_a_privileged_expert_is_known_without_one_finished_search(tmp_path: Path):
    """Every drill failed, so that no trajectory says whose scans these are; the slice does."""
    store = store_of(tmp_path / "store", 2)
    found = answers_of(store, TellingExpert(SCRIPT, privileged=True))
    put_searches(store, replace(found, trajectories=()))
    commit(store, lambda before: replace(before, config={"privileged": True}), SEARCHED)
    snapshot = store.snapshot()
    report = audit_recorded(snapshot, snapshot.slice(SEARCHED), Which())
    assert (report.privileged, report.rules[0]) == (True, PRIVILEGED)


def test_what_is_drilled_is_said_where_it_was_chosen(tmp_path: Path):
    """Two boxes of a scan and one drill: the report says that the surest was taken, and that this flatters."""

    class TwiceSeen(TellingExpert):
        def _one(self, ask):
            seen = super()._one(ask)
            moved = tuple(
                replace(each, box_xyxy_px=(0.0, 40.0, 8.0, 48.0), confidence=0.125) for each in seen.candidates
            )
            return replace(seen, candidates=seen.candidates + moved)

    store = store_of(tmp_path / "store", 3)
    rules = {looks: measured(store, TwiceSeen(SCRIPT), looks_max=looks).rules for looks in (1, 2)}
    assert any("Drilled are 3 of 6 boxes" in rule and "flatters the drill" in rule for rule in rules[1])
    assert not any("Drilled are" in rule for rule in rules[2])
