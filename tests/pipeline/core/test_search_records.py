"""Searches with records: what is known is not asked again, and what a replay does not know it does not invent."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.grn import NavigatorConfig
from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem
from pipeline.core.search import search
from schemas.experts import NOT_RECORDED, Failure
from schemas.records import ExpertCall
from tests.doubles import IDENTITY, ScriptedExpert, question

RULE = SearchConfig(origins=("drill_only", "random", "scan_only"))


@dataclass
class Memory:
    """Records that keep failures too, unless told not to."""

    calls: dict[str, ExpertCall] = field(default_factory=dict)
    with_failures: bool = True

    def known(self, names):
        return {name: self.calls[name] for name in names if name in self.calls}

    def keep(self, calls):
        self.calls |= {call.call_id: call for call in calls if self.with_failures or call.error_class is None}


class Nobody:
    """Knows nothing."""

    identity = IDENTITY

    def answer(self, asks):
        return [Failure(NOT_RECORDED, "") for _ in asks]


class Unread:
    """An image that nobody may decode."""

    def __call__(self):
        raise AssertionError("decoded")


def items(n=12, decoded=lambda: None, **changes):
    image = SearchImage("image0", (200, 100), decoded)
    return [SearchItem(question(f"q{number}", **changes), (image,)) for number in range(n)]


def found(expert, memory, config=RULE, asked=None):
    return search(asked or items(), expert, config, source="scripted", seed=0, records=memory)


def counted(result, n_asked, n_known):
    assert (result.n_asked, result.n_known) == (n_asked, n_known)
    return replace(result, n_asked=0, n_known=0)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from((0.0, 0.1)), st.sampled_from((0.0, 0.3)))
def test_what_was_recorded_is_said_again_failures_word_for_word(script, fails, odd):
    memory = Memory()
    first = found(ScriptedExpert(script=script, fails=fails, odd=odd), memory)
    again = found(Nobody(), memory, asked=items(decoded=Unread()))
    n = len(first.calls)
    assert counted(first, n, 0) == counted(again, 0, n)
    assert all((call.message is None) == (call.error_class is None) for call in first.calls)
    assert {reject.message for reject in again.rejects} <= {call.message for call in first.calls}


def test_another_rule_asks_only_what_is_new():
    memory, expert = Memory(), ScriptedExpert()
    first = {call.call_id for call in found(expert, memory).calls}
    expert.batches.clear()
    other = SearchConfig(NavigatorConfig(gain_min=0.02))
    second = found(expert, memory, other)
    asked = {name for batch in expert.batches for name in batch}
    assert asked == {call.call_id for call in second.calls} - first
    assert 0 < len(asked) < len(second.calls) / 2
    fresh = found(ScriptedExpert(), None, other)
    assert counted(second, len(asked), len(second.calls) - len(asked)) == counted(fresh, len(fresh.calls), 0)


def test_a_question_in_other_words_is_asked():
    memory, expert = Memory(), ScriptedExpert()
    found(expert, memory)
    reworded = found(expert, memory, asked=items(question="Is there a mass?"))
    assert (reworded.n_known, reworded.n_asked) == (0, len(reworded.calls))


class Dies(ScriptedExpert):
    def answer(self, asks):
        if len(self.batches) == 3:
            raise KeyboardInterrupt
        return super().answer(asks)


def test_batches_that_were_answered_outlive_a_search_that_was_not():
    memory, dead, expert = Memory(), Dies(), ScriptedExpert()
    with pytest.raises(KeyboardInterrupt):
        found(dead, memory)
    before = {name for batch in dead.batches for name in batch}
    assert set(memory.calls) == before != set()
    result = found(expert, memory)
    assert not before & {name for batch in expert.batches for name in batch}
    assert counted(result, expert.n_calls, len(before)) == counted(found(Nobody(), memory), 0, len(result.calls))


def test_failures_that_were_not_kept_are_asked_again_and_nothing_else():
    memory = Memory(with_failures=False)
    first = found(ScriptedExpert(fails=0.05), memory)
    bad = {reject.row_key for reject in first.rejects}
    assert 0 < len(bad) < 12
    healed = ScriptedExpert()
    second = found(healed, memory)
    assert not second.rejects
    failed = {call.call_id for call in first.calls if call.error_class}
    asked = {name for batch in healed.batches for name in batch}
    assert failed <= asked
    assert {call.question_id for call in second.calls if call.call_id in asked} == bad
    assert [row for row in second.trajectories if row.question_id not in bad] == list(first.trajectories)


def test_what_a_replay_does_not_know_is_a_reject_that_counts_and_no_call():
    memory = Memory()
    found(ScriptedExpert(), memory)
    scans = {name: call for name, call in memory.calls.items() if call.mode == "scan"}
    del scans[min(scans)]
    result = found(Nobody(), Memory(scans))
    assert result.trajectories == ()
    assert set(result.calls) == set(scans.values())
    assert (result.n_asked, result.n_known) == (0, 11)
    assert {reject.error_class for reject in result.rejects} == {NOT_RECORDED}
    n_missing = sorted(int(reject.message.split()[0]) for reject in result.rejects)
    assert n_missing[0] == 1
    assert n_missing[-1] > 1
    assert {reject.message.partition(" ")[2] for reject in result.rejects} == {
        "of the calls it needs next are not recorded"
    }
