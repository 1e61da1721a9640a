"""Runs that kill themselves with SIGKILL at a byte that matters; started by `test_resume`, never imported.

usage: python -m tests.trainer.dying_runs STORE RECIPE OUT…, the name of each OUT telling where its run dies.
"""

import os
import signal
import sys
from pathlib import Path

from schemas.reader import Store
from tests.trainer.small_runs import train
from trainer import checkpoints
from trainer.policy import Policy
from trainer.runlog import RunLog

write, save = RunLog.write, Policy.save


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def between_line_and_checkpoint(log: RunLog, metrics: dict) -> None:
    write(log, metrics)
    if metrics["step"] == 1:
        die()


def in_a_line(log: RunLog, metrics: dict) -> None:
    write(log, metrics)
    if metrics["step"] == 4:
        with log.steps_path.open("a") as file:
            file.write('{"step": 5, "phase": "grpo", "lo')
        die()


def in_a_checkpoint(policy: Policy, folder: Path) -> None:
    save(policy, folder)
    if "000004" in folder.name:
        die()


def arm(where: str) -> None:
    match where:
        case "between-line-and-checkpoint":
            RunLog.write = between_line_and_checkpoint
        case "in-a-line":
            RunLog.write = in_a_line
        case "in-a-checkpoint":
            Policy.save = in_a_checkpoint
        case "before-the-first-checkpoint":
            checkpoints.Checkpoints.save = lambda *_: die()


def main(store: str, recipe: str, *outs: str) -> None:
    """Forks a child per run, so that the libraries are imported once; nothing has a thread yet."""
    for out in map(Path, outs):
        child = os.fork()
        if child == 0:
            arm(out.name)
            train(Store(store), out, Path(recipe))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(out.name, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(*sys.argv[1:])
