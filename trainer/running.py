"""Setting up a run: recipe, store version, model and data, checked against what was begun when it is resumed."""

import gc
import json as jsonlib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from schemas.errors import UsageError
from schemas.reader import Snapshot, Store
from trainer.checkpoints import Checkpoints
from trainer.data import TrainData, load_train_data
from trainer.dialogue import Dialogue
from trainer.dry_run import estimate_of, refuse_too_large, told
from trainer.environment import Environment
from trainer.facts import Metrics
from trainer.loop import Training
from trainer.policy import Policy, refuse_absent_device
from trainer.ranks import ALONE, Ranks
from trainer.recipe import Recipe, load_recipe
from trainer.runlog import SAME_WORK, Follower, RunLog, describe_run, differences
from trainer.tiny import save_tiny
from trainer.vocabulary import corpus

SHOWN = ("loss", "policy/reward", "policy/accuracy", "expert/reward", "policy/looks", "grad_norm", "seconds")


def start(
    store: str | Path,
    out: Path,
    recipe: str | Recipe,
    overrides: list[str],
    *,
    is_resumed: bool,
    stop_after: int | None,
    version: str | None,
    device: str,
    threads: int,
    json: bool,
    followers: Sequence[Follower] = (),
) -> dict[str, Any]:
    """Train, and say what was done; a recipe by name or file is refined with overrides."""
    refuse_absent_device(device)
    if out.exists() and not out.is_dir():
        raise UsageError("a file, not the folder of a run", where=out, fix="choose another --out")
    ranks = Ranks.start(device)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(device == "cpu")
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=not ranks.is_first)
    wanted = estimate_of(recipe, ranks.device, ranks.world)
    refuse_too_large(wanted, ranks.device)
    console.print("\n".join(told(wanted)))
    snapshot = Store(store).snapshot(version)
    slice_ = snapshot.slice(recipe.data.slice)
    data = load_train_data(snapshot, slice_, recipe.data.experts, recipe.data.n_experts)
    log = RunLog(out)
    mine = describe_run(recipe, snapshot.manifest.digest, slice_.key, ranks.device, ranks.world)
    description = _agreed(ranks.gather(mine))
    if is_resumed:
        log.check(description)
    followers = followers if ranks.is_first else ()
    with log.held() if ranks.is_first else nullcontext():
        first, *_ = ranks.gather(_first_step(log, is_resumed=is_resumed) if ranks.is_first else 0)
        training = prepare(recipe, snapshot, data, out, first=first, ranks=ranks)
        if ranks.is_first and not is_resumed:
            log.begin(description)  # only now: a model that cannot be loaded leaves no run behind
        gc.freeze()  # the data stay for the whole run; scanning them again and again took a tenth of a step
        last = max(first, training.n_steps if stop_after is None else min(stop_after, training.n_steps))
        _run(training, first, last, console, followers)
    ranks.stop()
    summary = {"run": str(out), "steps_done": last, "steps": training.n_steps, "store_digest": snapshot.manifest.digest}
    summary |= {name: value for one in followers for name, value in one.end().items()}
    if json and ranks.is_first:
        print(jsonlib.dumps(summary))
    elif not json:
        console.print(f"{out}: {last} of {training.n_steps} steps done")
    return summary


def _run(training: Training, first: int, last: int, console: Console, followers: Sequence[Follower]) -> None:
    for one in followers:
        one.begin(training.log)

    def tell(metrics: Metrics) -> None:
        _tell(console, metrics, training.n_steps)
        for one in followers:
            one.follow(metrics)

    training.run(first, tell, stop=last)


def prepare(
    recipe: Recipe, snapshot: Snapshot, data: TrainData, out: Path, *, first: int, ranks: Ranks = ALONE
) -> Training:
    """Model, environment and optimizer of a run that has done `first` steps."""
    policy = _policy(recipe, data, out, first, ranks)
    environment = Environment(Dialogue(policy.processor, recipe.dialogue), recipe.view)
    training = Training(recipe, policy, environment, snapshot, data, out, ranks)
    if ranks.is_first:
        training.log.truncate(first)
    if first:
        training.checkpoints.restore_optimizer(first, policy, training.optimizer)
    return training


def _agreed(descriptions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run that all ranks describe, with the machines and devices of all; UsageError if it is not one run."""
    for rank, one in enumerate(descriptions):
        if off := differences(descriptions[0], one, (*SAME_WORK, "versions", "threads")):
            fix = "give all processes the same packages, store and model"
            raise UsageError(f"rank {rank} is not like rank 0: {'; '.join(off.values())}", fix=fix)
    places = {name: " + ".join(sorted({one[name] for one in descriptions})) for name in ("machine", "device")}
    return descriptions[0] | places


def _first_step(log: RunLog, *, is_resumed: bool) -> int:
    """Steps already done; refuses a run that is there already."""
    if is_resumed:
        return Checkpoints(log.run).latest() or 0  # killed before its first checkpoint: from the beginning
    if log.run_path.exists() or Checkpoints(log.run).steps():
        raise UsageError("there is a run here already", where=log.run, fix="--resume it, or choose another --out")
    return 0


def _policy(recipe: Recipe, data: TrainData, out: Path, first: int, ranks: Ranks) -> Policy:
    if first:
        return _load(recipe, Checkpoints(out).path(first), out, ranks.device)
    if recipe.model.base == "tiny" and ranks.is_first:
        trajectories = [one for many in data.trajectories.values() for one in many]
        save_tiny(recipe.tiny, corpus(data.questions, trajectories, recipe.dialogue), recipe.run.seed, out / "base")
    ranks.wait()
    return _load(recipe, Checkpoints(out).base(recipe), out, ranks.device)


def _load(recipe: Recipe, path: str | Path, out: Path, device: str) -> Policy:
    model, base = recipe.model, Checkpoints(out).base(recipe)
    dtype, lora = getattr(torch, model.dtype), model.lora(recipe.run.seed)
    return Policy.load(path, dtype, device, freeze_vision=model.freeze_vision, lora=lora, base=base)


def _tell(console: Console, metrics: Metrics, n_steps: int) -> None:
    numbers = "  ".join(f"{name} {metrics[name]:.3g}" for name in SHOWN if metrics.get(name) is not None)
    console.print(f"{metrics['phase']} {int(metrics['step']) + 1}/{n_steps}  {numbers}")
