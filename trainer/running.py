"""Setting up a run: recipe, store version, model and data, checked against what was begun when it is resumed."""

import gc
import json as jsonlib
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from schemas.errors import UsageError
from schemas.reader import Snapshot, Store
from trainer.checkpoints import Checkpoints
from trainer.data import TrainData, load_train_data
from trainer.dialogue import Dialogue
from trainer.environment import Environment
from trainer.loop import Training
from trainer.policy import Policy, refuse_absent_device
from trainer.recipe import Recipe, load_recipe
from trainer.runlog import RunLog, describe_run
from trainer.tiny import save_tiny
from trainer.updates import Metrics
from trainer.vocabulary import corpus

SHOWN = ("loss", "policy/reward", "policy/accuracy", "expert/reward", "policy/looks", "grad_norm", "seconds")


def start(
    store: str | Path,
    out: Path,
    recipe_name: str,
    overrides: list[str],
    *,
    is_resumed: bool,
    stop_after: int | None,
    version: str | None,
    device: str,
    threads: int,
    json: bool,
) -> None:
    refuse_absent_device(device)
    if out.exists() and not out.is_dir():
        raise UsageError("a file, not the folder of a run", where=out, fix="choose another --out")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(device == "cpu")
    recipe = load_recipe(recipe_name, overrides)
    snapshot = Store(store).snapshot(version)
    slice_ = snapshot.slice(recipe.data.slice)
    data = load_train_data(snapshot, slice_, recipe.data.experts, recipe.data.n_experts)
    log, description = RunLog(out), describe_run(recipe, snapshot.manifest.digest, slice_.key, device)
    first = _first_step(log, description, is_resumed=is_resumed)
    training = prepare(recipe, snapshot, data, out, first=first, device=device)
    if not is_resumed:
        log.begin(description)  # only now: a model that cannot be loaded leaves no run behind
    gc.freeze()  # the data stay for the whole run; scanning them again and again took a tenth of a step
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    last = max(first, training.n_steps if stop_after is None else min(stop_after, training.n_steps))
    training.run(first, lambda metrics: _tell(console, metrics, training.n_steps), stop=last)
    summary = {"run": str(out), "steps_done": last, "steps": training.n_steps, "store_digest": snapshot.manifest.digest}
    if json:
        print(jsonlib.dumps(summary))
    else:
        console.print(f"{out}: {last} of {training.n_steps} steps done")


def prepare(recipe: Recipe, snapshot: Snapshot, data: TrainData, out: Path, *, first: int, device: str) -> Training:
    """Model, environment and optimizer of a run that has done `first` steps."""
    policy = _policy(recipe, data, out, first, device)
    environment = Environment(Dialogue(policy.processor, recipe.dialogue), recipe.view)
    training = Training(recipe, policy, environment, snapshot, data, out)
    training.log.truncate(first)
    if first:
        training.checkpoints.restore_optimizer(first, policy, training.optimizer)
    return training


def _first_step(log: RunLog, description: dict[str, Any], *, is_resumed: bool) -> int:
    """Steps already done; refuses a run that is there already, or is not the one to be resumed."""
    if is_resumed:
        log.check(description)
        return Checkpoints(log.run).latest() or 0  # killed before its first checkpoint: from the beginning
    if log.run_path.exists() or Checkpoints(log.run).steps():
        raise UsageError("there is a run here already", where=log.run, fix="--resume it, or choose another --out")
    return 0


def _policy(recipe: Recipe, data: TrainData, out: Path, first: int, device: str) -> Policy:
    if first:
        return _load(recipe, Checkpoints(out).path(first), device)
    if recipe.model.base != "tiny":
        return _load(recipe, recipe.model.base, device)
    trajectories = [one for many in data.trajectories.values() for one in many]
    lines = corpus(data.questions, trajectories, recipe.dialogue)
    return _load(recipe, save_tiny(recipe.tiny, lines, recipe.run.seed, out / "base"), device)


def _load(recipe: Recipe, path: str | Path, device: str) -> Policy:
    dtype = getattr(torch, recipe.model.dtype)
    return Policy.load(path, dtype, device, freeze_vision=recipe.model.freeze_vision)


def _tell(console: Console, metrics: Metrics, n_steps: int) -> None:
    numbers = "  ".join(f"{name} {metrics[name]:.3g}" for name in SHOWN if metrics.get(name) is not None)
    console.print(f"{metrics['phase']} {int(metrics['step']) + 1}/{n_steps}  {numbers}")
