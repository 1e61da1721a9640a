import json
import math

import pytest
import torch
from safetensors.torch import load_file

import trainer.loop
import trainer.teaching
from schemas.errors import InputError, TrainingError
from tests.trainer.small_runs import steps_of, train
from trainer.checkpoints import Checkpoints, trained_parameters
from trainer.data import load_train_data, take
from trainer.environment import Environment
from trainer.loop import Training
from trainer.policy import Policy
from trainer.recipe import load_recipe
from trainer.running import prepare

UNHELD = ("loss.kl=0", "loss.entropy_bonus=0")  # then only advantages pull


def test_half_precision_passes_its_own_check(run_store, recipe_path, tmp_path):
    run = train(run_store, tmp_path / "run", recipe_path, "model.dtype=bfloat16", "warm.steps=1", "run.steps=1")
    assert [line["is_skipped"] for line in steps_of(run)] == [0.0, 0.0]


@pytest.fixture
def begun(run_store, recipe_path, tmp_path):
    """A run that has done nothing yet, with settings of its own."""

    def prepare_run(*overrides) -> Training:
        recipe = load_recipe(str(recipe_path), overrides)
        snapshot = run_store.snapshot()
        slice_ = snapshot.slice(recipe.data.slice)
        data = load_train_data(snapshot, slice_, recipe.data.experts, recipe.data.n_experts)
        return prepare(recipe, snapshot, data, tmp_path / "run", first=0)

    return prepare_run


def bits(training):
    return {name: one.detach().clone() for name, one in training.policy.model.named_parameters()}


def same_bits(some, others):
    return all(torch.equal(some[name].view(torch.int32), others[name].view(torch.int32)) for name in others)


def test_a_run_in_lines(whole_run):
    lines = steps_of(whole_run)
    assert [line["step"] for line in lines] == list(range(6))
    assert [line["phase"] for line in lines] == ["warm"] * 3 + ["grpo"] * 3
    assert all(line["lr"] == 1e-3 and line["is_skipped"] == 0.0 and line["is_finite"] == 1.0 for line in lines)
    assert all(math.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in lines)
    assert [line["rows"] for line in lines[:3]] == [4.0] * 3
    assert all(line["groups"] == 2 and line["policy/trajectories"] == 6 for line in lines[3:])
    assert all(line["expert/accuracy"] == line["expert/grammar"] == 1.0 for line in lines[3:])
    assert all(0 < line[f"{stream}/token_probability"] < 0.1 for line in lines[3:] for stream in ("policy", "expert"))
    assert [("policy/grad_norm" in line) for line in lines[3:]] == [True, False, False]


def test_a_run_keeps_the_newest_checkpoints_and_those_at_the_borders(whole_run):
    assert Checkpoints(whole_run).steps() == [0, 3, 4, 6]
    assert json.loads((whole_run / "checkpoints" / "step-000004" / "state.json").read_text()) == {"steps_done": 4}


def test_each_phase_has_moments_of_its_own(whole_run):
    counted = {}
    for step in (0, 3, 4, 6):
        moments = load_file(whole_run / "checkpoints" / f"step-{step:06d}" / "optimizer.safetensors")
        counted[step] = {float(value) for name, value in moments.items() if name.endswith(".step")}
    assert counted == {0: set(), 3: {3.0}, 4: {1.0}, 6: {3.0}}


def test_the_reference_is_the_policy_as_the_warm_start_left_it(begun):
    training = begun("warm.steps=1", "run.steps=2")
    training.run(0, lambda _: None)
    held = dict(training.reference.model.named_parameters())
    assert same_bits(held, dict(Policy.load(training.checkpoints.path(1)).model.named_parameters()))
    assert not same_bits(held, bits(training))


def test_a_run_without_a_warm_start_is_held_to_where_it_began(run_store, recipe_path, tmp_path):
    run = train(run_store, tmp_path / "run", recipe_path, "warm.kind=none", "run.steps=2")
    assert [line["phase"] for line in steps_of(run)] == ["grpo"] * 2


@pytest.mark.parametrize("phase", ["warm", "grpo"])
def test_a_step_that_is_not_finite_is_skipped_and_its_batch_written_down(begun, phase):
    """The very first number of a crop is spoilt: loss and gradients are not finite, weights and moments stay."""
    training = begun("run.self_check=false", *(["warm.kind=none"] if phase == "grpo" else []))
    training.checkpoints.save(0, training.policy, training.optimizer)  # the reference of the KL term
    with torch.no_grad():
        training.policy.visual.merger.ln_q.weight[0] = math.nan
    before = bits(training)
    metrics = training.step(0)
    assert (metrics["is_skipped"], metrics["is_finite"]) == (1.0, 0.0)
    assert math.isnan(metrics["loss"])
    assert same_bits(bits(training), before)
    assert not training.optimizer.state
    dumped = json.loads((training.out / "skipped" / "step-000000.json").read_text())
    pool, n = (training.teacher.pool, 4) if phase == "warm" else (training.data.questions, 2)
    asked = [one.question_id for one in take(pool, 0, n, 0)]
    assert list(dict.fromkeys(one["question_id"] for one in dumped["episodes"])) == list(dict.fromkeys(asked))
    assert all(len(one["ids"]) == len(one["is_written"]) and any(one["is_written"]) for one in dumped["episodes"])
    assert {one["stream"] for one in dumped["episodes"]} == ({"expert"} if phase == "warm" else {"policy", "expert"})
    training.log.write(metrics)
    assert training.log.steps()[0]["loss"] is None


def test_a_loss_that_is_not_finite_is_enough(begun, monkeypatch):
    training = begun()
    monkeypatch.setattr(trainer.loop, "imitate", lambda *_: {"loss": math.inf})
    assert training.step(0)["is_finite"] == 0.0


def test_a_batch_of_degenerate_groups_moves_nothing(begun):
    """An untrained policy is always wrong: without experts all advantages are 0. Weight decay must not act either."""
    training = begun("warm.kind=none", "data.experts=none", "run.weight_decay=0.5", *UNHELD)
    before = bits(training)
    metrics = training.step(0)
    assert metrics["groups_dropped"] == metrics["groups"] == 2
    assert (metrics["is_skipped"], metrics["is_finite"], metrics["grad_norm"]) == (1.0, 1.0, 0.0)
    assert same_bits(bits(training), before)
    assert not training.optimizer.state
    assert not (training.out / "skipped").exists()


@pytest.mark.parametrize("left", ["no gradient", "zeros"])
def test_moments_alone_move_nothing(begun, left):
    training = begun("run.weight_decay=0.5")
    training.step(0)
    before = bits(training)
    for one in trained_parameters(training.policy).values():
        one.grad = None if left == "no gradient" else torch.zeros_like(one)
    assert training._apply(1e-3, 1, {"loss": 0.0})["is_skipped"] == 1.0
    assert same_bits(bits(training), before)


def test_what_cannot_be_told_is_counted_step_by_step(begun):
    """Searches of three looks where two are allowed; a count that went on would differ after a resume."""
    training = begun("run.steps=4", "run.prompts_per_step=3", "warm.kind=none", "run.self_check=false", *UNHELD)
    for step in range(3):
        asked = training.data.at(step, 3, 0)
        long = [
            one
            for question in asked
            for one in training.data.trajectories.get(question.question_id, ())
            if one.n_looks > training.recipe.dialogue.looks_max
        ]
        assert training.step(step)["untold"] == len(long)
    assert any(one.n_looks > 2 for many in training.data.trajectories.values() for one in many)


def test_questions_without_room_are_left_out_and_counted(begun, monkeypatch):
    """One of three asked has no room in either phase; a step of which nothing can be shown is refused."""
    training = begun("run.steps=2", "run.prompts_per_step=3", "run.self_check=false", *UNHELD)
    large = {training.questions_at(0)[1].question_id, take(training.teacher.pool, 0, 4, 0)[2].question_id}
    scene = Environment.scene

    def cramped(environment, question, images):
        if question.question_id in large or None in large:
            raise InputError("no room", where=question.question_id)
        return scene(environment, question, images)

    monkeypatch.setattr(Environment, "scene", cramped)
    warm, grpo = training.step(0), training.step(training.n_warm)
    assert (warm["unshown"], warm["rows"]) == (1, 3.0)
    assert (grpo["unshown"], grpo["groups"], grpo["policy/trajectories"]) == (1, 2, 6)
    large.add(None)
    training.scenes.kept.clear()
    with pytest.raises(TrainingError, match="no question of this step can be shown"):
        training.step(training.n_warm)


def test_a_later_step_without_an_episode_is_skipped_and_counted(begun, monkeypatch):
    """To stop there would lose the run: every resume would come to the same questions."""
    training = begun("warm.steps=2", "run.steps=2", "run.self_check=false", *UNHELD)
    for step in (0, 2):
        training.step(step)
    before = bits(training)
    monkeypatch.setattr(Training, "_shown", lambda *_: [])
    for step, phase in ((1, "warm"), (3, "grpo")):
        metrics = training.step(step)
        assert (metrics["phase"], metrics["is_skipped"], metrics["is_finite"]) == (phase, 1.0, 1.0)
        assert metrics.get("rows", metrics.get("groups")) == 0
        assert same_bits(bits(training), before)


def test_rollouts_are_named_by_seed_and_step(begun):
    training, other = begun("warm.kind=none"), begun("warm.kind=none", "run.seed=1")
    scenes = [training.scenes(training.data.questions[0])]

    def rolled(run, step):
        return [one.episode.ids for each in run.groups(scenes, step) for one in each.of("policy")]

    assert rolled(training, 0) == rolled(training, 0)
    other.policy = training.policy
    assert len({str(some) for some in (rolled(training, 0), rolled(training, 1), rolled(other, 0))}) == 3


def test_lessons_are_new_each_step_and_weighed_by_their_kind(begun, monkeypatch):
    """No loss on a look that was led, and a weight of its own for an answer that the crop does not show."""
    weights = ("warm.look_weight=2", "warm.words_weight=1", "warm.answer_weight=5", "warm.guess_weight=3")
    training, taught = begun("warm.batch=8", "warm.steps=2", *weights), []
    monkeypatch.setattr(trainer.loop, "imitate", lambda _, *what: taught.append(what) or {"loss": 0.0})
    told, one_lesson = [], trainer.teaching.lesson
    monkeypatch.setattr(trainer.teaching, "lesson", lambda *what: told.append(one_lesson(*what)) or told[-1])
    for step in (0, 1):
        training.warm_step(step)
        training.batch = []
    for (episodes, per_token, *_), lessons in zip(taught, (told[:8], told[8:]), strict=True):
        assert episodes == [one.episode for one in lessons]
        ends = [[each[0], each[-1]] for each in per_token]
        assert ends == [[2.0 if one.trains_looks else 0.0, 5.0 if one.is_shown else 3.0] for one in lessons]
        assert [len(each) for each in per_token] == [sum(one.episode.is_written) for one in lessons]
    assert {(each[0], each[-1]) for _, per_token, *_ in taught for each in per_token} >= {(2.0, 3.0), (0.0, 5.0)}
    first, second = ({one.scene.question.question_id: one.ids for one in episodes} for episodes, *_ in taught)
    assert len(first) == len(second) == 8
    assert all(first[name] != second[name] for name in first)


def test_experts_can_be_imitated_before(begun):
    training = begun("warm.kind=expert", "data.experts=grn")
    metrics = training.step(0)
    assert metrics["phase"] == "warm"
    assert {one.name.split()[1] for one in training.batch} == {"grn"}
    assert metrics["rows"] == len(training.batch) <= 4


def test_ablations_join_the_group_though_their_variant_is_0(begun):
    training = begun("warm.kind=none", "data.experts=random", "run.self_check=false", "loss.kl=0")
    assert training.step(0)["expert/trajectories"] > 0


def test_a_warm_start_without_an_episode_stops(begun):
    training = begun("warm.kind=expert", "dialogue.looks_max=0")
    with pytest.raises(TrainingError, match="no episode to imitate"):
        training.step(0)


def test_the_prefix_is_checked_once_before_the_first_gradient_of_groups(begun, monkeypatch):
    training = begun("warm.steps=1", "run.steps=2")
    checked, check = [], trainer.loop.self_check
    monkeypatch.setattr(trainer.loop, "self_check", lambda *a: checked.append(check(*a)) or checked[-1])
    training.run(0, lambda _: None)
    assert len(checked) == 1
    assert checked[0] < 5e-3
