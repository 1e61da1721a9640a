"""A training run, told top to bottom: warm start by imitation, then dual-stream GRPO, one step after another.

A run is resumed from its newest checkpoint and goes on to the bit as if it had never stopped: what a step does is a
function of the recipe, the store's digest, the weights and the step's number. Every rank tells the same story about
its own questions; what all of them must know is put together in `trainer.ranks` and `trainer.sharding`.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from schemas.errors import InputError, TrainingError
from schemas.reader import Snapshot
from schemas.records import Question
from trainer.checkpoints import Checkpoints, trained_parameters
from trainer.core.advantages import eligible_experts
from trainer.core.schedules import learning_rate
from trainer.data import Scenes, TrainData, share, take
from trainer.environment import Environment, Episode, Scene
from trainer.facts import GroupFacts, Metrics, RowFacts, facts, group_metrics
from trainer.features import GRAPH_TOKENS_MAX, FeatureCache
from trainer.groups import Group, Member, counts, group, member
from trainer.losses import Counts
from trainer.optimizer import MasterAdamW
from trainer.policy import Policy
from trainer.ranks import ALONE, Ranks
from trainer.recipe import Recipe
from trainer.rollout.local import LocalRollout
from trainer.rollouts import roll_out
from trainer.runlog import RunLog
from trainer.self_check import self_check
from trainer.sharding import Shards
from trainer.teaching import Teacher
from trainer.updates import dual_stream, imitate, pulling, update_metrics

UNSHOWN_FIX = "lower view.image_max_pixels, view.crop_max_pixels or dialogue.looks_max"
NORMS_EVERY = 10  # steps between measurements of each stream's own gradient norm


@dataclass
class Training:
    """Everything a step needs. `step` does the next thing; what is counted and kept beside is of this step alone."""

    recipe: Recipe
    policy: Policy
    environment: Environment
    snapshot: Snapshot
    data: TrainData
    out: Path
    ranks: Ranks = ALONE
    reference: Policy | None = None  # of the KL term: the policy as the warm start left it
    n_unshown: int = 0  # questions whose images cannot be shown, mostly for want of room
    n_left_out: int = 0  # experts that stay out of their group, mostly for a wrong answer of their own
    batch: list[Episode] = field(default_factory=list)  # for the dump of a step that went wrong

    def __post_init__(self) -> None:
        self.log, self.checkpoints = RunLog(self.out), Checkpoints(self.out)
        self.scenes = Scenes(self.snapshot, self.environment)
        self.teacher = Teacher.of(self.recipe, self.environment, self.snapshot, self.data)
        graphs = GRAPH_TOKENS_MAX if self.recipe.run.sharding == "none" else 0
        self.features = FeatureCache(self.policy, graph_tokens_max=graphs)
        self.shards = Shards(self.policy, self.recipe.run.sharding, self.ranks)
        weights = trained_parameters(self.policy).values()
        self.optimizer = MasterAdamW(weights, weight_decay=self.recipe.run.weight_decay)

    @property
    def n_warm(self) -> int:
        return 0 if self.recipe.warm.kind == "none" else self.recipe.warm.steps

    @property
    def n_steps(self) -> int:
        return self.n_warm + self.recipe.run.steps

    def run(self, first: int, tell: Callable[[Metrics], None], *, stop: int | None = None) -> None:
        """Steps `first` … `stop` − 1 (default: all), with a checkpoint every so often and at the borders of a phase."""
        last = self.n_steps if stop is None else stop
        if first == 0:
            self.save(0)
        for step in range(first, last):
            metrics = self.step(step)
            if self.ranks.is_first:
                self.log.write(metrics)
                tell(metrics)
            done = step + 1
            if done in (self.n_warm, last) or done % self.recipe.run.save_every == 0:
                self.save(done)

    def save(self, done: int) -> None:
        with self.shards.whole(self.optimizer):
            if self.ranks.is_first:
                self.checkpoints.save(done, self.policy, self.optimizer)
                self.checkpoints.prune(self.recipe.run.keep, {0, self.n_warm, self.n_steps})
        self.ranks.wait()

    def step(self, step: int) -> Metrics:
        started_s = time.perf_counter()
        is_warm = step < self.n_warm
        if step in (0, self.n_warm):
            self.optimizer.state.clear()  # a phase starts with moments of its own
        self.optimizer.zero_grad(set_to_none=True)
        self.teacher.n_untold, self.n_unshown, self.n_left_out, self.batch = 0, 0, 0, []
        self.features.forget()
        self.shards.gather()
        if is_warm:
            metrics = self.warm_step(step)
            rate = learning_rate(step, self.n_warm, self.recipe.warm.schedule)
        else:
            metrics = self.grpo_step(step - self.n_warm)
            rate = learning_rate(step - self.n_warm, self.recipe.run.steps, self.recipe.run.schedule)
        self.shards.reduce()
        untold, unshown, left_out = self.ranks.total(self.teacher.n_untold, self.n_unshown, self.n_left_out)
        metrics |= {"untold": untold, "unshown": unshown, "left_out": left_out, **self._apply(rate, step, metrics)}
        phase = "warm" if is_warm else "grpo"
        return {"step": step, "phase": phase, **metrics, "lr": rate, "seconds": time.perf_counter() - started_s}

    def warm_step(self, step: int) -> Metrics:
        """Imitate a batch of lessons or of expert episodes."""
        warm, run = self.recipe.warm, self.recipe.run
        asked = self._shown(take(self.teacher.pool, step * warm.batch, warm.batch, run.seed))
        taught = [one for place, scene in asked for one in self.teacher.warm(scene, ("warm", run.seed, step, place))]
        self.batch, weights = [episode for episode, _ in taught], [each for _, each in taught]
        n_episodes, total = self.ranks.total(len(taught), sum(map(sum, weights)))
        if step == 0 and n_episodes == 0:
            raise TrainingError("no episode to imitate in this step", where=f"step {step}", fix="choose another slice")
        with self.shards.for_rows(self.batch if total else [], run.max_tokens) as policy:
            mine = imitate(policy, self.batch, weights, self.recipe, total)
        return dict(zip(mine, self.ranks.total(*mine.values()), strict=True))

    def grpo_step(self, step: int) -> Metrics:
        """Roll out, reward, compare within each stream of each group, and take the gradient of both streams."""
        started_s = time.perf_counter()
        asked = self._shown(self.questions_at(step))
        groups = self.groups([scene for _, scene in asked], step)
        self.batch = [one.episode for each in groups for one in each.members]
        mine = [facts(one, place) for one, (place, _) in zip(groups, asked, strict=True)]
        told = self.ranks.gather(mine, list[GroupFacts])
        everyone = sorted(chain(*told), key=lambda one: one.place)
        if step == 0 and not everyone:
            raise TrainingError("no question of this step can be shown", where=f"step {step}", fix=UNSHOWN_FIX)
        metrics = group_metrics(everyone, self.recipe.advantage)
        rolled_s = time.perf_counter()
        if not all(one.is_finite for one in everyone):
            return metrics | {"loss": math.nan}  # ids drawn from no distribution: nothing to score
        if step == 0 and self.recipe.run.self_check and groups:
            self._check_shared_prefix(groups)
        metrics |= self._update(groups, step)
        return metrics | {"seconds/rollout": rolled_s - started_s, "seconds/update": time.perf_counter() - rolled_s}

    def questions_at(self, step: int) -> list[Question]:
        return self.data.at(step, self.recipe.run.prompts_per_step, self.recipe.run.seed)

    def _shown(self, questions: Sequence[Question]) -> list[tuple[int, Scene]]:
        """This rank's questions with their places; one whose images cannot be shown is left out and counted."""
        shown = []
        for place, question in share(questions, self.ranks.rank, self.ranks.world):
            try:
                shown.append((place, self.scenes(question)))
            except InputError:
                self.n_unshown += 1
        return shown

    def groups(self, scenes: Sequence[Scene], step: int) -> list[Group]:
        """One group per scene: fresh rollouts of the policy beside the expert's recorded trajectories."""
        run, reward = self.recipe.run, self.recipe.reward
        engine = LocalRollout(self.policy, run.temperature, live_rows=run.live_rows, features=self.features)
        rolled = roll_out(self.environment, engine, scenes, run.n_policy, ("rollout", run.seed, step))
        groups = []
        for scene, own in zip(scenes, rolled, strict=True):
            members = [member(self.environment, one.episode, "policy", reward, one.entropies) for one in own]
            groups.append(group(members + self._expert_members(scene), self.recipe.advantage))
        return groups

    def _expert_members(self, scene: Scene) -> list[Member]:
        episodes = self.teacher.experts(scene)
        members = [member(self.environment, one, "expert", self.recipe.reward) for one in episodes]
        variants = range(1, len(members) + 1)
        allowed = eligible_experts(variants, [one.is_correct for one in members], self.recipe.advantage)
        self.n_left_out += len(members) - sum(allowed)
        return [one for one, is_in in zip(members, allowed, strict=True) if is_in]

    def _check_shared_prefix(self, groups: list[Group]) -> None:
        rows = [one.episode.row for one in max(groups, key=lambda one: len(one.members)).members]
        self_check(self.policy, rows[:4] + rows[-2:], self.recipe.run.temperature)

    def _update(self, groups: list[Group], step: int) -> Metrics:
        """Gradients of this rank's groups, divided by what all ranks count; numbers of all ranks."""
        recipe = self.recipe
        counted = Counts(*self.ranks.total(*counts(groups, recipe.loss.lambda_sft)))
        pulled = [[one.episode for one in each.members] for each in pulling(groups, recipe.loss)]
        norms_of = self.shards.summed if step % NORMS_EVERY == 0 and recipe.run.sharding != "zero3" else None
        with self.shards.for_groups(pulled, recipe.run.max_tokens) as policy:
            held_to, features = self._held_to(), self.features
            mine = dual_stream(policy, groups, recipe, counted, held_to, features=features, norms_of=norms_of)
        (loss,), rows = self.ranks.total(mine.loss), self.ranks.gather(mine.rows, list[RowFacts])
        return update_metrics(loss, list(chain(*rows)), counted) | mine.norms

    def _held_to(self) -> Policy | None:
        if self.reference is None and self.recipe.loss.kl > 0:
            weights = self.policy.head_weight
            left, base = self.checkpoints.path(self.n_warm), self.checkpoints.base(self.recipe)
            self.reference = Policy.load(left, weights.dtype, weights.device, base=base)
        return self.reference

    def _apply(self, rate: float, step: int, metrics: Metrics) -> Metrics:
        """One optimizer step, unless nothing pulls (moments alone would move the weights) or a number is not finite."""
        norm = self.shards.clip(self.recipe.run.grad_norm_max)
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
        mine = [
            {"question_id": one.scene.question.question_id, "name": one.name, "stream": one.stream, "ids": one.ids}
            | {"is_written": one.is_written, "turns": one.turns}
            for one in self.batch
        ]
        episodes = list(chain(*self.ranks.gather(mine)))
        if self.ranks.is_first:
            folder = self.out / "skipped"
            folder.mkdir(exist_ok=True)
            (folder / f"step-{step:06d}.json").write_text(json.dumps({"step": step, "episodes": episodes}) + "\n")
