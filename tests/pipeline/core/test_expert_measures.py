"""The measures together, on a few scans that can be counted by hand."""

import pytest

from pipeline.core.detection import Found, Scanned
from pipeline.core.expert_measures import Drilled, drill_gain, outcomes, worth

LEFT, RIGHT, AWAY = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (40.0, 30.0, 50.0, 40.0)
HALF_LEFT = (0.0, 0.0, 10.0, 5.0)  # IoU 0.5 with LEFT
SIZE = (64, 48)


def scan(image_id: str, truths=(LEFT,), found=()) -> Scanned:
    return Scanned(f"q/{image_id}", image_id, SIZE, tuple((box,) for box in truths), tuple(found))


SCANS = [
    scan("a", (LEFT, RIGHT), [Found(LEFT, 0.75), Found(HALF_LEFT, 0.5), Found(AWAY, 0.25)]),
    scan("b", (LEFT,), [Found(AWAY, 0.75), Found(HALF_LEFT, 0.25)]),
    scan("c", (LEFT,)),
]


def test_shares_by_hand():
    found = worth(SCANS, [], [])
    assert (found.n_regions, found.n_boxes) == (4, 5)
    assert [one.share.value for one in found.recall] == [0.5, 0.5, 0.5]  # a: 1 of 2, b: 1 of 1, c: none of 1
    assert [one.share.value for one in found.precision] == [0.4, 0.4, 0.4]  # the duplicate in a is wrong
    assert [one.share.value for one in found.surest] == [0.5, 0.5, 0.5]
    assert [one.share.n for one in found.surest] == [2, 2, 2]  # c has no box
    for one in (*found.recall, *found.precision, *found.surest):
        assert 0 <= one.random <= 1
        assert one.gain == pytest.approx(one.share.value - one.random, abs=1e-12)
        assert one.gain_se > 0


def test_a_confidence_is_right_where_its_box_overlaps_a_region_duplicates_too():
    found = worth(SCANS, [], []).scan
    assert (found.n, found.n_true) == (5, 3)
    assert (found.confidence_true, found.confidence_false) == (0.5, 0.5)
    assert found.ece == pytest.approx((2 * 0.25 + 1 * 0.5 + 2 * 0.25) / 5, abs=1e-12)


@pytest.mark.parametrize(("high", "is_true"), [(2.9, False), (3.0, True), (3.1, True)])
def test_a_box_is_right_from_an_iou_of_three_tenths_on(high, is_true):
    (one,) = outcomes(scan("a", (LEFT,), [Found((0.0, 0.0, 10.0, high), 0.5)]))
    assert one.is_true is is_true


def test_a_perfect_expert_finds_all_and_errs_nowhere():
    perfect = [scan(str(at), (LEFT, RIGHT), [Found(LEFT, 1.0), Found(RIGHT, 1.0)]) for at in range(5)]
    found = worth(perfect, [], [])
    assert {one.share.value for one in (*found.recall, *found.precision, *found.surest)} == {1.0}
    assert (found.scan.ece, found.scan.brier, found.scan.auroc) == (0.0, 0.0, None)
    assert found.recall[0].share.low < 1.0  # of five images nobody can be certain


def test_who_finds_nothing_has_a_recall_and_no_precision():
    found = worth([scan("a"), scan("b")], [], [])
    assert [one.share.value for one in found.recall] == [0.0] * 3
    assert (found.precision, found.surest, found.scan, found.drill, found.clear) == ((), (), None, None, None)


def test_what_a_drill_adds():
    """Scans that cannot tell, drills that can."""
    drilled = [Drilled("a", 0.5, 0.75, True), Drilled("b", 0.5, 1.0, True), Drilled("c", 0.5, 0.25, False)]
    found = drill_gain(drilled)
    assert (found.scanned.auroc, found.drilled.auroc, found.auroc_gain) == (0.5, 1.0, 0.5)
    assert (found.change_true, found.change_false) == (0.375, -0.25)
    assert found.delta_c_true == pytest.approx(0.75, abs=1e-5)  # of c = 0.5, so twice the change
    assert found.delta_c_false == pytest.approx(-0.5, abs=1e-5)
    assert found.ece_gain == pytest.approx((0.25 + 0.0 + 0.25) / 3 - (2 / 3 - 0.5))
    assert found.brier_gain == pytest.approx((0.0625 + 0 + 0.0625) / 3 - 0.25)
    changes = [0.0625 - 0.25, 0 - 0.25, 0.0625 - 0.25]
    spread = sum((change - sum(changes) / 3) ** 2 for change in changes)
    assert found.brier_gain_se == pytest.approx((3 / 2 * spread) ** 0.5 / 3)
    assert found.auroc_gain_se is None  # every right one gained as much
    assert drill_gain([]) is None


def test_without_a_wrong_region_nothing_is_discriminated():
    found = drill_gain([Drilled("a", 0.5, 0.75, True)])
    assert (found.auroc_gain, found.change_false, found.delta_c_false) == (None, None, None)


def test_false_alarms_on_clear_images():
    clear = [
        scan("a", (), [Found(AWAY, 0.5), Found(LEFT, 0.25)]),
        scan("b", (), [Found(AWAY, 0.25)]),
        scan("c", ()),
        scan("d", ()),
    ]
    found = worth([], [], clear).clear
    assert (found.any_box.value, found.sure_box.value, found.boxes_per_scan) == (0.5, 0.25, 0.75)
    assert found.confidence == pytest.approx(1 / 3)
