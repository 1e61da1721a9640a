"""The replayed draw is the sampler's own, and any other choice is noticed."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.cvs import sampled
from pipeline.core.recheck import Drawn, replay, wrong_draws
from schemas.records import Rule

RULE = Rule(gain_min=0.15, confident_at=0.85, looks_max=4, mass=0.9, temperature=0.2, crossing="include")
WHO = {"seed": 3, "question_id": "q", "variant": 2, "n_redraws": 1}


def drawn(confidences: list[float], number: int) -> Drawn:
    ids = tuple(range(len(confidences)))
    choice = sampled(RULE, 3, "q", 2, 1)(ids, tuple(confidences), number)
    return Drawn(2 * number + 1, choice.region, choice.candidates, choice.confidences, choice.nucleus)


confidences = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=8)


@given(st.lists(confidences, min_size=1, max_size=4))
@settings(max_examples=80, deadline=None)
def test_what_the_sampler_chose_is_what_the_seed_draws(several: list[list[float]]):
    choices = [drawn(one, number) for number, one in enumerate(several)]
    assert wrong_draws(choices, **WHO, temperature=0.2) == []


def test_another_choice_is_named_by_its_step():
    choice = drawn([0.5, 0.5, 0.5], 0)
    other = next(region for region in choice.nucleus if region != choice.region)
    found = wrong_draws([replace(choice, region=other)], **WHO, temperature=0.2)
    assert [step for step, _ in found] == [1]


@pytest.mark.parametrize("who", [{"seed": 4}, {"question_id": "p"}, {"variant": 3}, {"n_redraws": 0}])
def test_every_part_of_the_key_matters(who: dict):
    choices = [drawn([0.5] * 8, number) for number in range(4)]
    assert wrong_draws(choices, **{**WHO, **who}, temperature=0.2)


@pytest.mark.parametrize(
    ("draw", "region"),
    [
        (0.0, 4),
        (0.49, 4),
        (0.51, 7),  # two regions of equal confidence share the nucleus' mass, not 1
        (0.999999, 7),
    ],
)
def test_the_draw_is_scaled_to_the_mass_of_the_nucleus(draw: float, region: int):
    choice = Drawn(1, 4, (4, 7, 9), (0.8, 0.8, 0.3), (4, 7))
    assert replay(choice, 0.2, draw) == region


@pytest.mark.parametrize(
    "broken",
    [
        {"nucleus": ()},
        {"nucleus": (9,)},
        {"confidences": (0.5,)},
        {"confidences": (0.5, None)},
    ],
)
def test_a_row_that_breaks_another_rule_is_left_to_it(broken: dict):
    choice = replace(Drawn(1, 0, (0, 1), (0.5, 0.4), (0, 1)), **broken)
    assert wrong_draws([choice], **WHO, temperature=0.2) == []
