"""What an update says of itself, recomputed from the scores of its rows."""

import statistics
from dataclasses import replace

import pytest

from tests.trainer.small_runs import SLICE
from trainer.batched import score_rows
from trainer.data import load_train_data
from trainer.losses import LossConfig
from trainer.recipe import load_recipe
from trainer.running import prepare
from trainer.updates import dual_stream

T = 0.7


def mean(numbers):
    return pytest.approx(statistics.fmean(map(float, numbers)), rel=1e-4)


@pytest.fixture(scope="module")
def made(run_store, recipe_path, tmp_path_factory):
    """A policy, its recipe, and groups of it: with experts, and one whose experts are taken away."""
    recipe = load_recipe(str(recipe_path), [f"run.temperature={T}", "dialogue.looks_max=3"])
    recipe = replace(recipe, loss=LossConfig())
    snapshot = run_store.snapshot()
    data = load_train_data(snapshot, snapshot.slice(SLICE), "cvs", 3)
    training = prepare(recipe, snapshot, data, tmp_path_factory.mktemp("updates") / "run", first=0, device="cpu")
    groups = training.groups([training.scenes(one) for one in data.questions[:3]], 0)
    alone = replace(groups[0], members=tuple(groups[0].of("policy")))
    return training.policy, recipe, [alone, *groups[1:]]


@pytest.mark.parametrize("split_streams", [False, True])
def test_diagnostics_are_means_over_the_rows_of_a_stream(made, split_streams):
    policy, recipe, groups = made
    policy.model.zero_grad(set_to_none=True)
    metrics = dual_stream(policy, groups, recipe, None, split_streams=split_streams)
    assert ("policy/grad_norm" in metrics) == ("expert/grad_norm" in metrics) == split_streams
    kept = [one for one in groups if not one.advantages.is_dropped]
    for stream in ("policy", "expert"):
        rows = [member.episode.row for one in kept for member in one.of(stream)]
        assert len(rows) > 1
        chances = [score.logprobs.detach().exp() for score in score_rows(policy, rows, T)]
        ratios = chances if stream == "expert" else [one * 0 + 1 for one in chances]

        assert metrics[f"{stream}/token_probability"] == mean(one.mean() for one in chances)
        assert metrics[f"{stream}/ratio_min"] == mean(one.min() for one in ratios)
        assert metrics[f"{stream}/ratio_max"] == mean(one.max() for one in ratios)
        assert metrics[f"{stream}/clip_fraction"] == metrics[f"{stream}/n_clamped"] == 0.0
    assert metrics["expert/zero_gradient_share"] == 0.0
    assert metrics["policy/zero_gradient_share"] == 1.0  # an untrained policy is always wrong: no advantage


def test_the_streams_count_their_own_tokens(made):
    policy, recipe, groups = made
    metrics = dual_stream(policy, groups, recipe, None, split_streams=False)
    members = [one for each in groups for one in each.members]
    for stream in ("policy", "expert"):
        assert metrics[f"{stream}_tokens"] == sum(
            sum(one.episode.is_written) for one in members if one.stream == stream
        )
    assert metrics["trajectories"] == len(members)
    policy.model.zero_grad(set_to_none=True)
