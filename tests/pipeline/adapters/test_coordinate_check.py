import json

import numpy as np
import pytest

from pipeline.adapters.experts.coordinate_check import MARK, SIZE, check_coordinates, drawing
from schemas.errors import ExpertError

SHOWN = (448, 336)
EXTENTS = {"absolute": SHOWN, "thousand": (1000, 1000), "unit": (1, 1)}


def reply(family: str, box: tuple = MARK) -> str:
    width, height = EXTENTS[family]
    numbers = [edge * (width, height)[i % 2] / SIZE[i % 2] for i, edge in enumerate(box)]
    return json.dumps([{"bbox_2d": numbers, "label": "rectangle"}])


def test_the_drawing_shows_the_mark():
    bright = np.asarray(drawing()) > 128
    assert bright[84:182, 308:476].all()
    assert bright.sum() == (182 - 84) * (476 - 308)


@pytest.mark.parametrize("said", EXTENTS)
@pytest.mark.parametrize("declared", EXTENTS)
def test_only_the_declared_family_passes_and_the_fitting_one_is_named(said, declared):
    if said == declared:
        check_coordinates(reply(said), declared, SHOWN)
    else:
        with pytest.raises(ExpertError, match=f"coordinates={said}"):
            check_coordinates(reply(said), declared, SHOWN)


@pytest.mark.parametrize(
    "text",
    [
        reply("unit", (84.0, 308.0, 182.0, 400.0)),  # y first
        reply("unit", (308.0, 84.0, 340.0, 182.0)),  # a fifth of it
        "[]",
        "I see a rectangle.",
    ],
)
def test_a_model_that_does_not_find_it_is_refused_under_every_family(text):
    for family in EXTENTS:
        with pytest.raises(ExpertError, match="no family fits"):
            check_coordinates(text, family, SHOWN)
