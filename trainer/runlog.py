"""What a run writes about itself: `run.json` once, `steps.jsonl` a line per step. Both can be queried with DuckDB.

A process may be killed at any byte: `run.json` appears whole, and a line that was torn is forgotten on resume.
"""

import fcntl
import hashlib
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch

from schemas.errors import CheckpointError, UsageError
from trainer.checkpoints import base_identity
from trainer.recipe import Recipe

SAME_WORK = ("recipe", "store_digest", "slice", "base")  # run.max_tokens, the micro-batch plan, is in the recipe
SAME_BITS = ("versions", "threads", "world_size", "machine", "device")  # what else decides the last bits
MUST_AGREE = SAME_WORK + SAME_BITS
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow", "qwen-vl-utils")  # decide bits


class Follower(Protocol):
    """Somebody who sees a run step by step, on the one process that writes the log."""

    def begin(self, log: "RunLog") -> None:
        """Before the first step; the log holds what a resumed run has done already."""

    def follow(self, metrics: dict[str, Any]) -> None:
        """After each step, when its line is on the disk."""

    def end(self) -> dict[str, Any]:
        """After the last step; what to add to the summary."""


def describe_run(recipe: Recipe, store_digest: str, slice_key: str, device: str, world_size: int = 1) -> dict[str, Any]:
    """Everything a rerun would have to match, and the resolved recipe."""
    extra = {"peft": recipe.model.lora_rank > 0, "accelerate": world_size > 1}
    packages = (*PACKAGES, *(name for name, is_used in extra.items() if is_used))
    return {
        "recipe": recipe.plain(),
        "recipe_sha256": recipe.digest,
        "store_digest": store_digest,
        "slice": slice_key,
        "base": base_identity(recipe.model.base),
        "versions": {name: version(name) for name in packages} | {"fovea": code_digest()},
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "world_size": world_size,
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
    }


def code_digest() -> str:
    """Of the code that trains: a version number does not move with every change."""
    whole, root = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(one for part in ("schemas", "trainer") for one in (root / part).rglob("*.py")):
        whole.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return whole.hexdigest()[:16]


class RunLog:
    def __init__(self, run: Path) -> None:
        self.run, self.steps_path, self.run_path = run, run / "steps.jsonl", run / "run.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, no other process writes this run; the system lets go of it for a process that dies."""
        self.run.mkdir(parents=True, exist_ok=True)
        with (self.run / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError("another process is training here", where=self.run, fix="wait for its end") from error
            except OSError:
                pass  # a file system without locks
            yield

    def begin(self, description: dict[str, Any]) -> None:
        _replace(self.run_path, json.dumps(description, indent=1, sort_keys=True) + "\n")

    def read(self) -> dict[str, Any]:
        fix = "give the --out folder of a fovea train"
        try:
            told = json.loads(self.run_path.read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"not a run: {error}", where=self.run, fix=fix) from error
        if not isinstance(told, dict) or "recipe" not in told:
            raise CheckpointError("not a run: run.json holds no recipe", where=self.run, fix=fix)
        return told

    def check(self, description: dict[str, Any]) -> None:
        """CheckpointError when a resumed run would not be the one that was begun."""
        begun = self.read()
        differing = differences(begun, description, MUST_AGREE)
        if differing:
            older = f"--version {begun.get('store_digest')}" if [*differing] == ["store_digest"] else "the same"
            raise CheckpointError(
                f"this run cannot be resumed: {'; '.join(differing.values())}",
                where=self.run,
                fix=f"use {older}, or a new --out",
            )

    def truncate(self, steps_done: int) -> None:
        """Forget lines of steps that will be done again, and what a kill left of a line."""
        kept = self.steps()[:steps_done]
        if len(kept) < steps_done:
            what = f"the log is whole up to step {len(kept)} only, and {steps_done} were done"
            raise CheckpointError(what, where=self.steps_path, fix="put it back, or remove the checkpoints after that")
        _replace(self.steps_path, "".join(json.dumps(one) + "\n" for one in kept))

    def write(self, metrics: dict[str, Any]) -> None:
        """One line, on the disk before a checkpoint of the step can be."""
        with self.steps_path.open("a") as file:
            file.write(json.dumps(as_written(metrics)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def steps(self) -> list[dict[str, Any]]:
        """The whole lines, one per step from 0, up to the first that a kill or a crash of the machine has torn."""
        known: list[dict[str, Any]] = []
        text = self.steps_path.read_text(errors="replace") if self.steps_path.exists() else ""
        for line in text.splitlines(keepends=True):
            try:
                one = json.loads(line)
            except ValueError:
                break
            if not (line.endswith("\n") and isinstance(one, dict) and one.get("step") == len(known)):
                break
            known.append(one)
        return known


def differences(was: dict[str, Any], now: dict[str, Any], names: Iterable[str]) -> dict[str, str]:
    """By dotted name, a few words on each setting under `names` that is not the same in two descriptions of runs."""
    then, here = (_flat(json.loads(json.dumps({name: one.get(name) for name in names}))) for one in (was, now))
    differing = [name for name in sorted(then | here) if then.get(name) != here.get(name)]
    return {name: f"{name} was {then.get(name)}, is {here.get(name)}" for name in differing}


def _flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted names, so that a message names what differs and not the whole table."""
    flat: dict[str, Any] = {}
    for name, value in plain.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def as_written(metrics: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN and no infinity: they are null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in metrics.items()
    }
