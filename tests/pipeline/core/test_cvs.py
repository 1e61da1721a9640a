import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.cvs import SamplerConfig, greedy, nucleus, sampled, softmax
from schemas.records import Rule

RULE = Rule(gain_min=0.15, confident_at=0.85, looks_max=4, mass=0.9, temperature=0.2, crossing="exclude")
FIVE = (0.9, 0.7, 0.5, 0.3, 0.1)

confidences = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12)
masses = st.floats(0.01, 1.0)
temperatures = st.sampled_from((1e-3, 0.05, 0.2, 1.0, 100.0))
few = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize(
    ("probabilities", "mass", "exclude", "include"),
    [
        ([0.5, 0.3, 0.2], 0.9, (0, 1), (0, 1, 2)),  # 0.2 crosses 0.9
        ([0.2, 0.3, 0.5], 0.9, (2, 1), (2, 1, 0)),  # most probable first
        ([0.95, 0.05], 0.9, (0,), (0,)),  # one region exceeds p₀: the paper's set would be empty
        ([0.6, 0.3, 0.1], 0.9, (0, 1), (0, 1)),  # reached exactly: nothing crosses
        ([0.3, 0.3, 0.3, 0.1], 0.9, (0, 1, 2), (0, 1, 2)),  # 0.3 + 0.3 + 0.3 < 0.9 in floats
        ([1 / 9] * 9, 1.0, tuple(range(9)), tuple(range(9))),  # nine ninths sum to 1 + 2e-16
        ([0.25] * 4, 0.5, (0, 1), (0, 1)),  # equals in order of index
        ([1.0, 0.0], 1.0, (0, 1), (0, 1)),  # full mass keeps the impossible too
        ([0.6, 0.4], 0.01, (0,), (0,)),
        ([1.0], 0.9, (0,), (0,)),
    ],
)
def test_nucleus(probabilities, mass, exclude, include):
    assert nucleus(probabilities, mass) == exclude
    assert nucleus(probabilities, mass, "include") == include


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(1.0, (0.29, 0.24, 0.19, 0.16, 0.13)), (0.2, (0.64, 0.23, 0.09, 0.03, 0.01))],
)
def test_softmax_is_almost_uniform_at_one_and_decided_at_a_fifth(temperature, expected):
    assert softmax(FIVE, temperature) == pytest.approx(expected, abs=0.006)


def test_no_temperature_overflows():
    assert softmax((1.0, 0.0), 1e-9) == [1.0, 0.0]
    assert softmax((1.0, 0.0), 1e9) == pytest.approx([0.5, 0.5])


@few
@given(confidences, masses, st.sampled_from(("exclude", "include")), temperatures)
def test_nucleus_is_a_prefix_of_the_order_and_never_empty(values, mass, crossing, temperature):
    probabilities = softmax(values, temperature)
    kept = nucleus(probabilities, mass, crossing)
    order = sorted(range(len(values)), key=lambda i: (-probabilities[i], i))
    assert kept == tuple(order[: len(kept)])
    assert len(kept) >= 1
    total = math.fsum(probabilities[i] for i in kept)
    if crossing == "exclude":
        assert len(kept) == 1 or total <= mass + 2e-9
    else:
        assert total >= mass - 2e-9
        assert math.fsum(probabilities[i] for i in kept[:-1]) < mass + 2e-9


@few
@given(confidences, temperatures, st.sampled_from(("exclude", "include")))
def test_full_mass_keeps_every_region(values, temperature, crossing):
    assert len(nucleus(softmax(values, temperature), 1.0, crossing)) == len(values)


def test_greedy_takes_the_surest_and_of_equals_the_first():
    choice = greedy(RULE)((2, 5, 7), (0.4, 0.8, 0.8), 0)
    assert (choice.region, choice.rank) == (5, 0)
    assert choice.candidates == (2, 5, 7)
    assert choice.confidences == (0.4, 0.8, 0.8)
    weights = [math.exp(c / 0.2) for c in (0.4, 0.8, 0.8)]
    assert choice.probability == pytest.approx(weights[1] / sum(weights))  # over all three, before truncation
    assert choice.nucleus == (5,)  # 0.47 + 0.47 crosses 0.9


def test_sampled_depends_on_every_part_of_its_key_and_on_nothing_else():
    rule = replace(RULE, mass=1.0, temperature=10.0)
    ids = tuple(range(8))

    def draws(seed=0, question="q", variant=1, redraw=0, first=0):
        choose = sampled(rule, seed, question, variant, redraw)
        return [choose(ids, (0.5,) * 8, first + n).region for n in range(12)]

    base = draws()
    assert base == draws()
    others = [draws(seed=1), draws(question="r"), draws(variant=2), draws(redraw=1), draws(first=12)]
    assert all(other != base for other in others)


def test_sampled_follows_the_renormalised_nucleus():
    n = 4000
    chosen = [sampled(RULE, 0, f"q{i}", 1, 0)(tuple(range(5)), FIVE, 0) for i in range(n)]
    assert {choice.nucleus for choice in chosen} == {(0, 1)}  # 0.64 + 0.23, and 0.09 would cross
    counts = Counter(choice.region for choice in chosen)
    share = math.exp(-1) / (1 + math.exp(-1))  # Δconfidence 0.2 at τ = 0.2, of two
    assert set(counts) == {0, 1}
    assert counts[1] / n == pytest.approx(share, abs=0.025)  # 3.5 standard deviations
    assert {choice.rank for choice in chosen if choice.region == 1} == {1}


@few
@given(confidences, masses, temperatures, st.integers(0, 50))
def test_a_choice_agrees_with_itself(values, mass, temperature, key):
    ids = tuple(range(10, 10 + len(values)))
    choice = sampled(replace(RULE, mass=mass, temperature=temperature), key, "q", 1, 0)(ids, tuple(values), 0)
    order = sorted(ids, key=lambda region: (-values[region - 10], region))
    assert choice.region == order[choice.rank] == choice.nucleus[choice.rank]
    assert choice.nucleus == tuple(order[: len(choice.nucleus)])
    assert choice.probability == pytest.approx(softmax(values, temperature)[choice.region - 10])


def test_defaults_are_those_of_the_method():
    method = SamplerConfig(variants=6, mass=0.9, temperature=0.2, crossing="exclude", redraws=4)
    assert SamplerConfig() == method


@pytest.mark.parametrize(
    "wrong",
    [
        {"mass": 0.0},
        {"mass": 1.1},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"crossing": "maybe"},
        {"variants": -1},
        {"redraws": -1},
    ],
)
def test_settings_without_meaning_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplerConfig(**wrong)
