"""Boxes meet regions one to one, the surest first; chance meets them at the same sizes."""

import itertools
import random as randoms

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.detection import DRAWS, IOUS, Found, Scanned, at_random, chance_hits, hits, matched, regions
from schemas.boxes import iou

edge = st.integers(0, 12)
boxes = st.tuples(edge, edge, st.integers(1, 8), st.integers(1, 8)).map(
    lambda each: (float(each[0]), float(each[1]), float(each[0] + each[2]), float(each[1] + each[3]))
)
founds = st.lists(st.builds(Found, boxes, st.sampled_from([0.25, 0.5, 0.75])), max_size=6)
truths = st.lists(st.lists(boxes, min_size=1, max_size=2).map(tuple), max_size=4).map(tuple)

LEFT, RIGHT = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0)
NEARLY_LEFT = (0.0, 0.0, 10.0, 8.0)  # IoU 0.8 with LEFT
HALF_LEFT = (0.0, 0.0, 10.0, 5.0)  # IoU 0.5 with LEFT


@pytest.mark.parametrize(
    ("found", "iou_min", "expected"),
    [
        ([(LEFT, 0.5), (RIGHT, 0.4)], 0.5, [0, 1]),
        ([(LEFT, 0.5), (NEARLY_LEFT, 0.9)], 0.5, [None, 0]),  # the surer one takes it, the better one is a duplicate
        ([(LEFT, 0.5), (NEARLY_LEFT, 0.5)], 0.5, [None, 0]),  # equal confidences: the first box in order of its edges
        ([(NEARLY_LEFT, 0.5), (LEFT, 0.5)], 0.5, [0, None]),  # … in whatever order they were told
        ([(HALF_LEFT, 0.5)], 0.5, [0]),  # the limit itself is enough
        ([(HALF_LEFT, 0.5)], 0.51, [None]),
        ([((40.0, 0.0, 50.0, 10.0), 0.9)], 0.1, [None]),
        ([], 0.1, []),
    ],
)
def test_matching_by_hand(found, iou_min, expected):
    assert matched([Found(*one) for one in found], [(LEFT,), (RIGHT,)], iou_min) == expected


def test_any_box_of_a_region_will_do_but_it_counts_once():
    both = (LEFT, HALF_LEFT)
    assert matched([Found(HALF_LEFT, 0.9), Found(LEFT, 0.8)], [both], 0.9) == [0, None]


def test_two_boxes_of_one_label_that_overlap_well_are_one_region():
    marks = [("nodule", LEFT), ("nodule", NEARLY_LEFT), ("mass", NEARLY_LEFT), ("nodule", RIGHT)]
    assert regions(marks) == ((LEFT, NEARLY_LEFT), (NEARLY_LEFT,), (RIGHT,))
    assert regions([("nodule", LEFT), ("nodule", HALF_LEFT)]) == ((LEFT,), (HALF_LEFT,))  # IoU 0.5 is not above it


def test_boxes_become_one_region_by_way_of_another():
    low, middle, high = ((0.0, at, 10.0, at + 10.0) for at in (0.0, 3.0, 6.0))
    assert iou(low, middle) > 0.5 > iou(low, high)
    for order in itertools.permutations((low, middle, high)):
        (one,) = regions([("nodule", box) for box in order])
        assert sorted(one) == [low, middle, high]


@given(founds, truths)
@settings(deadline=None, max_examples=150)
def test_matching_is_one_to_one_and_as_a_slow_reading_has_it(found, regions_):
    for iou_min in IOUS:
        takes = matched(found, regions_, iou_min)
        taken = [take for take in takes if take is not None]
        assert len(taken) == len(set(taken))
        assert takes == slow_match(found, regions_, iou_min)


def slow_match(found, regions_, iou_min):
    """One box after the other, one region after the other."""
    takes = {}
    for number in sorted(range(len(found)), key=lambda at: (-found[at].confidence, found[at].box_xyxy_px)):
        best, best_iou = None, -1.0
        for region, each in enumerate(regions_):
            fit = max(iou(found[number].box_xyxy_px, box) for box in each)
            if region not in takes.values() and fit > best_iou:
                best, best_iou = region, fit
        if best is not None and best_iou >= iou_min:
            takes[number] = best
    return [takes.get(number) for number in range(len(found))]


@given(founds, truths, st.floats(0.01, 1), st.floats(0.01, 1), st.randoms())
@settings(deadline=None, max_examples=150)
def test_a_lower_limit_never_finds_fewer_and_no_order_changes_how_many(found, regions_, one, other, random):
    def n(found, limit):
        return sum(take is not None for take in matched(found, regions_, limit))

    assert n(found, min(one, other)) >= n(found, max(one, other))
    shuffled = list(found)
    random.shuffle(shuffled)
    assert n(shuffled, one) == n(found, one)


@given(truths)
@settings(deadline=None, max_examples=50)
def test_who_names_every_region_finds_all(regions_):
    one = Scanned("q", "i", (30, 30), regions_, tuple(Found(each[0], 0.5) for each in regions_))
    distinct = {each[0] for each in regions_}
    if len(distinct) == len(regions_) and all(len(each) == 1 for each in regions_):
        assert hits(one).all == (len(regions_),) * len(IOUS)


def test_chance_keeps_sides_and_confidences_and_stays_in_the_image():
    one = Scanned("q", "i", (64, 48), (), (Found((1.5, 2.0, 21.0, 12.0), 0.7), Found((0.0, 0.0, 64.0, 48.0), 0.2)))
    drawn = list(at_random(one))
    assert len(drawn) == DRAWS
    for each in drawn:
        (first, second) = each.found
        x0, y0, x1, y1 = first.box_xyxy_px
        assert (x1 - x0, y1 - y0, first.confidence) == (pytest.approx(19.5), pytest.approx(10.0), 0.7)
        assert 0 <= x0 <= x1 <= 64 + 1e-9 and 0 <= y0 <= y1 <= 48 + 1e-9  # noqa: PT018
        assert second.box_xyxy_px == (0.0, 0.0, 64.0, 48.0)
    assert len({each.found[0].box_xyxy_px for each in drawn}) == DRAWS
    assert list(at_random(one)) == drawn
    assert next(at_random(Scanned("q2", "i", (64, 48), (), one.found))) != drawn[0]


def test_chance_hits_as_often_as_geometry_says():
    """A 10-wide box on a 110-wide strip, anywhere from 0 to 100, has IoU ≥ 0.3 with the middle one if it is at most
    10 · 0.7 / 1.3 off: 10.77 of 100."""
    truth = ((50.0, 0.0, 60.0, 1.0),)
    scans = [Scanned(f"q{n}", "i", (110, 1), (truth,), (Found((0.0, 0.0, 10.0, 1.0), 0.5),)) for n in range(400)]
    share = sum(chance_hits(one).all[1] for one in scans) / len(scans)
    assert share == pytest.approx(2 * 7 / 1.3 / 100, abs=4 * (0.108 * 0.892 / (400 * DRAWS)) ** 0.5)


def test_of_equally_sure_boxes_any_may_be_the_surest():
    """Where a box lies never decides: an expert that says 0.5 of all is right in one of three."""
    away = (40.0, 0.0, 50.0, 10.0)
    for truth in (LEFT, RIGHT, away):
        found = tuple(Found(box, 0.5) for box in (LEFT, RIGHT, away))
        assert hits(Scanned("q", "i", (64, 48), ((truth,),), found)).surest == (pytest.approx(1 / 3),) * 3
    assert hits(Scanned("q", "i", (64, 48), ((LEFT,),), ())).surest == (0, 0, 0)


def test_hits_of_the_surest_count_the_surest_only():
    found = (Found(RIGHT, 0.4), Found((40.0, 0.0, 50.0, 10.0), 0.9))
    one = Scanned("q", "i", (64, 48), ((LEFT,), (RIGHT,)), found)
    assert (hits(one).all, hits(one).surest) == ((1, 1, 1), (0, 0, 0))
    order = list(found)
    randoms.Random(0).shuffle(order)
    assert hits(Scanned("q", "i", (64, 48), one.truths, tuple(order))) == hits(one)
