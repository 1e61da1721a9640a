"""Runs that tell which tokens their rollouts hold; several after each other in one launch of torchrun.

usage: torchrun --standalone --nproc-per-node N -m tests.trainer.rank_runs STORE RECIPE JOB…, a job being the folder of
a run and its overrides, separated by `|`. `dies=RANK.STEP` among them has that rank killed in the midst of that step.
"""

import json
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch.distributed as dist

from schemas.reader import Store
from tests.trainer.small_runs import train
from trainer.loop import Training
from trainer.ranks import Ranks
from trainer.sharding import Shards


@contextmanager
def watched(out: Path, death: tuple[int, int] = (-1, -1)):
    """Inside, each rank writes what it rolled out; rank and step of `death` end by SIGKILL before gradients meet."""
    roll, start_step, reduce = Training.groups, Training.step, Shards.reduce
    now = []

    def groups(training: Training, scenes: list, step: int) -> list:
        made = roll(training, scenes, step)
        with (out / f"rolled-{training.ranks.rank}.jsonl").open("a") as file:
            for one in [member.episode for each in made for member in each.of("policy")]:
                file.write(json.dumps([step, one.name, one.ids]) + "\n")
        return made

    def step(training: Training, number: int) -> dict:
        now[:] = [training.ranks.rank, number]
        return start_step(training, number)

    def die_or_reduce(shards: Shards) -> None:
        if tuple(now) == death:
            os.kill(os.getpid(), signal.SIGKILL)
        reduce(shards)

    with (
        patch.object(Training, "groups", groups),
        patch.object(Training, "step", step),
        patch.object(Shards, "reduce", die_or_reduce),
    ):
        yield


def rolled(out: Path) -> list:
    """What all ranks of a run rolled out, in one order."""
    return sorted(json.loads(line) for path in out.glob("rolled-*.jsonl") for line in path.read_text().splitlines())


def run_one(store: Store, recipe: Path, out: Path, *overrides: str) -> Path:
    deaths = [one.removeprefix("dies=").split(".") for one in overrides if one.startswith("dies=")]
    out.mkdir(parents=True, exist_ok=True)
    with watched(out, *(tuple(map(int, one)) for one in deaths)):
        return train(store, out, recipe, *(one for one in overrides if not one.startswith("dies=")))


def main(store: str, recipe: str, *jobs: str) -> None:
    Ranks.stop = lambda _: None  # the next run needs the others as well
    for job in jobs:
        out, *overrides = job.split("|")
        run_one(Store(store), Path(recipe), Path(out), *overrides)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
