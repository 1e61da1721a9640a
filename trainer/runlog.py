"""What a run writes about itself: `run.json` once, `steps.jsonl` a line per step. Both can be queried with DuckDB.

A process may be killed at any byte: `run.json` appears whole, and a line that was torn is forgotten on resume.
"""

import json
import math
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from schemas.errors import CheckpointError
from trainer.recipe import Recipe

MUST_AGREE = ("recipe_sha256", "store_digest", "slice", "versions", "threads", "world_size", "machine", "device")
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow", "qwen-vl-utils")  # decide bits


def describe_run(recipe: Recipe, store_digest: str, slice_key: str, device: str) -> dict[str, Any]:
    """Everything a rerun would have to match, and the resolved recipe."""
    return {
        "recipe": recipe.plain(),
        "recipe_sha256": recipe.digest,
        "store_digest": store_digest,
        "slice": slice_key,
        "versions": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "world_size": 1,
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
    }


class RunLog:
    def __init__(self, run: Path) -> None:
        self.run, self.steps_path, self.run_path = run, run / "steps.jsonl", run / "run.json"

    def begin(self, description: dict[str, Any]) -> None:
        _replace(self.run_path, json.dumps(description, indent=1, sort_keys=True) + "\n")

    def read(self) -> dict[str, Any]:
        fix = "give the --out folder of a fovea train"
        try:
            told = json.loads(self.run_path.read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"not a run: {error}", where=self.run, fix=fix) from error
        if not isinstance(told, dict):
            raise CheckpointError("not a run: run.json holds no table", where=self.run, fix=fix)
        return told

    def check(self, description: dict[str, Any]) -> None:
        """CheckpointError when a resumed run would not be the one that was begun."""
        begun = self.read()
        was, now = (_flat({name: one.get(name) for name in MUST_AGREE}) for one in (begun, description))
        differing = [name for name in sorted(was | now) if was.get(name) != now.get(name)]
        if differing:
            what = "; ".join(f"{name} was {was.get(name)}, is {now.get(name)}" for name in differing)
            older = f"--version {begun.get('store_digest')}" if differing == ["store_digest"] else "the same"
            raise CheckpointError(
                f"this run cannot be resumed: {what}", where=self.run, fix=f"use {older}, or a new --out"
            )

    def truncate(self, steps_done: int) -> None:
        """Forget lines of steps that will be done again, and what a kill left of a line."""
        kept = [json.dumps(one) + "\n" for one in self.steps() if one["step"] < steps_done]
        _replace(self.steps_path, "".join(kept))

    def write(self, metrics: dict[str, Any]) -> None:
        """One line, on the disk before a checkpoint of the step can be."""
        with self.steps_path.open("a") as file:
            file.write(json.dumps({key: _plain(value) for key, value in metrics.items()}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def steps(self) -> list[dict[str, Any]]:
        """The whole lines, up to the first that a kill or a crash of the machine has torn."""
        known: list[dict[str, Any]] = []
        text = self.steps_path.read_text(errors="replace") if self.steps_path.exists() else ""
        for line in text.splitlines(keepends=True):
            try:
                one = json.loads(line)
            except ValueError:
                break
            if not (line.endswith("\n") and isinstance(one, dict) and type(one.get("step")) is int):
                break
            known.append(one)
        return known


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


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
