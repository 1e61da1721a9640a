import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.admission import float32
from pipeline.core.cvs import greedy, sampled
from pipeline.core.grn import (
    Aim,
    NavigatorConfig,
    State,
    Stop,
    advance,
    delta_c,
    glance,
    next_query,
    start,
)
from schemas.boxes import inside
from schemas.experts import Candidate, Drill, Scan, Seen
from schemas.records import Rule
from tests.doubles import any_seen

RULE = Rule(gain_min=0.15, confident_at=0.85, looks_max=4, mass=0.9, temperature=0.2, crossing="exclude")
BEST = greedy(RULE)
SIZE = (200, 100)
A, B, C, D = ((x, 10.0, x + 20, 30.0) for x in (10.0, 60.0, 110.0, 160.0))
TWIN_OF_A = (12.0, 10.0, 32.0, 30.0)  # IoU 18/22
HALF_OF_A = (10.0, 10.0, 30.0, 20.0)  # IoU exactly ½: another region


def seen(*candidates, text="words"):
    return Seen(tuple(Candidate(box, label, confidence) for box, label, confidence in candidates), text)


def scanned(*regions, **options) -> State:
    """The state after a first scan that gave (box, confidence) pairs."""
    told = seen(*((box, f"r{i}", confidence) for i, (box, confidence) in enumerate(regions)))
    return advance(start((SIZE,), **options), Scan(), told, RULE, "scan0")


def told(state, *answers, rule=RULE):
    """`state` after as many drills as there are (confidence, box or None to keep it) answers, and what comes next."""
    for confidence, box in answers:
        move = next_query(state, BEST, rule)
        assert isinstance(move, Aim), move
        state = advance(state, move, seen((box or move.drill.box_xyxy_px, "x", confidence)), rule, "drill")
    return state, next_query(state, BEST, rule)


@pytest.mark.parametrize(
    ("before", "after", "keeps"),
    [
        (0.50, 0.60, True),  # Δc = +0.20 ≥ δ
        (0.50, 0.55, False),  # Δc = +0.10 < δ
        (0.50, 0.57500064, True),  # δ from above: 0.5 · 0.15 = 0.075, and ε costs 1.5e-7
        (0.50, 0.57500005, False),  # δ missed by ε alone
        (0.60, 0.50, False),  # Δc = −0.17: a drop returns to scan (the released code's |Δc| drills on)
        (0.00, 0.10, True),  # ε keeps the first look finite
        (0.00, 0.00, False),
    ],
)
def test_keeps_drilling_the_region_that_gained(before, after, keeps):
    state, move = told(scanned((A, before), (B, 0.0)), (after, None))
    assert isinstance(move, Aim)
    assert state.mode == ("drill" if keeps else "scan")
    assert (move.region, move.drill.round) == ((0, 2) if keeps else (1, 1))
    assert (move.choice is None) == keeps
    step = state.steps[-1]
    assert step.delta_c == float32(delta_c(float32(before), float32(after)))
    assert (step.confidence_before, step.confidence_after) == (float32(before), float32(after))


def test_delta_c_is_signed_and_finite_at_zero():
    assert delta_c(0.5, 0.6) == pytest.approx(0.2, rel=1e-5)
    assert delta_c(0.6, 0.5) == pytest.approx(-1 / 6, rel=1e-5)
    assert delta_c(0.0, 1.0) == pytest.approx(1e6)


@pytest.mark.parametrize(
    ("after", "stops"),
    [
        (0.86, True),
        (0.84, False),
        (0.85, True),  # float32(0.85) is 0.850000024, and decisions are made from what is stored
        (0.8499999, False),
    ],
)
def test_confident_is_above_xi(after, stops):
    _, move = told(scanned((A, 0.8), (B, 0.1)), (after, None))
    assert (move == Stop("confident")) == stops


def test_a_sure_scan_is_no_reason_to_stop_before_a_look():
    move = next_query(scanned((A, 0.99), (B, 0.98)), BEST, RULE)
    assert isinstance(move, Aim)
    assert move.region == 0


def test_only_the_region_in_focus_ends_the_search_as_confident():
    _, move = told(scanned((A, 0.99), (B, 0.98)), (0.5, None))
    assert isinstance(move, Aim)  # B is sure, but nobody has looked at it
    assert move.region == 1


def test_length_ends_the_search_after_looks_max_drills_of_any_region():
    rising = [(0.1, None), (0.2, None), (0.4, None), (0.8, None)]
    state, move = told(scanned((A, 0.05), (B, 0.04)), *rising)
    assert [(step.mode, step.region, step.round) for step in state.steps] == [
        ("scan", None, 0),
        *(("drill", 0, n) for n in (1, 2, 3, 4)),
    ]
    assert state.n_looks == 4
    assert move == Stop("length")


def test_confident_is_asked_before_length_and_length_before_exhausted():
    once = replace(RULE, looks_max=1)
    assert told(scanned((A, 0.5)), (0.9, None), rule=once)[1] == Stop("confident")
    assert told(scanned((A, 0.5)), (0.5, None), rule=once)[1] == Stop("length")
    assert told(scanned((A, 0.5)), (0.5, None))[1] == Stop("exhausted")


def test_the_search_begins_with_a_scan_and_takes_the_surest_of_equals_the_first():
    assert next_query(start((SIZE,)), BEST, RULE) == Scan()
    move = next_query(scanned((A, 0.2), (B, 0.6), (C, 0.6)), BEST, RULE)
    assert (move.region, move.choice.candidates, move.choice.rank) == (1, (0, 1, 2), 0)


def test_going_back_to_scan_asks_nobody_and_is_a_step_of_its_own():
    state, move = told(scanned((A, 0.5), (B, 0.4)), (0.5, None), (0.4, None))
    assert [(step.mode, step.call_id, step.text) for step in state.steps] == [
        ("scan", "scan0", "words"),
        ("drill", "drill", "words"),
        ("scan", "scan0", ""),
        ("drill", "drill", "words"),
    ]
    rescan = state.steps[2]
    assert (rescan.region, rescan.box_xyxy_px, rescan.look_xyxy_px, rescan.round) == (None, None, None, 0)
    assert move == Stop("exhausted")  # nothing left: no empty re-scan is written down
    assert state.n_looks == 2


@pytest.mark.parametrize(
    ("other", "refined", "left"),
    [
        (TWIN_OF_A, None, ()),  # the twin of a visited region is dropped
        (HALF_OF_A, None, (1,)),  # IoU 0.5 is not above 0.5
        (TWIN_OF_A, C, (1,)),  # the visited region turned out to lie elsewhere
        (C, C, ()),  # … and there it hides another
    ],
)
def test_a_rescan_drops_what_overlaps_the_visited_region_as_it_is_now(other, refined, left):
    state = scanned((A, 0.5), (other, 0.5))
    assert state.unvisited == (0, 1)  # twins of one scan are both kept, in its order
    state, _ = told(state, (0.5, refined))
    assert state.unvisited == left


def test_rounds_look_closer_and_at_the_refined_box():
    box, better = (100.0, 40.0, 120.0, 50.0), (104.0, 40.0, 112.0, 48.0)
    state, first = told(scanned((box, 0.1)))
    assert first.drill == Drill(box, "r0", (80.0, 30.0, 140.0, 60.0), 1)  # margin 1.0
    state, second = told(state, (0.2, None))
    assert second.drill == Drill(box, "r0", (90.0, 35.0, 130.0, 55.0), 2)  # margin 0.5
    state, third = told(state, (0.3, better))
    assert third.drill == Drill(better, "r0", (102.0, 38.0, 114.0, 50.0), 3)  # margin 0.25 of the refined sides
    state, _ = told(state, (0.5, None))
    assert [step.box_xyxy_px for step in state.steps[1:]] == [box, better, better]  # the region after each look
    assert state.regions[0].box_xyxy_px == box  # as it entered
    assert state.boxes[0] == better


def test_looks_end_at_the_edge_of_the_image():
    move = next_query(scanned(((0.0, 90.0, 20.0, 100.0), 0.5)), BEST, RULE)
    assert move.drill.look_xyxy_px == (0.0, 80.0, 40.0, 100.0)


@pytest.mark.parametrize("nothing", [(), ((500.0, 500.0, 600.0, 600.0), "outside", 0.9)])
def test_no_region_at_all_is_one_look_at_the_whole_image(nothing):
    state = advance(start((SIZE,), rescans=True), Scan(), seen(*([nothing] if nothing else [])), RULE, "scan0")
    assert state.fallback == "whole_image"
    move = next_query(state, BEST, RULE)
    whole = (0.0, 0.0, 200.0, 100.0)
    assert move.drill == Drill(whole, "whole image", whole, 1)
    assert (state.regions[0].confidence, state.regions[0].call_id) == (0.0, None)
    for confidence in (0.0, 0.5, 1.0):  # a gain, or being sure, changes nothing
        after = advance(state, move, seen((A, "x", confidence)), RULE, "drill")
        assert next_query(after, BEST, RULE) == Stop("exhausted")


def test_an_expert_that_rescans_is_asked_again_only_when_nothing_is_left():
    state, move = told(scanned((A, 0.5), (B, 0.4), rescans=True), (0.5, None))
    assert isinstance(move, Aim)
    state, move = told(state, (0.4, None))
    assert move == Scan((A, B))
    state = advance(state, move, seen((C, "new", 0.3), (D, "new", 0.2)), RULE, "scan1")
    assert state.regions[2].call_id == "scan1"
    state, _ = told(state, (0.3, None))
    assert [step.call_id for step in state.steps] == ["scan0", "drill", "scan0", "drill", "scan1", "drill"]
    state, move = told(state, (0.2, None), rule=replace(RULE, looks_max=5))
    assert [step.call_id for step in state.steps[-3:]] == ["drill", "scan1", "drill"]  # a re-scan of the last record
    assert next_query(state, BEST, RULE) == Stop("length")
    move = next_query(state, BEST, replace(RULE, looks_max=5))
    assert move == Scan((A, B, C, D))
    state = advance(state, move, seen(), RULE, "scan2")
    assert next_query(state, BEST, replace(RULE, looks_max=5)) == Stop("exhausted")


@pytest.mark.parametrize(
    ("returned", "n_regions"),
    [
        ((A, 0.9), 2),  # visited: dropped
        ((TWIN_OF_A, 0.9), 2),  # overlaps a visited one: dropped
        ((B, 0.9), 2),  # known and unvisited: it is that region, and keeps its confidence
        ((HALF_OF_A, 0.9), 3),  # IoU 0.5 joins
        ((C, 0.9), 3),  # new: joins
    ],
)
def test_what_a_rescan_returns_is_merged_never_overwritten(returned, n_regions):
    state, _ = told(scanned((A, 0.5), (B, 0.4)), (0.5, None))
    after = advance(state, Scan((A,)), seen((returned[0], "again", returned[1])), RULE, "scan1")
    assert after.regions[:2] == state.regions
    assert after.confidences[:2] == (0.5, float32(0.4))
    assert len(after.regions) == n_regions
    assert after.fallback is None


def test_a_rescan_that_names_a_new_region_twice_adds_it_once():
    state, _ = told(scanned((B, 0.5)), (0.5, None))
    after = advance(state, Scan((B,)), seen((A, "a", 0.3), (TWIN_OF_A, "b", 0.9)), RULE, "scan1")
    assert [region.label for region in after.regions] == ["r0", "a"]


@pytest.mark.parametrize("confidence", [math.nan, math.inf, -math.inf, None, "x", 10**400])
def test_a_drill_without_a_usable_number_changes_nothing(confidence):
    state, _ = told(scanned((A, 0.5), (B, 0.4)), (confidence, C))
    assert (state.confidences[0], state.boxes[0], state.steps[-1].delta_c) == (0.5, A, 0.0)


@pytest.mark.parametrize("answer", [Seen((), "nothing"), seen((A, "x", math.nan))])
def test_an_empty_drill_goes_back_to_scan(answer):
    state = scanned((A, 0.5), (B, 0.4))
    move = next_query(state, BEST, RULE)
    after = advance(state, move, answer, RULE, "drill")
    assert (after.mode, after.steps[-1].confidence_after) == ("scan", 0.5)


def test_a_glance_learns_nothing_and_leaves_nothing_in_focus():
    state = scanned((A, 0.9), (B, 0.8))
    state = glance(state, next_query(state, BEST, RULE))
    step = state.steps[-1]
    assert (step.mode, step.confidence_before, step.confidence_after, step.delta_c) == (
        "look",
        float32(0.9),
        None,
        None,
    )
    assert (step.call_id, step.text) == (None, "")
    move = next_query(state, BEST, RULE)
    assert (move.region, state.n_looks) == (1, 1)


def test_defaults_are_those_of_the_method():
    assert NavigatorConfig() == NavigatorConfig(gain_min=0.15, confident_at=0.85, looks_max=4)


@pytest.mark.parametrize("wrong", [{"looks_max": 0}, {"confident_at": 1.5}, {"gain_min": math.nan}])
def test_settings_without_meaning_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NavigatorConfig(**wrong)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.booleans(), st.integers(1, 5), st.integers(0, 3), st.floats(-1, 1))
def test_every_search_ends_whatever_the_expert_says(data, rescans, looks_max, variant, gain_min):
    rule = replace(RULE, looks_max=looks_max, gain_min=gain_min)
    choose = sampled(rule, 0, "q", variant, 0) if variant else greedy(rule)
    state, moves = start((SIZE,), rescans=rescans), 0
    while not isinstance(move := next_query(state, choose, rule), Stop):
        assert moves < 2 * looks_max + 1  # each look, and a scan before each and after the last
        state, moves = advance(state, move, data.draw(any_seen()), rule, "call"), moves + 1
    assert 1 <= state.n_looks <= looks_max
    boxes = [*state.boxes, *(region.box_xyxy_px for region in state.regions)]
    boxes += [step.look_xyxy_px for step in state.steps if step.look_xyxy_px]
    assert all(inside(box, SIZE) and tuple(map(float32, box)) == box for box in boxes)
    assert all(0 <= c <= 1 and float32(c) == c for c in state.confidences)
