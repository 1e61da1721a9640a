"""torchrun as a user starts it, on the CPU of this machine, with a port of its own; and runs that die under it."""

import json
import subprocess
import sys
from pathlib import Path

from schemas.reader import Store
from tests.processes import ROOT, environment
from tests.trainer.small_runs import steps_of, weights_of


def torchrun(*words: object) -> subprocess.CompletedProcess[str]:
    """Two processes; `words` begin with `-m`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, words)]
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )


def die(store: Store, recipe: Path, out: Path, step: int, *overrides: str) -> None:
    """Rank 1 is killed in the midst of a step, and torchrun ends the other."""
    job = "|".join([str(out), *overrides, f"dies=1.{step}"])
    died = torchrun("-m", "tests.trainer.rank_runs", store.root, recipe, job)
    assert died.returncode != 0
    assert "-9" in died.stderr
    assert len(steps_of(out)) == step


def go_on(store: Store, recipe: Path, out: Path, *overrides: str, how: tuple[str, ...] = ("--resume",)) -> None:
    """Through the command line, to the end; one rank speaks."""
    words = ["--store", store.root, "--recipe", recipe, "--out", out, "--json", *how]
    done = torchrun("-m", "cli", "train", *words, *(word for one in overrides for word in ("--set", one)))
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["steps_done"] == 6


def assert_same_run(run: Path, whole: Path) -> None:
    assert steps_of(run) == steps_of(whole)
    for step in (3, 6):
        assert weights_of(run, step) == weights_of(whole, step)
