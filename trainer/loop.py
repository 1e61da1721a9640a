"""A training run, told top to bottom: warm start by imitation, then dual-stream GRPO, one step after another.

A run is resumed from its newest checkpoint and goes on to the bit as if it had never stopped: what a step does is a
function of the recipe, the store's digest, the weights and the step's number.
"""

import json
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
from trainer.core.schedules import ScheduleConfig, learning_rate
from trainer.data import Scenes, TrainData, questions_of, take
from trainer.environment import Environment, Episode, Scene
from trainer.episodes import expert_episode
from trainer.groups import Group, Member, group, group_metrics, member
from trainer.lessons import lesson, prior_answers
from trainer.policy import Policy
from trainer.recipe import Recipe
from trainer.rollout.local import LocalRollout
from trainer.rollouts import roll_out
from trainer.runlog import RunLog
from trainer.shared_prefix import self_check
from trainer.updates import Metrics, dual_stream, imitate

NORMS_EVERY = 10  # steps between measurements of each stream's own gradient norm


@dataclass
class Training:
    """Everything a step needs. `begin` says what has been done, `step` does the next thing."""

    recipe: Recipe
    policy: Policy
    environment: Environment
    snapshot: Snapshot
    data: TrainData
    out: Path
    reference: Policy | None = None
    n_untold: int = 0  # expert trajectories that the environment would not have let pass
    lesson_questions: tuple[Question, ...] = ()
    prior: dict[str | None, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log, self.checkpoints = RunLog(self.out), Checkpoints(self.out)
        self.scenes = Scenes(self.snapshot, self.environment)
        weights = list(trained_parameters(self.policy).values())
        self.optimizer = torch.optim.AdamW(weights, lr=0.0, weight_decay=self.recipe.run.weight_decay)
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
        if phase == "warm":
            metrics = self.warm_step(step)
            rate = self._rate(self.recipe.warm.schedule, step, self.n_warm)
        else:
            metrics = self.grpo_step(step - self.n_warm)
            rate = self._rate(self.recipe.run.schedule, step - self.n_warm, self.recipe.run.steps)
        metrics |= self._apply(rate, step, metrics)
        return {"step": step, "phase": phase, **metrics, "lr": rate, "seconds": time.perf_counter() - started_s}

    def warm_step(self, step: int) -> Metrics:
        """Imitate a batch of lessons or of expert episodes."""
        warm, seed = self.recipe.warm, self.recipe.run.seed
        episodes: list[Episode] = []
        weights: list[list[float]] = []
        pool = self.lesson_questions if warm.kind == "format" else self.data.questions
        for place, question in enumerate(take(pool, step * warm.batch, warm.batch, seed)):
            for episode, look_weight, answer_weight in self._teach(question, ("warm", seed, step, place)):
                episodes.append(episode)
                weights.append([look_weight] * (len(episode.turns) - 1) + [answer_weight])
        if not episodes:
            raise TrainingError("no episode to imitate in this step", where=f"step {step}", fix="choose another slice")
        return imitate(self.policy, episodes, weights, self.recipe)

    def _teach(self, question: Question, key: tuple[Any, ...]) -> list[tuple[Episode, float, float]]:
        """The warm-start episode of a question with the loss weights of look and answer; none when it has no expert."""
        warm, scene = self.recipe.warm, self.scenes(question)
        if warm.kind == "format":
            told = lesson(self.environment, scene, self.prior, warm, key)
            look_weight = warm.look_weight if told.trains_looks else 0.0
            return [(told.episode, look_weight, warm.answer_weight if told.is_shown else warm.guess_weight)]
        experts = self._experts(scene)
        return [(experts[key[2] % len(experts)], warm.look_weight, warm.answer_weight)] if experts else []

    def grpo_step(self, step: int) -> Metrics:
        """Roll out, reward, compare within each stream of each group, and take the gradient of both streams."""
        started_s = time.perf_counter()
        scenes = [self.scenes(question) for question in self.questions_at(step)]
        groups = self.groups(scenes, step)
        rolled_s = time.perf_counter()
        if step == 0 and self.recipe.loss.kl > 0:
            weights = self.policy.head_weight
            self.reference = Policy.load(self.checkpoints.path(self.n_warm), weights.dtype, weights.device)
        if step == 0 and self.recipe.run.self_check:
            self._check_shared_prefix(groups)
        metrics = dual_stream(self.policy, groups, self.recipe, self.reference, split_streams=step % NORMS_EVERY == 0)
        seconds = {"seconds/rollout": rolled_s - started_s, "seconds/update": time.perf_counter() - rolled_s}
        return metrics | group_metrics(groups) | seconds | {"experts_untold": self.n_untold}

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
        members = [member(self.environment, one, "expert", self.recipe.reward) for one in self._experts(scene)]
        variants = range(1, len(members) + 1)
        allowed = eligible_experts(variants, [one.is_correct for one in members], self.recipe.advantage)
        return [one for one, is_in in zip(members, allowed, strict=True) if is_in]

    def _experts(self, scene: Scene) -> list[Episode]:
        """The expert episodes of a scene; those that cannot be told are counted, never mended."""
        episodes = []
        for trajectory in self.data.trajectories.get(scene.question.question_id, ()):
            try:
                episodes.append(expert_episode(self.environment, scene, trajectory))
            except InputError:
                self.n_untold += 1
        return episodes

    def _check_shared_prefix(self, groups: list[Group]) -> None:
        rows = [one.episode.row for one in max(groups, key=lambda one: len(one.members)).members]
        exact = self.policy.head_weight.dtype == torch.float64
        self_check(self.policy, rows[:4] + rows[-2:], 1e-6 if exact else 5e-3, self.recipe.run.temperature)

    @staticmethod
    def _rate(schedule: ScheduleConfig, step: int, n_steps: int) -> float:
        return learning_rate(step, n_steps, schedule)

    def _apply(self, rate: float, step: int, metrics: Metrics) -> Metrics:
        """One optimizer step, unless there is no gradient or it is not finite: then the batch is named in a file."""
        weights = [one for one in trained_parameters(self.policy).values() if one.grad is not None]
        if not weights:
            return {"grad_norm": 0.0, "is_skipped": 1.0}
        norm = float(torch.nn.utils.clip_grad_norm_(weights, self.recipe.run.grad_norm_max))
        if not torch.isfinite(torch.tensor(norm)) or not torch.isfinite(torch.tensor(metrics["loss"] or 0.0)):
            self._dump(step)
            return {"grad_norm": norm, "is_skipped": 1.0}
        for one in self.optimizer.param_groups:
            one["lr"] = rate
        self.optimizer.step()
        return {"grad_norm": norm, "is_skipped": 0.0}

    def _dump(self, step: int) -> None:
        folder = self.out / "skipped"
        folder.mkdir(exist_ok=True)
        names = [one.question_id for one in self.questions_at(max(0, step - self.n_warm))]
        (folder / f"step-{step:06d}.json").write_text(json.dumps({"step": step, "questions": names}) + "\n")
