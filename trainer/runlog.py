"""What a run writes about itself: `run.json` once, `steps.jsonl` a line per step. Both can be queried with DuckDB."""

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

MUST_AGREE = (
    "recipe_sha256",
    "store_digest",
    "slice",
    "torch",
    "transformers",
    "threads",
    "world_size",
    "machine",
    "device",
)


def describe_run(recipe: Recipe, store_digest: str, slice_key: str, device: str) -> dict[str, Any]:
    """Everything a rerun would have to match, and the resolved recipe."""
    return {
        "recipe": recipe.plain(),
        "recipe_sha256": recipe.digest,
        "store_digest": store_digest,
        "slice": slice_key,
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "threads": torch.get_num_threads(),
        "world_size": 1,
        "machine": platform.machine(),
        "device": device,
    }


class RunLog:
    def __init__(self, run: Path) -> None:
        self.run, self.steps_path, self.run_path = run, run / "steps.jsonl", run / "run.json"

    def begin(self, description: dict[str, Any]) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        self.run_path.write_text(json.dumps(description, indent=1, sort_keys=True) + "\n")

    def read(self) -> dict[str, Any]:
        try:
            return json.loads(self.run_path.read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"not a run: {error}", where=self.run, fix="give the --out folder of a fovea train"
            ) from error

    def check(self, description: dict[str, Any]) -> None:
        """CheckpointError when a resumed run would not be the one that was begun."""
        begun = self.read()
        differing = [name for name in MUST_AGREE if begun.get(name) != description[name]]
        if differing:
            what = "; ".join(f"{name} was {begun.get(name)}, is {description[name]}" for name in differing)
            raise CheckpointError(
                f"this run cannot be resumed: {what}", where=self.run, fix="use the same, or a new --out"
            )

    def truncate(self, steps_done: int) -> None:
        """Forget lines of steps that will be done again."""
        if self.steps_path.exists():
            lines = [line for line in self.steps_path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            kept = [line for line in lines if json.loads(line)["step"] < steps_done]
            fresh = self.steps_path.with_suffix(".new")
            fresh.write_text("".join(kept))
            os.replace(fresh, self.steps_path)

    def write(self, metrics: dict[str, Any]) -> None:
        with self.steps_path.open("a") as file:
            file.write(json.dumps({key: _plain(value) for key, value in metrics.items()}) + "\n")

    def steps(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.steps_path.read_text().splitlines()]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
