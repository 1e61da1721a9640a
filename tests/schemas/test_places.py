"""Thirds and halves, decided by the centre."""

import pytest

from schemas.places import side, zone


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0, 0, 10, 10), ("upper", "left", "right")),
        ((50, 30, 70, 70), ("middle", "right", "left")),
        ((90, 90, 100, 100), ("lower", "right", "left")),
        ((40, 0, 60, 10), ("upper", "right", "left")),  # the middle line belongs to the second half
    ],
)
def test_zone_and_side(box, words):
    size = (100, 100)
    assert (zone(box, size), side(box, size), side(box, size, mirrored=True)) == words
