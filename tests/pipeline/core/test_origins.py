import pytest

from pipeline.core.cvs import greedy
from pipeline.core.grn import advance, start
from pipeline.core.origins import at_random, drill_only, scan_only
from pipeline.core.walks import Reply, Walked
from schemas.boxes import area, inside
from schemas.experts import Candidate, Drill, Scan, Seen
from schemas.records import Rule, Step

RULE = Rule(gain_min=0.15, confident_at=0.85, looks_max=4, mass=0.9, temperature=0.2, crossing="exclude")
BEST = greedy(RULE)
SIZE = (200, 101)
BOXES = [(x, 10.0, x + 20, 30.0) for x in (10.0, 40.0, 70.0, 100.0, 130.0)]


def after_scan(*regions):
    told = Seen(tuple(Candidate(box, "r", confidence) for box, confidence in regions), "scan")
    return advance(start((SIZE,), rescans=True), Scan(), told, RULE, "scan0")


def drive(walk, answer):
    """The walk's end and what it asked, with `answer` for every query."""
    asked, reply = [], None
    while True:
        try:
            asked.append(walk.send(reply))
        except StopIteration as end:
            return end.value, asked
        reply = Reply("call", answer(asked[-1]))


def keep(confidence):
    return lambda query: Seen((Candidate(query.box_xyxy_px, query.label, confidence),), "")


def test_scan_only_looks_in_order_of_confidence_and_learns_nothing():
    walked = scan_only(after_scan(*zip(BOXES, (0.2, 0.99, 0.3, 0.1, 0.4), strict=True)), BEST, RULE)
    assert [step.mode for step in walked.steps] == ["scan", "look"] * 4
    assert [step.region for step in walked.steps if step.mode == "look"] == [1, 4, 2, 0]
    assert {step.confidence_after for step in walked.steps} == {None}
    assert walked.stop_reason == "length"  # sure of region 1, but without a drill that ends nothing
    assert walked.steps[1].look_xyxy_px == (20.0, 0.0, 80.0, 50.0)  # grown by margin 1, as in round 1 of GRN


def test_scan_only_without_regions_looks_at_the_whole_image_and_never_scans_again():
    walked = scan_only(after_scan(), BEST, RULE)
    assert [step.mode for step in walked.steps] == ["scan", "look"]
    assert (walked.fallback, walked.stop_reason) == ("whole_image", "exhausted")
    assert scan_only(after_scan((BOXES[0], 0.5)), BEST, RULE).stop_reason == "exhausted"  # though the expert rescans


def test_drill_only_never_scans_and_looks_at_quadrants_as_they_are():
    walked, asked = drive(drill_only((SIZE,), BEST, RULE), keep(0.0))
    quadrants = [(0, 0, 100, 50.5), (100, 0, 200, 50.5), (0, 50.5, 100, 101), (100, 50.5, 200, 101)]
    assert [query.look_xyxy_px for query in asked] == quadrants
    assert all(isinstance(query, Drill) and query.box_xyxy_px == query.look_xyxy_px for query in asked)
    assert {step.mode for step in walked.steps} == {"drill"}
    assert [(region.confidence, region.call_id) for region in walked.regions] == [(0.0, None)] * 5
    assert walked.regions[4].box_xyxy_px == (0.0, 0.0, 200.0, 101.0)
    assert walked.stop_reason == "length"


def test_drill_only_obeys_the_rules_of_grn():
    walked, asked = drive(drill_only((SIZE,), BEST, RULE), keep(0.9))
    assert (len(asked), walked.stop_reason) == (1, "confident")
    walked, _ = drive(drill_only((SIZE,), BEST, RULE), keep(0.5))
    assert [(step.region, step.round) for step in walked.steps] == [(0, 1), (0, 2), (1, 1), (1, 2)]


def grn(*looks) -> Walked:
    scan = Step("scan", 0, None, None, None, None, None, None, (), (), (), None, None, "c", "")
    drills = (Step("drill", 1, 0, (1.0, 1.0, 2.0, 2.0), look, 0, 0, 0, (), (), (), 1, 0, "c", "") for look in looks)
    return Walked((), (scan, *drills), "length")


def test_random_boxes_are_as_many_and_as_large_as_the_looks_of_grn_but_elsewhere():
    looks = (0.0, 0.0, 60.0, 40.0), (20.0, 30.0, 40.0, 60.0), (0.0, 0.0, 200.0, 101.0)
    walked = at_random(grn(*looks), (SIZE,), RULE, 0, "q")
    found = [step.look_xyxy_px for step in walked.steps]
    assert [area(box) for box in found] == pytest.approx([area(look) for look in looks], rel=1e-5)
    assert found[2] == looks[2]
    assert found[0] != looks[0]
    assert [step.box_xyxy_px for step in walked.steps] == found
    assert [region.box_xyxy_px for region in walked.regions] == found
    assert {(step.mode, step.confidence_before, step.call_id, step.candidates) for step in walked.steps} == {
        ("look", 0.0, None, ())
    }
    assert walked.stop_reason == "exhausted"
    assert at_random(grn(*looks, looks[0]), (SIZE,), RULE, 0, "q").stop_reason == "length"


def test_random_boxes_are_uniform_and_keyed_by_question_and_look():
    look = (0.0, 0.0, 100.0, 1.0)
    boxes = [at_random(grn(look, look), (SIZE,), RULE, 0, f"q{i}").regions for i in range(600)]
    lefts = [region.box_xyxy_px[0] for pair in boxes for region in pair]
    assert all(inside(region.box_xyxy_px, SIZE) for pair in boxes for region in pair)
    assert sum(lefts) / len(lefts) == pytest.approx(50, abs=3)  # of 0…100, 3.6 standard deviations
    assert all(0.2 < sum(low <= left < low + 25 for left in lefts) / len(lefts) < 0.3 for low in (0, 25, 50, 75))
    assert len(set(lefts)) == len(lefts)
    tops = [region.box_xyxy_px[1] for pair in boxes for region in pair]  # of 0…100 too
    above_both = sum(left < 50 and top < 50 for left, top in zip(lefts, tops, strict=True))
    assert above_both / len(lefts) == pytest.approx(0.25, abs=0.05)  # the axes are drawn apart
    assert at_random(grn(look), (SIZE,), RULE, 1, "q0") != at_random(grn(look), (SIZE,), RULE, 0, "q0")
    assert at_random(grn(look), (SIZE,), RULE, 0, "q0") == at_random(grn(look), (SIZE,), RULE, 0, "q0")
