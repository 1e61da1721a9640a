from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.cvs import SamplerConfig
from pipeline.core.grn import NavigatorConfig
from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem
from pipeline.core.search import search
from schemas.errors import ExpertError
from schemas.experts import Candidate, ExpertIdentity, Scan, Seen, as_asked, call_id
from schemas.rows import from_table, to_table
from tests.doubles import IDENTITY, ScriptedExpert, question
from tests.rederived import problems

SIZE = (200, 100)
ALL = SearchConfig(origins=("scan_only", "drill_only", "random"))
RESCANS = ExpertIdentity("scripted", "1", rescans=True)


def items(n, prefix="q", **changes):
    image = SearchImage("image0", SIZE, lambda: None)
    return [SearchItem(question(f"{prefix}{i}", **changes), (image,)) for i in range(n)]


def found(n=20, config=ALL, seed=0, **script):
    return search(items(n), ScriptedExpert(**script), config, source="scripted", seed=seed)


def by_question(result):
    rows: dict[str, list] = {}
    for row in (*result.trajectories, *result.calls):
        rows.setdefault(row.question_id, []).append(row)
    for row in result.rejects:
        rows.setdefault(row.row_key, []).append(row)
    return rows


configs = st.builds(
    SearchConfig,
    st.builds(NavigatorConfig, st.sampled_from((0.05, 0.15, 0.5)), st.sampled_from((0.6, 0.85)), st.integers(1, 6)),
    st.builds(
        SamplerConfig,
        st.integers(0, 6),
        st.sampled_from((0.3, 0.9, 1.0)),
        st.sampled_from((0.05, 0.2, 2.0)),
        st.sampled_from(("exclude", "include")),
        st.integers(0, 2),
    ),
    st.just(ALL.origins),
)
scripts = st.fixed_dictionaries(
    {
        "script": st.integers(0, 10**6),
        "n_regions": st.integers(0, 7),
        "odd": st.sampled_from((0.0, 0.0, 0.4)),
        "moves": st.booleans(),
        "identity": st.sampled_from((IDENTITY, RESCANS)),
    }
)


@settings(max_examples=60, deadline=None)
@given(configs, scripts, st.integers(0, 5))
def test_every_decision_follows_from_the_row_alone(config, script, seed):
    result = found(3, config, seed, **script)
    assert not result.rejects
    for row in result.trajectories:
        assert row.rule == config.rule
        assert row.origin == "random" or problems(row, [SIZE]) == []


def _change_step(row, **changes):
    drill = next(index for index, step in enumerate(row.steps) if step.candidates)
    return replace(row, steps=(*row.steps[:drill], replace(row.steps[drill], **changes), *row.steps[drill + 1 :]))


@pytest.mark.parametrize(
    "tamper",
    [
        lambda row: replace(row, stop_reason="confident" if row.stop_reason != "confident" else "length"),
        lambda row: replace(row, rule=replace(row.rule, temperature=0.21)),
        lambda row: replace(row, steps=row.steps[:-1], n_looks=row.n_looks - 1),
        lambda row: replace(row, seed=row.seed + 1, variant=9),
        lambda row: _change_step(row, delta_c=0.0123),
        lambda row: _change_step(row, rank=7),
        lambda row: _change_step(row, probability=0.0),
        lambda row: _change_step(row, nucleus=()),
        lambda row: _change_step(row, confidence_before=0.5),
        lambda row: _change_step(row, look_xyxy_px=(0.0, 0.0, 1.0, 1.0)),
        lambda row: _change_step(row, region=99 if row.steps[1].region is None else (row.steps[1].region + 1) % 5),
    ],
)
def test_the_checker_sees_a_row_that_was_tampered_with(tamper):
    rows = [row for row in found(6, SearchConfig()).trajectories if row.origin == "cvs"]
    assert all(problems(row, [SIZE]) == [] for row in rows)
    assert any(problems(tamper(row), [SIZE]) for row in rows)


def test_every_question_gives_grn_its_variants_and_the_ablations_asked_for():
    rows = found(12).trajectories
    for number in range(12):
        mine = [row for row in rows if row.question_id == f"q{number}"]
        variants = [row.variant for row in mine if row.origin == "cvs"]
        assert [row.origin for row in mine] == ["grn", *["cvs"] * len(variants), "scan_only", "drill_only", "random"]
        assert variants == sorted(set(variants))
        assert 1 <= min(variants) <= max(variants) <= 6
        assert {row.variant for row in mine if row.origin != "cvs"} == {0}
        by_origin = {row.origin: row for row in mine}
        assert by_origin["random"].n_looks == by_origin["grn"].n_looks
        assert {step.mode for step in by_origin["drill_only"].steps} == {"drill"}
    assert {row.origin for row in found(2, SearchConfig()).trajectories} == {"grn", "cvs"}


def path(row):
    return tuple((step.region, step.mode) for step in row.steps)


def test_variants_are_distinct_and_redrawn_at_most_four_times():
    rows = [row for row in found(60, SearchConfig()).trajectories if row.origin == "cvs"]
    kept = Counter(row.question_id for row in rows)
    assert len({(row.question_id, path(row)) for row in rows}) == len(rows)
    assert set(kept.values()) >= {1, 3, 6}  # fewer than six where there are no more
    assert {row.n_redraws for row in rows} == {0, 1, 2, 3, 4}
    never = SearchConfig(sampler=SamplerConfig(redraws=0))
    assert len([row for row in found(60, never).trajectories if row.origin == "cvs"]) < len(rows)


class OneSureThreeEqual(ScriptedExpert):
    """The first choice is never in doubt, the second always: two paths in all."""

    def answer(self, asks):
        boxes = [(50.0 * i, 0.0, 50.0 * i + 20, 20.0) for i in range(4)]
        told = tuple(
            Candidate(box, "r", confidence) for box, confidence in zip(boxes, (0.84, 0.1, 0.1, 0.1), strict=True)
        )
        drilled = [
            Seen((Candidate(ask.query.box_xyxy_px, "r", 0.0),), "") if ask.query != Scan() else None for ask in asks
        ]
        return [each or Seen(told, "") for each in drilled]


def test_a_doubt_after_the_first_choice_is_worth_a_redraw():
    config = SearchConfig(sampler=SamplerConfig(variants=2, temperature=0.1))
    rows = search(items(40), OneSureThreeEqual(), config, source="scripted", seed=0).trajectories
    second = [row for row in rows if row.variant == 2]
    assert {len(row.steps[1].nucleus) for row in rows} == {1}
    assert len(second) > 35  # 1 − 2⁻⁵ of them; ½ without redraws
    assert max(row.n_redraws for row in second) > 1


def test_one_region_gives_one_variant_although_grn_takes_the_same_path():
    rows = found(4, SearchConfig(), n_regions=1).trajectories
    assert Counter((row.origin, row.variant) for row in rows) == {("grn", 0): 4, ("cvs", 1): 4}


def test_each_distinct_call_is_made_once_in_order_and_named_by_a_row():
    expert = ScriptedExpert()
    result = search(items(20), expert, ALL, source="scripted", seed=0)
    asked = [name for batch in expert.batches for name in batch]
    assert len(set(asked)) == len(asked) == len(result.calls)
    assert all(batch and batch == sorted(batch) for batch in expert.batches)
    assert result.calls == tuple(sorted(result.calls, key=lambda call: (call.question_id, call.call_id)))
    named = {step.call_id for row in result.trajectories for step in row.steps if step.call_id}
    assert {call.call_id for call in result.calls} >= named
    kept_all = SearchConfig(sampler=SamplerConfig(redraws=0, temperature=5.0, mass=1.0), origins=ALL.origins)
    everything = found(20, kept_all)
    named = {step.call_id for row in everything.trajectories for step in row.steps if step.call_id}
    assert {call.call_id for call in everything.calls} == named  # nobody is asked for a row that is not kept


def test_six_variants_cost_far_less_than_six_searches():
    alone, full = ScriptedExpert(), ScriptedExpert()
    search(items(100), alone, SearchConfig(sampler=SamplerConfig(variants=0)), source="scripted", seed=0)
    search(items(100), full, SearchConfig(), source="scripted", seed=0)
    assert 1 < full.n_calls / alone.n_calls < 2


@settings(max_examples=25, deadline=None)
@given(scripts, st.permutations(range(6)), st.integers(1, 6), st.sampled_from((0.0, 0.1)))
def test_neither_order_nor_company_changes_a_question(script, order, n, fails):
    whole = by_question(found(6, ALL, fails=fails, **script))
    some = [items(6)[index] for index in order[:n]]
    expert = ScriptedExpert(fails=fails, **script)
    part = by_question(search(some, expert, ALL, source="scripted", seed=0))
    assert part == {f"q{index}": whole[f"q{index}"] for index in order[:n]}


def test_a_failed_call_rejects_its_question_only_and_is_kept():
    clean, expert = by_question(found(40)), ScriptedExpert(fails=0.03)
    result = search(items(40), expert, ALL, source="scripted", seed=0, shard="s0")
    bad = {row.row_key for row in result.rejects}
    assert 5 < len(bad) < 35
    assert {row.question_id for row in result.trajectories} == {f"q{i}" for i in range(40)} - bad
    assert all(by_question(result)[name] == clean[name] for name in clean.keys() - bad)
    failed = [call for call in result.calls if call.error_class]
    assert {call.question_id for call in failed} == bad
    assert {(call.error_class, call.raw, call.text, call.candidates) for call in failed} == {
        ("timeout", "half a sen", "", ())
    }
    first = result.rejects[0]
    assert (first.stage, first.source, first.shard, first.error_class) == ("trajectories", "scripted", "s0", "timeout")


def test_of_several_failures_at_once_the_smallest_call_id_is_the_reason():
    result = found(60, fails=0.3)
    failed: dict[str, list[str]] = {}
    for call in result.calls:
        if call.error_class:
            failed.setdefault(call.question_id, []).append(call.call_id)
    assert max(map(len, failed.values())) > 2
    assert {row.row_key: row.message for row in result.rejects} == {
        name: f"no answer to {min(calls)[:8]}" for name, calls in failed.items()
    }


def test_a_question_that_cannot_even_be_scanned_is_rejected():
    result = found(3, fails=1.0)
    assert [row.row_key for row in result.rejects] == ["q0", "q1", "q2"]
    assert (result.trajectories, len(result.calls)) == ((), 3)


@dataclass
class Recorded:
    """Answers from recorded calls and knows nothing else."""

    calls: dict
    identity: ExpertIdentity = IDENTITY

    def answer(self, asks):
        names = [call_id(self.identity.id, as_asked(ask.question), ask.image_id, ask.query) for ask in asks]
        told = [self.calls[name] for name in names]
        return [Seen(tuple(Candidate(*each) for each in call.candidates), call.text, call.raw) for call in told]


def test_recorded_calls_give_the_same_trajectories_through_parquet_types():
    result = found(10, odd=0.3)
    calls = from_table("expert_calls", to_table("expert_calls", result.calls))
    assert tuple(calls) == result.calls
    replayed = search(items(10), Recorded({call.call_id: call for call in calls}), ALL, source="scripted", seed=0)
    assert replayed == result
    assert tuple(from_table("trajectories", to_table("trajectories", replayed.trajectories))) == result.trajectories


@pytest.mark.parametrize(
    ("split", "answer", "source"), [("train", "yes", "gold"), ("validation", None, None), ("test", None, None)]
)
def test_only_the_train_split_ends_with_the_gold_answer(split, answer, source):
    result = search(items(2, split=split), ScriptedExpert(), ALL, source="scripted", seed=7)
    assert {(row.answer, row.answer_source, row.split, row.seed) for row in result.trajectories} == {
        (answer, source, split, 7)
    }


def test_rows_say_who_answered_and_whether_it_was_privileged():
    who = ExpertIdentity("scripted", "2", (("a", 1),), privileged=True)
    result = found(2, identity=who)
    assert {(row.expert, row.privileged) for row in result.trajectories} == {(who.id, True)}
    assert {call.expert for call in result.calls} == {who.id}
    assert who.id != found(1).trajectories[0].expert


def test_seeds_move_the_variants_and_random_boxes_but_not_grn():
    one, two = found(10, seed=1).trajectories, found(10, seed=2).trajectories

    def of(rows, origin):
        return [row.steps for row in rows if row.origin == origin]

    assert of(one, "grn") == of(two, "grn")
    assert of(one, "cvs") != of(two, "cvs")
    assert of(one, "random") != of(two, "random")


def test_an_expert_that_loses_an_answer_is_a_named_error():
    class Loses(ScriptedExpert):
        def answer(self, asks):
            return super().answer(asks)[1:]

    with pytest.raises(ExpertError, match="gave 1 answers to 2 asks"):
        search(items(2), Loses(), ALL, source="scripted", seed=0)


def test_no_questions_are_no_calls():
    expert = ScriptedExpert()
    result = search([], expert, ALL, source="scripted", seed=0)
    assert (result.trajectories, result.calls, result.rejects, expert.batches) == ((), (), (), [])


def test_unknown_origins_are_refused():
    with pytest.raises(ValueError, match="nowhere"):
        SearchConfig(origins=("nowhere",))
