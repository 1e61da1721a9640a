import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.admission import admit, admit_box, admit_confidence, float32
from schemas.boxes import inside
from schemas.experts import Candidate, Drill, Scan, Seen
from tests.doubles import ODD_BOXES, any_seen

SIZE = (200, 100)
A, B = (10.0, 10.0, 30.0, 30.0), (60.0, 10.0, 80.0, 30.0)


@pytest.mark.parametrize(
    ("confidence", "clipped"),
    [(7.0, 1.0), (-3.0, 0.0), ("0.5", 0.5), (0, 0.0), (0.1, float32(0.1)), (True, 1.0)],
)
def test_confidences_are_clipped_and_rounded(confidence, clipped):
    assert admit_confidence(confidence) == clipped


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ((-5, -5, 20, 20), (0.0, 0.0, 20.0, 20.0)),
        ((190, 90, 900, 900), (190.0, 90.0, 200.0, 100.0)),
        ((0.1, 0.2, 5.3, 5.4), tuple(map(float32, (0.1, 0.2, 5.3, 5.4)))),
        ((-1e30, -1e30, 1e30, 1e30), (0.0, 0.0, 200.0, 100.0)),
        ((20, 20, 5, 5), None),
        ((5, 5, 5, 9), None),
        ((3.0, 3.0, 3.0 + 1e-12, 9.0), None),  # float32 closes it
        ((math.nan, 0, 5, 5), None),
        ((0, 0, math.inf, 5), None),
        ((1, 2, 3), None),
        (None, None),
    ],
)
def test_boxes_are_clamped_and_rounded_or_refused(box, kept):
    assert admit_box(box, SIZE) == kept


def test_a_scan_keeps_what_is_sound_in_its_order():
    odd = [Candidate(box, "odd", 0.5) for box in ODD_BOXES] + [Candidate(A, "odd", math.nan), Candidate(A, "odd", None)]
    told = (Candidate(A, "a", 0.25), *odd, Candidate(A, 7, 2.0))
    kept = [(each.box_xyxy_px, each.label, each.confidence) for each in admit(Scan(), Seen(told, ""), SIZE)]
    assert kept[0] == (A, "a", 0.25)
    assert kept[-1] == (A, "7", 1.0)
    assert kept[1:-1] == [((0.0, 0.0, 200.0, 100.0), "odd", 0.5), ((10.0, 10.0, 30.0, 30.0), "odd", 0.5)]


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ([(None, 0.5)], (A, 0.5)),  # a box of no use: the one asked about
        ([(B, 0.5), (A, 0.9)], (B, 0.5)),  # the first of several
        ([(B, math.nan), (A, 0.5)], (A, 0.5)),  # the first that says how sure it is
        ([(B, None)], None),
        ([], None),
    ],
)
def test_a_drill_is_one_candidate_or_none(told, kept):
    answer = Seen(tuple(Candidate(box, "x", confidence) for box, confidence in told), "")
    found = admit(Drill(A, "a", A, 1), answer, SIZE)
    assert [(each.box_xyxy_px, each.confidence) for each in found] == ([kept] if kept else [])


@settings(max_examples=80, deadline=None)
@given(any_seen(), st.sampled_from((Scan(), Drill(A, "a", A, 1))))
def test_what_is_admitted_is_sound_and_admitting_it_again_changes_nothing(answer, query):
    once = admit(query, answer, SIZE)
    assert all(inside(each.box_xyxy_px, SIZE) and 0 <= each.confidence <= 1 for each in once)
    assert all(float32(each.confidence) == each.confidence for each in once)
    assert admit(query, Seen(once, ""), SIZE) == once
