"""What an update says of itself, recomputed from the scores of its rows."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

import trainer.policy
import trainer.updates
from tests.trainer.small_runs import SLICE
from tests.trainer.updating import updated
from trainer.batched import score_rows
from trainer.data import load_train_data
from trainer.losses import LossConfig
from trainer.policy import Policy
from trainer.recipe import load_recipe
from trainer.running import prepare

T = 0.7


@pytest.fixture(scope="module")
def made(run_store, recipe_path, tmp_path_factory):
    """A policy, its recipe, and groups of it: with experts, and one whose experts are taken away."""
    recipe = load_recipe(str(recipe_path), [f"run.temperature={T}", "dialogue.looks_max=3"])
    recipe = replace(recipe, loss=LossConfig())
    snapshot = run_store.snapshot()
    data = load_train_data(snapshot, snapshot.slice(SLICE), "cvs", 3)
    training = prepare(recipe, snapshot, data, tmp_path_factory.mktemp("updates") / "run", first=0)
    groups = training.groups([training.scenes(one) for one in data.questions[:3]], 0)
    alone = replace(groups[0], members=tuple(groups[0].of("policy")))
    return training.policy, recipe, [alone, *groups[1:]]


@pytest.mark.parametrize("split_streams", [False, True])
def test_diagnostics_are_means_over_the_tokens_of_a_stream(made, split_streams):
    policy, recipe, groups = made
    policy.model.zero_grad(set_to_none=True)
    metrics = updated(policy, groups, recipe, None, split_streams=split_streams)
    assert ("policy/grad_norm" in metrics) == ("expert/grad_norm" in metrics) == split_streams
    kept = [one for one in groups if not one.advantages.is_dropped]
    for stream in ("policy", "expert"):
        rows = [member.episode.row for one in kept for member in one.of(stream)]
        assert len(rows) > 1
        scores = score_rows(policy, rows, T)
        chances = torch.cat([one.logprobs for one in scores]).detach().exp()
        ratios = chances if stream == "expert" else torch.ones_like(chances)

        assert metrics[f"{stream}/token_probability"] == pytest.approx(chances.mean().item(), rel=1e-4)
        assert metrics[f"{stream}/ratio_min"] == pytest.approx(ratios.min().item(), rel=1e-4)
        assert metrics[f"{stream}/ratio_max"] == pytest.approx(ratios.max().item(), rel=1e-4)
        assert metrics[f"{stream}/clip_fraction"] == metrics[f"{stream}/clamped"] == 0
    entropies = torch.cat([one.entropies for one in scores]).detach()  # of the experts, the last of the two
    assert metrics["expert/entropy"] == pytest.approx(entropies.mean().item(), rel=1e-4)
    assert metrics["policy/kl"] is None
    assert metrics["expert/zero_gradient_share"] == 0.0
    assert metrics["policy/zero_gradient_share"] == 1.0  # an untrained policy is always wrong: no advantage


def test_the_distance_to_a_reference_is_told_of_the_policy_alone(made, monkeypatch):
    policy, recipe, groups = made
    asked, scores = [], trainer.updates.tree_scores
    monkeypatch.setattr(
        trainer.updates, "tree_scores", lambda one, rows, *a: asked.extend(rows) or scores(one, rows, *a)
    )
    held = replace(recipe, loss=LossConfig(kl=0.1))
    assert updated(policy, groups, held, policy)["policy/kl"] == pytest.approx(0.0, abs=1e-6)
    other = Policy(deepcopy(policy.model), policy.processor)
    with torch.no_grad():
        other.head_weight.mul_(1.5)
    metrics = updated(policy, groups, held, other)
    rows = [member.episode.row for one in groups for member in one.of("policy")]
    assert asked == 2 * rows  # and experts do not go through it
    ours, theirs = (torch.cat([one.logprobs for one in score_rows(each, rows, T)]).detach() for each in (policy, other))
    assert metrics["policy/kl"] == pytest.approx(((theirs - ours).exp() - (theirs - ours) - 1).mean().item(), rel=1e-3)
    assert metrics["policy/kl"] > 0.001
    assert "expert/kl" not in metrics
    policy.model.zero_grad(set_to_none=True)


def test_the_streams_count_their_own_tokens(made):
    policy, recipe, groups = made
    metrics = updated(policy, groups, recipe)
    members = [one for each in groups for one in each.members]
    for stream in ("policy", "expert"):
        assert metrics[f"{stream}_tokens"] == sum(
            sum(one.episode.is_written) for one in members if one.stream == stream
        )
    assert metrics["trajectories"] == len(members)
    policy.model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("is_asked", [False, True])
def test_layers_are_recomputed_where_the_recipe_asks_for_it(made, monkeypatch, is_asked):
    policy, recipe, groups = made
    ran, checkpoint = [], trainer.policy.checkpoint
    monkeypatch.setattr(trainer.policy, "checkpoint", lambda *a, **k: ran.append(a) or checkpoint(*a, **k))
    asked = replace(recipe, model=replace(recipe.model, recompute=is_asked))
    updated(policy, groups, asked)
    n_tree = len(ran)
    episode = groups[0].members[0].episode
    trainer.updates.imitate(policy, [episode], [[1.0] * sum(episode.is_written)], asked, 1.0)
    assert (n_tree > 0, len(ran) > n_tree) == (is_asked, is_asked)
    policy.model.zero_grad(set_to_none=True)
