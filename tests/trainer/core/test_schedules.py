import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.core.schedules import ScheduleConfig, learning_rate

COSINE = ScheduleConfig(lr=1.0, shape="cosine", warmup_steps=4, lr_min_share=0.1)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.25),  # not 0: the first step counts
        (3, 1.0),  # the peak ends the warm-up
        (4, 1.0),  # cos 0
        (6, 0.1 + 0.9 * 0.5 * (1 + math.sqrt(0.5))),  # a quarter of the way down
        (8, 0.55),  # half way
        (12, 0.1),  # the floor belongs to the step after the last
        (99, 0.1),
    ],
)
def test_cosine_after_a_warm_up(step, expected):
    assert learning_rate(step, 12, COSINE) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.5), (1, 1.0), (2, 1.0), (9, 1.0)])
def test_constant_after_a_warm_up(step, expected):
    assert learning_rate(step, 10, ScheduleConfig(lr=1.0, warmup_steps=2)) == expected


def test_the_default_is_the_papers_constant_rate():
    assert {learning_rate(step, 80, ScheduleConfig()) for step in range(80)} == {1e-6}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(0, 199), st.sampled_from(["constant", "cosine"]), st.floats(0, 1))
def test_the_rate_rises_once_then_never_rises_again(n_steps, warmup, shape, floor):
    config = ScheduleConfig(lr=2e-5, shape=shape, warmup_steps=min(warmup, n_steps - 1), lr_min_share=floor)
    rates = [learning_rate(step, n_steps, config) for step in range(n_steps)]
    peak = config.warmup_steps
    assert all(0 < rate <= 2e-5 for rate in rates)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak] == 2e-5
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_a_warm_up_longer_than_the_run_is_refused():
    for n_steps in (80, 500):  # one as long as the run would never reach what comes after it
        with pytest.raises(ValueError, match=rf"warmup_steps \(500\) must be less than the {n_steps} steps"):
            learning_rate(0, n_steps, ScheduleConfig(warmup_steps=500))


def test_a_negative_step_is_refused():
    with pytest.raises(ValueError, match="step"):
        learning_rate(-1, 80, ScheduleConfig())


@pytest.mark.parametrize(
    "settings_",
    [{"lr": 0.0}, {"lr": math.nan}, {"lr": math.inf}, {"shape": "linear"}, {"warmup_steps": -1}, {"lr_min_share": 1.5}],
)
def test_nonsense_is_refused(settings_):
    with pytest.raises(ValueError, match=next(iter(settings_))):
        ScheduleConfig(**settings_)
