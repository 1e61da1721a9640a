"""Merging keeps every box, never two of one reader in a group, and does not depend on the order of lines."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.sources.reader_merge import SAME_IOU, Reading, consensus, merge
from schemas.boxes import iou

edge = st.integers(0, 12)
length = st.integers(1, 12)
readings = st.lists(
    st.builds(
        lambda x, y, w, h, reader: ((float(x), float(y), float(x + w), float(y + h)), reader),
        *(edge, edge, length, length),
        st.sampled_from(["R1", "R2", "R3"]),
    ),
    max_size=8,
).map(lambda found: [Reading(box, reader, f"train.csv#{n}") for n, (box, reader) in enumerate(found)])


def groups(*drawn):
    found = merge([Reading(box, reader, f"#{n}") for n, (reader, box) in enumerate(drawn)])
    return [(group.box_xyxy_px, "".join(sorted(one.reader for one in group.readings))) for group in found]


def test_three_who_agree_become_their_mean():
    assert groups(("a", (0, 0, 10, 10)), ("b", (1, 0, 11, 10)), ("c", (2, 3, 9, 10))) == [((1, 1, 10, 10), "abc")]


@pytest.mark.parametrize(("width", "n_groups"), [(4.0, 1), (3.9, 2)])  # IoU with 10 wide: 0.4, 0.39
def test_the_threshold_is_reached_at_four_tenths(width, n_groups):
    assert SAME_IOU == 0.4
    assert len(groups(("a", (0, 0, 10, 10)), ("b", (0, 0, width, 10)))) == n_groups


def test_one_reader_twice_is_two_lesions():
    assert groups(("a", (0, 0, 10, 10)), ("a", (0, 0, 10, 9)), ("b", (0, 0, 10, 9))) == [
        ((0, 0, 10, 10), "a"),
        ((0, 0, 10, 9), "ab"),
    ]


def test_a_box_joins_the_group_it_overlaps_most():
    left, right = (0, 0, 10, 10), (4, 0, 14, 10.5)
    assert groups(("a", left), ("a", right), ("b", (3, 0, 13, 10))) == [((3.5, 0, 13.5, 10.25), "ab"), (left, "a")]


@settings(deadline=None, max_examples=100)
@given(readings, st.randoms(use_true_random=False))
def test_promises(drawn, random):
    merged = merge(drawn)
    members = [one for group in merged for one in group.readings]
    assert sorted(members) == sorted(drawn)
    for group in merged:
        assert len({one.reader for one in group.readings}) == len(group.readings)
        for at, mean in enumerate(group.box_xyxy_px):
            edges = [one.box_xyxy_px[at] for one in group.readings]
            assert min(edges) <= mean + 1e-9
            assert mean - 1e-9 <= max(edges)
    shuffled = list(drawn)
    random.shuffle(shuffled)
    assert merge(shuffled) == merged


@settings(deadline=None, max_examples=60)
@given(readings)
def test_an_opened_group_was_far_from_all_others_open_to_it(drawn):
    """Read again slowly: replay the groups member by member in the stated order."""
    order = sorted(drawn, key=lambda one: (-_area(one.box_xyxy_px), one))
    slow: list[list[Reading]] = []
    for one in order:
        near = [(iou(_mean(group), one.box_xyxy_px), -n) for n, group in enumerate(slow) if _may_join(group, one)]
        best = max(near, default=(0.0, 0))
        if best[0] >= 0.4:
            slow[-best[1]].append(one)
        else:
            slow.append([one])
    assert [list(group.readings) for group in merge(drawn)] == slow


def _area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def _mean(group):
    return tuple(sum(one.box_xyxy_px[at] for one in group) / len(group) for at in range(4))


def _may_join(group, one):
    return one.reader not in {member.reader for member in group}


@pytest.mark.parametrize(
    ("n_marking", "n_readers", "vote"),
    [
        (3, 3, 1),
        (2, 3, 1),
        (1, 3, -1),  # one against two
        (0, 3, 0),
        (0, 2, -1),  # too few looked
        (1, 1, -1),
        (2, 2, 1),
        (2, 5, -1),
        (3, 5, 1),
        (0, 5, 0),
    ],
)
def test_votes(n_marking, n_readers, vote):
    assert consensus(n_marking, n_readers) == vote
