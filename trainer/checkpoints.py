"""Checkpoints: a folder appears whole or not at all, and loads back to the bit.

RUN/checkpoints/step-000040/ holds the model as any Qwen2.5-VL folder, or the adapter alone where one is trained, the
optimizer's moments as safetensors, and the number of steps done. There is no random state to save: every draw is
named by what it is for.
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from schemas.errors import CheckpointError
from trainer.policy import Policy
from trainer.ranks import part_like
from trainer.recipe import Recipe

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
NAME = re.compile("step-([0-9]{6,})")
UNFINISHED = (".writing-", ".removing-")  # prefixes of folders that a killed process leaves behind
BLOCK, BLOCKS_MAX = 1 << 16, 1024  # bytes, and how many blocks of a file are read to name a model


def trained_parameters(policy: Policy) -> dict[str, torch.nn.Parameter]:
    """Parameters with a gradient, by name, in name order: the order of every optimizer and reduction."""
    return {name: one for name, one in sorted(policy.model.named_parameters()) if one.requires_grad}


def base_identity(base: str) -> str:
    """sha256 over settings, tokenizer and weights of the folder or Hub id `base`: what a resumed run must find again.

    Of a file of more than 64 MiB only blocks count that lie evenly over it, at most 1,024 of 64 KiB. `tiny` names
    itself: recipe and data make it.
    """
    if base == "tiny":
        return base
    patterns = ["*.json", "merges.txt", "*.safetensors"]
    try:
        folder = Path(base) if Path(base).is_dir() else Path(snapshot_download(base, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"no such model: {str(error).splitlines()[0]}", where=base) from error
    whole = hashlib.sha256()
    for path in sorted(one for pattern in patterns for one in folder.glob(pattern)):
        whole.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            n_blocks = max(1, -(-path.stat().st_size // BLOCK))
            for at in range(0, n_blocks, -(-n_blocks // BLOCKS_MAX)):
                file.seek(at * BLOCK)
                whole.update(file.read(BLOCK))
    return whole.hexdigest()


class Checkpoints:
    def __init__(self, run: Path) -> None:
        self.folder = run / "checkpoints"

    def base(self, recipe: Recipe) -> str:
        """Where the model is that the run began with."""
        return str(self.folder.parent / "base") if recipe.model.base == "tiny" else recipe.model.base

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """Numbers of whole checkpoints; a copy under another name (`step-000040-good`) is none of ours."""
        found = [(NAME.fullmatch(path.name), path) for path in self.folder.glob("step-*")]
        return sorted(int(name[1]) for name, path in found if name and (path / "state.json").is_file())

    def latest(self) -> int | None:
        return max(self.steps(), default=None)

    def find(self, which: str) -> Path:
        """`latest`, or a number of steps; CheckpointError lists what there is."""
        steps = self.steps()
        wanted = (steps[-1] if steps else None) if which == "latest" else int(which) if which.isdecimal() else None
        if wanted not in steps:
            have = ", ".join(map(str, steps)) or "none"
            raise CheckpointError(f"no checkpoint {which!r}; there are: {have}", where=self.folder)
        return self.path(wanted)

    def save(self, step: int, policy: Policy, optimizer: torch.optim.Optimizer) -> None:
        """Write the state after `step` steps under a temporary name, then rename."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        fresh = self.folder / f".writing-{step:06d}"
        policy.save(fresh)
        save_file(_moments(policy, optimizer), fresh / "optimizer.safetensors")
        (fresh / "state.json").write_text(json.dumps({"steps_done": step}) + "\n")
        _fsync_all(fresh)
        self._remove(step)
        os.replace(fresh, self.path(step))
        _fsync(self.folder)

    def restore_optimizer(self, step: int, policy: Policy, optimizer: torch.optim.Optimizer) -> None:
        path = self.path(step) / "optimizer.safetensors"
        try:
            stored = load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"optimizer state cannot be read: {error}", where=path) from error
        for name, parameter in trained_parameters(policy).items():
            if f"{name}.step" in stored:
                kinds = [one.removeprefix(f"{name}.") for one in stored if one.rpartition(".")[0] == name]
                moments = {kind: stored[f"{name}.{kind}"] for kind in kinds}
                if not moments.keys() >= set(MOMENTS) or moments["exp_avg"].shape != parameter.shape:
                    raise CheckpointError(f"the moments of {name} are not those of this model", where=path)
                on_device = {kind: part_like(parameter, value) for kind, value in moments.items() if kind != "step"}
                optimizer.state[parameter] = moments | on_device  # the optimizer takes its counter where it wants it

    def prune(self, keep: int, borders: set[int]) -> None:
        """Remove all but the newest `keep` and those at the borders of a phase."""
        for step in self.steps()[:-keep]:
            if step not in borders:
                self._remove(step)

    def _remove(self, step: int) -> None:
        """Out of sight first: a folder that is half removed must not pass for a checkpoint."""
        if self.path(step).exists():
            leaving = self.folder / f".removing-{step:06d}"
            os.replace(self.path(step), leaving)
            shutil.rmtree(leaving)

    def _sweep(self) -> None:
        for path in self.folder.iterdir():
            if path.name.startswith(UNFINISHED):
                shutil.rmtree(path)


def _moments(policy: Policy, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    stored = {}
    for name, parameter in trained_parameters(policy).items():
        for kind, value in optimizer.state.get(parameter, {}).items():
            stored[f"{name}.{kind}"] = value.detach().contiguous().cpu()
    return stored


def _fsync_all(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _fsync(path)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
