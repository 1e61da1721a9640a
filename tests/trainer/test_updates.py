"""The gradient of both updates against objectives written out by hand, on full forwards of single rows."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

import trainer.batched
import trainer.tree
import trainer.updates
from schemas.grammar import Answer, Look
from tests.trainer.updating import updated
from trainer.caches import SharedPast
from trainer.core.advantages import AdvantageConfig
from trainer.core.rewards import RewardConfig
from trainer.groups import group, member
from trainer.losses import LossConfig
from trainer.policy import Placed, Policy
from trainer.positions import position_ids
from trainer.recipe import Recipe, RunConfig
from trainer.sequences import image_spans
from trainer.updates import imitate

T = 0.7
RECIPE = Recipe(run=RunConfig(temperature=T))
CORNER, MIDDLE = Look("look", (0, 0, 40, 40)), Look("and", (50, 50, 90, 90))


@pytest.fixture(scope="module")
def groups(environment, scene_of, played):
    """Right, wrong, broken and refused rollouts beside two experts; then a group that has nothing to learn."""

    def make(seed, *written):
        scene = scene_of(seed=seed)
        episodes = [(stream, played(scene, *turns, stream=stream)) for stream, turns in written]
        members = [member(environment, one, stream, RewardConfig()) for stream, one in episodes]
        return group(members, AdvantageConfig())

    experts = [("expert", (CORNER, MIDDLE, Answer("so", "yes"))), ("expert", (MIDDLE, Answer("", "yes")))]
    return [
        make(0, ("policy", (CORNER, Answer("", "yes"))), ("policy", (Answer("", "no"),)), *experts),
        make(1, ("policy", ("what?",)), ("policy", (Look("", (9, 9, 3, 3)), MIDDLE, Answer("", "yes"))), experts[0]),
        make(2, ("policy", (Answer("", "no"),)), ("policy", (Answer("", "no"),))),
    ]


def parts_of(environment, episode):
    """(ids, whether the policy wrote them), from what was said alone."""
    dialogue, scene = environment.dialogue, episode.scene
    fresh = environment.start(scene, episode.stream, "again")
    parts = [(dialogue.prompt(scene.question, scene.encoded).ids, False)]
    for text in episode.turns:
        turn = dialogue.written(text)
        parts.append((turn, True))
        if (seen := environment.take(fresh, turn)) is not None:
            parts.append((seen.ids, False))
    return parts


def log_probs(policy, episode, temperature=T):
    """Log-probability over all ids at T of each next token: [tokens − 1, ids], by one forward of this row alone."""
    row = episode.row
    spans = image_spans(row.ids, row.images, policy.image_id)
    features = policy.encode(row.images)
    placed = [Placed(0, span.start, shown) for span, shown in zip(spans, features, strict=True)]
    embedded = policy.embed(torch.tensor([row.ids]), placed)
    hidden = policy.decode_hidden(embedded, position_ids(len(row.ids), spans)[:, None], SharedPast())[0, :-1]
    logits = (hidden @ policy.head_weight.T / temperature).masked_fill(policy.banned, -math.inf)
    return logits.log_softmax(-1)


def written_by_hand(policy, environment, episode, temperature=T):
    """(log-probabilities, entropies) of the tokens that the policy wrote."""
    parts = parts_of(environment, episode)
    ids = [token for some, _ in parts for token in some]
    assert ids == episode.ids
    at = torch.tensor([n for n, own in enumerate(own for some, own in parts for _ in some) if own])
    every = log_probs(policy, episode, temperature)[at - 1]
    entropies = -(every.exp() * every.masked_fill(policy.banned, 0.0)).sum(-1)
    return every[range(len(at)), torch.tensor(ids)[at]], entropies


def objective_by_hand(policy, environment, groups, config, reference=None, streams=("policy", "expert")):
    """−(J_policy/N_policy + J_expert/N_expert) + β·k3 − bonus + λ_sft·CE/N_expert, as the method page writes it."""
    loss = torch.zeros((), dtype=torch.float64)
    everyone = [one for each in groups for one in each.members]
    n = {name: sum(sum(one.episode.is_written) for one in everyone if one.stream == name) for name in streams}
    for each in groups:
        for one, advantage in zip(each.members, each.advantages.values, strict=True):
            if one.stream not in streams:
                continue
            scale = 1 / n[one.stream]
            if config.loss_norm == "trajectory_mean":
                scale = 1 / (len(everyone) * sum(one.episode.is_written))
            lp, entropies = written_by_hand(policy, environment, one.episode)
            if one.stream == "policy":
                loss = loss - scale * (advantage * (lp - lp.detach()).exp()).sum()
                loss = loss - scale * config.entropy_bonus * entropies.sum()
                if reference is not None:
                    d = written_by_hand(reference, environment, one.episode)[0].detach() - lp
                    loss = loss + scale * config.kl * (d.exp() - d - 1).sum()
            else:
                ratio = lp.mean().exp().expand_as(lp) if config.off_ratio == "sequence_mean" else lp.exp()
                ratio = ratio if advantage >= 0 else ratio.clamp(min=1 - config.clip)
                loss = loss - scale * config.lambda_off * (advantage * ratio).sum()
                loss = loss - config.lambda_sft / n["expert"] * lp.sum()
    return loss


def assert_same(ours, theirs):
    total = torch.stack([grad.norm() for grad in theirs.values()]).norm()
    assert ours.keys() == theirs.keys()
    for name, grad in theirs.items():
        assert (ours[name] - grad).norm() <= 1e-6 * grad.norm() + 1e-9 * total, name


@pytest.fixture(scope="module")
def other(exact):
    """A reference policy with other weights."""
    reference = Policy(deepcopy(exact.model), exact.processor)
    with torch.no_grad():
        for weight in reference.model.parameters():
            weight.mul_(0.9)
    return reference


CONFIGS = {
    "paper": LossConfig(),
    "trajectory_mean": LossConfig(loss_norm="trajectory_mean", lambda_off=0.5),
    "imitating": LossConfig(lambda_sft=0.5),
    "of whole rows": LossConfig(off_ratio="sequence_mean"),
    "held": LossConfig(kl=0.3),
    "spread": LossConfig(entropy_bonus=0.2),
}


@pytest.mark.parametrize(("max_tokens", "shared_min"), [(65_536, 32), (1, 1)])  # or in deep trees, row by row
@pytest.mark.parametrize("name", CONFIGS)
def test_the_gradient_is_that_of_the_written_tokens_and_no_other(
    exact, other, environment, groups, gradients, monkeypatch, name, max_tokens, shared_min
):
    monkeypatch.setattr(trainer.tree, "SHARED_TOKENS_MIN", shared_min)
    config = CONFIGS[name]
    recipe = replace(RECIPE, loss=config, run=replace(RECIPE.run, max_tokens=max_tokens))
    reference = other if config.kl > 0 else None
    metrics, ours = gradients(exact, lambda: updated(exact, groups, recipe, reference))

    def by_hand():
        loss = objective_by_hand(exact, environment, groups, config, reference)
        loss.backward()
        return float(loss.detach())

    loss, theirs = gradients(exact, by_hand)
    assert_same(ours, theirs)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-9)


def test_one_token_more_would_be_noticed(exact, environment, groups, gradients):
    """That the comparison above can fail: a token of the feedback in the loss changes the gradient."""
    first = groups[0].members[0].episode
    at = first.is_written.index(False, first.n_prompt)
    assert first.ids[at] not in exact.banned_ids
    is_written = [own or n == at for n, own in enumerate(first.is_written)]
    spoilt = replace(first, is_written=is_written)
    members = (replace(groups[0].members[0], episode=spoilt), *groups[0].members[1:])
    wrong = [replace(groups[0], members=members), *groups[1:]]
    _, ours = gradients(exact, lambda: updated(exact, wrong, RECIPE))
    _, theirs = gradients(exact, lambda: objective_by_hand(exact, environment, groups, RECIPE.loss).backward())
    with pytest.raises(AssertionError):
        assert_same(ours, theirs)


@pytest.fixture
def scored(monkeypatch):
    """Every (log-probabilities, targets) that a head has scored, gradients kept."""
    seen = []
    head = trainer.batched.token_scores

    def watched(hidden, weight, targets, *rest, **more):
        scores = head(hidden, weight, targets, *rest, **more)
        if scores[0].requires_grad:
            scores[0].retain_grad()
        seen.append((scores[0], targets))
        return scores

    monkeypatch.setattr(trainer.batched, "token_scores", watched)
    return seen


def test_every_written_token_of_both_streams_is_pulled(exact, groups, gradients, scored):
    gradients(exact, lambda: updated(exact, groups, RECIPE))
    kept = [one for each in groups if not each.advantages.is_dropped for one in each.members]
    written = [token for one in kept for token, own in zip(one.episode.ids, one.episode.is_written, strict=True) if own]
    pulls = torch.cat([logprobs.grad for logprobs, _ in scored])
    assert sorted(token for _, targets in scored for token in targets.tolist()) == sorted(written)
    assert (pulls != 0).all()
    n_up = sum(
        sum(one.episode.is_written)
        for each in groups
        for one, value in zip(each.members, each.advantages.values, strict=True)
        if value > 0
    )
    assert int((pulls < 0).sum()) == n_up > 0  # the loss falls as a praised token rises


def test_streams_apart_make_the_same_sum_and_tell_their_norms(exact, environment, groups, gradients):
    _, together = gradients(exact, lambda: updated(exact, groups, RECIPE))
    metrics, apart = gradients(exact, lambda: updated(exact, groups, RECIPE, None, split_streams=True))
    assert_same(apart, together)
    for stream in ("policy", "expert"):

        def alone(stream=stream):
            objective_by_hand(exact, environment, groups, RECIPE.loss, streams=(stream,)).backward()

        _, own = gradients(exact, alone)
        norm = float(torch.stack([grad.norm() for grad in own.values()]).norm())
        assert metrics[f"{stream}/grad_norm"] == pytest.approx(norm, rel=1e-6)
        assert norm > 0


@pytest.mark.parametrize(
    ("config", "n_rows"),
    [(LossConfig(), 7), (LossConfig(lambda_sft=0.1), 9), (LossConfig(entropy_bonus=0.1), 9), (LossConfig(kl=0.1), 9)],
)
def test_groups_that_learn_nothing_leave_before_the_forward(
    exact, other, groups, gradients, monkeypatch, config, n_rows
):
    """They still count: leaving them out is a saving and changes no objective."""
    run, backward = [], trainer.updates.tree_backward
    monkeypatch.setattr(
        trainer.updates,
        "tree_backward",
        lambda policy, rows, *a, **k: run.extend(rows) or backward(policy, rows, *a, **k),
    )
    recipe = replace(RECIPE, loss=config)
    metrics, _ = gradients(exact, lambda: updated(exact, groups, recipe, other))
    assert len(run) == n_rows
    everyone = [one for each in groups for one in each.members]
    assert metrics["trajectories"] == len(everyone) == 9
    tokens = sum(sum(one.episode.is_written) for one in everyone if one.stream == "policy")
    assert metrics["policy_tokens"] == tokens


def test_nothing_to_learn_at_all_leaves_no_gradient(exact, groups, gradients):
    for is_split in (False, True):
        metrics, grads = gradients(
            exact, lambda is_split=is_split: updated(exact, groups[2:], RECIPE, None, split_streams=is_split)
        )
        assert grads == {}
        assert metrics["loss"] == 0.0
        assert metrics.get("policy/grad_norm", 0.0) == metrics.get("expert/grad_norm", 0.0) == 0.0


def spread(episode, per_turn):
    """The weight of a turn on each of its tokens."""
    return [w for (start, stop), w in zip(episode.turn_spans, per_turn, strict=True) for _ in range(start, stop)]


@pytest.mark.parametrize("max_tokens", [65_536, 1])
def test_imitation_weighs_turns(exact, environment, groups, gradients, max_tokens):
    """−Σ w·log p / Σ w, the weight of a turn on each of its tokens, its stop marker included."""
    episodes = [one.episode for one in groups[0].of("expert")]
    weights = [(0.0, 1.0, 4.0), (0.5, 2.0)]
    recipe = replace(RECIPE, run=replace(RECIPE.run, max_tokens=max_tokens))
    each = [spread(*pair) for pair in zip(episodes, weights, strict=True)]
    metrics, ours = gradients(exact, lambda: imitate(exact, episodes, each, recipe, sum(map(sum, each))))

    def by_hand():
        loss, total = 0.0, 0.0
        for episode, per_turn in zip(episodes, weights, strict=True):
            lp, _ = written_by_hand(exact, environment, episode, temperature=1.0)
            lengths = [len(environment.dialogue.written(text)) for text in episode.turns]
            w = torch.tensor([w for w, n in zip(per_turn, lengths, strict=True) for _ in range(n)])
            loss, total = loss - (w * lp).sum(), total + float(w.sum())
        (loss / total).backward()
        return float(loss.detach() / total)

    loss, theirs = gradients(exact, by_hand)
    assert_same(ours, theirs)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-6)
    assert metrics["rows"] == 2
    assert metrics["tokens"] == sum(sum(one.is_written) for one in episodes)


def test_a_turn_without_weight_is_not_pulled(exact, groups, gradients, scored):
    episode = groups[0].of("expert")[0].episode
    weights = spread(episode, (0.0, 0.0, 1.0))
    gradients(exact, lambda: imitate(exact, [episode], [weights], RECIPE, sum(weights)))
    ((logprobs, targets),) = scored
    start, stop = episode.turn_spans[-1]
    assert targets.tolist()[start - stop :] == episode.ids[start:stop]
    assert (logprobs.grad != 0).tolist() == [False] * (len(targets) - (stop - start)) + [True] * (stop - start)


def test_imitation_without_any_weight_leaves_no_gradient(exact, groups, gradients):
    episode = groups[0].of("expert")[0].episode
    metrics, grads = gradients(exact, lambda: imitate(exact, [episode], [spread(episode, (0.0,) * 3)], RECIPE, 0.0))
    assert (metrics["loss"], grads) == (0.0, {})
