"""A training run, told top to bottom: warm start by imitation, then dual-stream GRPO, one step after another.

A run is resumed from its newest checkpoint and goes on to the bit as if it had never stopped: what a step does is a
function of the recipe, the store's digest, the weights and the step's number.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from schemas.errors import InputError, TrainingError
from schemas.reader import Snapshot
from schemas.records import Question
from trainer.checkpoints import Checkpoints, trained_parameters
from trainer.core.advantages import eligible_experts
from trainer.core.schedules import learning_rate
from trainer.data import Scenes, TrainData, load_train_data, questions_of, take
from trainer.environment import Environment, Episode, Scene
from trainer.episodes import expert_episode, token_weights
from trainer.groups import Group, Member, group, group_metrics, member
from trainer.lessons import lesson, prior_answers
from trainer.policy import Policy
from trainer.recipe import Recipe
from trainer.rollout.local import LocalRollout
from trainer.rollouts import roll_out
from trainer.runlog import RunLog
from trainer.shared_prefix import self_check
from trainer.updates import Metrics, dual_stream, imitate

UNSHOWN_FIX = "lower view.image_max_pixels, view.crop_max_pixels or dialogue.looks_max"
NORMS_EVERY = 10  # steps between measurements of each stream's own gradient norm
TOLERANCE = {  # of shared prefix against independent rows, nats; bfloat16 rounds by itself to 0.02 in a tiny model
    torch.float64: 1e-6,
    torch.float32: 5e-3,
    torch.bfloat16: 0.25,
}


@dataclass
class Training:
    """Everything a step needs. `begin` says what has been done, `step` does the next thing."""

    recipe: Recipe
    policy: Policy
    environment: Environment
    snapshot: Snapshot
    data: TrainData
    out: Path
    reference: Policy | None = None  # of the KL term: the policy as the warm start left it
    n_untold: int = 0  # of this step: expert trajectories and lessons that the environment would not have let pass
    n_unshown: int = 0  # of this step: questions whose images cannot be shown, mostly for want of room
    batch: list[Episode] = field(default_factory=list)  # of this step, for the dump of a step that went wrong
    plain: TrainData | None = None  # plain GRN, which a warm start of kind `expert` imitates
    lesson_questions: tuple[Question, ...] = ()
    prior: dict[str | None, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log, self.checkpoints = RunLog(self.out), Checkpoints(self.out)
        self.scenes = Scenes(self.snapshot, self.environment)
        weights = list(trained_parameters(self.policy).values())
        self.optimizer = torch.optim.AdamW(weights, lr=0.0, weight_decay=self.recipe.run.weight_decay)
        if self.recipe.warm.kind == "expert":
            slice_ = self.snapshot.slice(self.recipe.data.slice)
            self.plain = load_train_data(self.snapshot, slice_, "grn", 1)
        if self.recipe.warm.kind == "format":
            slice_ = self.snapshot.slice(self.recipe.warm.slice)
            self.lesson_questions = questions_of(self.snapshot, slice_.key, "train")
            self.prior = prior_answers(self.lesson_questions)

    @property
    def n_warm(self) -> int:
        return 0 if self.recipe.warm.kind == "none" else self.recipe.warm.steps

    @property
    def n_steps(self) -> int:
        return self.n_warm + self.recipe.run.steps

    def run(self, first: int, tell: Callable[[Metrics], None], *, stop: int | None = None) -> None:
        """Steps `first` … `stop` − 1 (default: all), with a checkpoint every so often and at the borders of a phase."""
        last = self.n_steps if stop is None else stop
        borders = {0, self.n_warm, self.n_steps}
        if first == 0:
            self.checkpoints.save(0, self.policy, self.optimizer)
        for step in range(first, last):
            metrics = self.step(step)
            self.log.write(metrics)
            tell(metrics)
            done = step + 1
            if done in borders or done == last or done % self.recipe.run.save_every == 0:
                self.checkpoints.save(done, self.policy, self.optimizer)
                self.checkpoints.prune(self.recipe.run.keep, borders)

    def step(self, step: int) -> Metrics:
        started_s = time.perf_counter()
        phase = "warm" if step < self.n_warm else "grpo"
        if step in (0, self.n_warm):
            self.optimizer.state.clear()  # a phase starts with moments of its own
        self.optimizer.zero_grad(set_to_none=True)
        self.n_untold, self.n_unshown, self.batch = 0, 0, []
        if phase == "warm":
            metrics = self.warm_step(step)
            rate = learning_rate(step, self.n_warm, self.recipe.warm.schedule)
        else:
            metrics = self.grpo_step(step - self.n_warm)
            rate = learning_rate(step - self.n_warm, self.recipe.run.steps, self.recipe.run.schedule)
        metrics |= {"untold": self.n_untold, "unshown": self.n_unshown, **self._apply(rate, step, metrics)}
        return {"step": step, "phase": phase, **metrics, "lr": rate, "seconds": time.perf_counter() - started_s}

    def warm_step(self, step: int) -> Metrics:
        """Imitate a batch of lessons or of expert episodes."""
        warm, seed = self.recipe.warm, self.recipe.run.seed
        weights: list[list[float]] = []
        pool = self.lesson_questions if warm.kind == "format" else self.data.questions
        for place, question in enumerate(take(pool, step * warm.batch, warm.batch, seed)):
            for episode, look, answer in self._teach(question, ("warm", seed, step, place)):
                n_answer = self.environment.dialogue.n_answer_tokens(episode.answer)
                self.batch.append(episode)
                weights.append(token_weights(episode, n_answer, look=look, words=warm.words_weight, answer=answer))
        if step == 0 and not self.batch:
            raise TrainingError("no episode to imitate in this step", where=f"step {step}", fix="choose another slice")
        return imitate(self.policy, self.batch, weights, self.recipe)

    def _teach(self, question: Question, key: tuple[Any, ...]) -> list[tuple[Episode, float, float]]:
        """The warm-start episode of a question with the loss weights of look and answer; none when it has no expert."""
        warm, scene = self.recipe.warm, self._shown(question)
        if scene is None:
            return []
        if warm.kind == "format":
            try:
                told = lesson(self.environment, scene, self.prior, warm, key)
            except InputError:
                self.n_untold += 1
                return []
            look_weight = warm.look_weight if told.trains_looks else 0.0
            return [(told.episode, look_weight, warm.answer_weight if told.is_shown else warm.guess_weight)]
        experts = self._told(scene, self.plain)
        return [(episode, warm.look_weight, warm.answer_weight) for episode in experts]

    def grpo_step(self, step: int) -> Metrics:
        """Roll out, reward, compare within each stream of each group, and take the gradient of both streams."""
        started_s = time.perf_counter()
        scenes = [scene for question in self.questions_at(step) if (scene := self._shown(question)) is not None]
        if step == 0 and not scenes:
            raise TrainingError("no question of this step can be shown", where=f"step {step}", fix=UNSHOWN_FIX)
        groups = self.groups(scenes, step)
        self.batch = [member.episode for one in groups for member in one.members]
        rolled_s = time.perf_counter()
        if self.reference is None and self.recipe.loss.kl > 0:
            weights = self.policy.head_weight
            self.reference = Policy.load(self.checkpoints.path(self.n_warm), weights.dtype, weights.device)
        if not _is_finite(groups):
            return {"loss": math.nan} | group_metrics(groups)  # ids drawn from no distribution: nothing to score
        if step == 0 and self.recipe.run.self_check:
            self._check_shared_prefix(groups)
        metrics = dual_stream(self.policy, groups, self.recipe, self.reference, split_streams=step % NORMS_EVERY == 0)
        seconds = {"seconds/rollout": rolled_s - started_s, "seconds/update": time.perf_counter() - rolled_s}
        return metrics | group_metrics(groups) | seconds

    def _shown(self, question: Question) -> Scene | None:
        """The scene of a question; one whose images the policy cannot be shown is left out and counted."""
        try:
            return self.scenes(question)
        except InputError:
            self.n_unshown += 1
            return None

    def questions_at(self, step: int) -> list[Question]:
        return self.data.at(step, self.recipe.run.prompts_per_step, self.recipe.run.seed)

    def groups(self, scenes: list[Scene], step: int) -> list[Group]:
        """One group per scene: fresh rollouts of the policy beside the expert's recorded trajectories."""
        run, reward = self.recipe.run, self.recipe.reward
        engine = LocalRollout(self.policy, run.temperature)
        rolled = roll_out(self.environment, engine, scenes, run.n_policy, ("rollout", run.seed, step))
        groups = []
        for scene, own in zip(scenes, rolled, strict=True):
            members = [member(self.environment, one.episode, "policy", reward, one.entropies) for one in own]
            groups.append(group(members + self._expert_members(scene), self.recipe.advantage))
        return groups

    def _expert_members(self, scene: Scene) -> list[Member]:
        members = [member(self.environment, one, "expert", self.recipe.reward) for one in self._told(scene, self.data)]
        variants = range(1, len(members) + 1)
        allowed = eligible_experts(variants, [one.is_correct for one in members], self.recipe.advantage)
        return [one for one, is_in in zip(members, allowed, strict=True) if is_in]

    def _told(self, scene: Scene, data: TrainData) -> list[Episode]:
        """The expert episodes of a scene; those that cannot be told are counted, never mended."""
        episodes = []
        for trajectory in data.trajectories.get(scene.question.question_id, ()):
            try:
                episodes.append(expert_episode(self.environment, scene, trajectory))
            except InputError:
                self.n_untold += 1
        return episodes

    def _check_shared_prefix(self, groups: list[Group]) -> None:
        rows = [one.episode.row for one in max(groups, key=lambda one: len(one.members)).members]
        tolerance = TOLERANCE[self.policy.head_weight.dtype]
        self_check(self.policy, rows[:4] + rows[-2:], tolerance, self.recipe.run.temperature)

    def _apply(self, rate: float, step: int, metrics: Metrics) -> Metrics:
        """One optimizer step, unless nothing pulls (moments alone would move the weights) or a number is not finite."""
        weights = [one for one in trained_parameters(self.policy).values() if one.grad is not None]
        norm = float(torch.nn.utils.clip_grad_norm_(weights, self.recipe.run.grad_norm_max)) if weights else 0.0
        is_finite = math.isfinite(norm) and math.isfinite(metrics["loss"] or 0.0)
        if not is_finite:
            self._dump(step)
        if norm == 0 or not is_finite:
            return {"grad_norm": norm, "is_skipped": 1.0, "is_finite": float(is_finite)}
        for one in self.optimizer.param_groups:
            one["lr"] = rate
        self.optimizer.step()
        return {"grad_norm": norm, "is_skipped": 0.0, "is_finite": 1.0}

    def _dump(self, step: int) -> None:
        """The batch of a step with a loss or gradient that is not finite, as token ids."""
        folder = self.out / "skipped"
        folder.mkdir(exist_ok=True)
        episodes = [
            {"question_id": one.scene.question.question_id, "name": one.name, "stream": one.stream, "ids": one.ids}
            | {"is_written": one.is_written, "turns": one.turns}
            for one in self.batch
        ]
        (folder / f"step-{step:06d}.json").write_text(json.dumps({"step": step, "episodes": episodes}) + "\n")


def _is_finite(groups: list[Group]) -> bool:
    """Whether every token of the rollouts was drawn from a distribution."""
    return all(math.isfinite(value) for one in groups for member in one.of("policy") for value in member.entropies)
