"""Every setting of a phase reaches its steps: rate, decay, norm, temperature, and which questions are asked."""

import pytest
import torch

from tests.trainer.small_runs import SLICE
from trainer.batched import score_rows
from trainer.checkpoints import trained_parameters
from trainer.data import load_train_data, take
from trainer.features import FeatureCache
from trainer.loop import Training
from trainer.recipe import load_recipe
from trainer.running import prepare


@pytest.fixture
def begun(run_store, recipe_path, tmp_path):
    def prepare_run(*overrides) -> Training:
        recipe, snapshot = load_recipe(str(recipe_path), overrides), run_store.snapshot()
        data = load_train_data(snapshot, snapshot.slice(SLICE), recipe.data.experts, recipe.data.n_experts)
        return prepare(recipe, snapshot, data, tmp_path / "run", first=0)

    return prepare_run


@pytest.fixture
def pulled(monkeypatch):
    """Steps whose gradients are ones, whatever the batch."""

    def ones(training, _step):
        for weight in trained_parameters(training.policy).values():
            weight.grad = torch.ones_like(weight)
        return {"loss": 1.0}

    monkeypatch.setattr(Training, "warm_step", ones)
    monkeypatch.setattr(Training, "grpo_step", ones)


def test_each_phase_has_a_schedule_of_its_own(begun, pulled):
    training = begun(
        *("warm.steps=2", "run.steps=3"),
        'warm.schedule={ lr = 0.008, shape = "cosine" }',
        'run.schedule={ lr = 0.004, shape = "cosine" }',
    )
    told, used = [], []
    for step in range(5):
        told.append(training.step(step)["lr"])
        used += [one["lr"] for one in training.optimizer.param_groups]
    assert told == used == pytest.approx([0.008, 0.004, 0.004, 0.003, 0.001])  # ½(1 + cos πt) of each phase's peak


def test_decay_and_norm_are_those_of_the_recipe(begun, pulled):
    training = begun("run.weight_decay=0.25", "run.grad_norm_max=0.5")
    metrics = training.step(0)
    weights = list(trained_parameters(training.policy).values())
    assert [one["weight_decay"] for one in training.optimizer.param_groups] == [0.25]
    assert metrics["grad_norm"] == pytest.approx(sum(one.numel() for one in weights) ** 0.5)
    assert float(torch.cat([one.grad.flatten() for one in weights]).norm()) == pytest.approx(0.5, rel=1e-4)


def test_rollouts_are_drawn_at_the_temperature_at_which_they_are_scored(begun):
    training = begun("run.temperature=0.25")
    (group,) = training.groups([training.scenes(training.data.questions[0])], 0)
    own = group.of("policy")
    at_recipe, at_one = (score_rows(training.policy, [one.episode.row for one in own], t) for t in (0.25, 1.0))
    for member, score, other in zip(own, at_recipe, at_one, strict=True):
        drawn = torch.tensor(member.entropies)
        torch.testing.assert_close(drawn, score.entropies, rtol=0, atol=1e-4)
        assert (drawn - other.entropies).abs().max() > 1e-2


def test_warm_steps_go_through_the_questions_without_a_gap(begun):
    training = begun("warm.batch=3", "warm.steps=2")
    asked = []
    for step in range(2):
        training.step(step)
        asked += [one.scene.question.question_id for one in training.batch]
    assert asked == [one.question_id for one in take(training.teacher.pool, 0, 6, 0)]
    assert len(set(asked)) == 6


def test_rollouts_see_images_as_the_tower_sees_them_now(begun, monkeypatch):
    """The tower is trained: features of the step before are of other weights, though the images are the same."""
    training = begun("run.self_check=false", "warm.steps=1", "run.steps=2")
    training.save(0)
    training.step(0)
    training.save(1)
    monkeypatch.setattr(training, "questions_at", lambda _: training.data.questions[:2])
    seen, get = [], FeatureCache.get

    def compared(cache, images):
        images = list(images)
        found = get(cache, images)
        if not torch.is_grad_enabled():
            for image in images:
                seen.append(image.key)
                torch.testing.assert_close(found[image.key], cache.policy.encode([image])[0], rtol=0, atol=0)
        return found

    monkeypatch.setattr(FeatureCache, "get", compared)
    assert training.step(1)["is_skipped"] == 0.0
    known = set(seen)
    seen.clear()
    training.step(2)
    assert known & set(seen)
