"""A recorded run done again, step by step, and held against its record: metrics exactly, weights by their sha256.

There is no tolerance. What may change the last bits (versions, threads, machine …) is told beforehand and not refused:
whether it does is what a replay finds out. Another store or another base model is refused.
"""

import hashlib
import json as jsonlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from schemas.errors import CheckpointError, TrainingError
from trainer.checkpoints import Checkpoints, base_identity
from trainer.metrics import is_clocked
from trainer.recipe import recipe_from
from trainer.runlog import SAME_BITS, Follower, RunLog, as_written, differences
from trainer.running import start

ABSENT = "absent"


class Replay:
    """Follows the new run; TrainingError at the first number that is not the recorded one."""

    def __init__(self, run: Path) -> None:
        log = RunLog(run)
        self.run, self.about, self.saved = run, log.read(), Checkpoints(run)
        self.lines = log.steps()
        self.recipe = recipe_from(self.about["recipe"])
        base = base_identity(self.recipe.model.base)
        if base != self.about["base"]:
            what = f"another base model: its identity was {self.about['base']}, is {base}"
            raise CheckpointError(what, where=self.recipe.model.base, fix="replay with the model of the recorded run")
        self.unlike: list[str] = []
        self.n_equal = 0
        self.weights_equal: list[int] = []
        self.difference: dict[str, Any] | None = None

    def begin(self, log: RunLog) -> None:
        self.ours = Checkpoints(log.run)
        self.unlike = [*differences(self.about, log.read(), SAME_BITS).values()]
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        for one in self.unlike:
            console.print(f"warning: bits may differ: {one}", markup=False)

    def follow(self, metrics: dict[str, Any]) -> None:
        """Weights first: they were written before this step was taken."""
        self._compare_weights()
        now, was = jsonlib.loads(jsonlib.dumps(as_written(metrics))), self.lines[metrics["step"]]
        for name in [*was, *(name for name in now if name not in was)]:
            if not is_clocked(name):
                self._compare(metrics["step"], name, was.get(name, ABSENT), now.get(name, ABSENT))
        self.n_equal += 1

    def end(self) -> dict[str, Any]:
        self._compare_weights()
        return self.report()

    def report(self) -> dict[str, Any]:
        return {
            "replayed": str(self.run),
            "steps_equal": self.n_equal,
            "checkpoints_equal": self.weights_equal,
            "unlike": self.unlike,
            "difference": self.difference,
        }

    def _compare_weights(self) -> None:
        """Checkpoints that both runs have at this moment; old ones are pruned as the run goes on."""
        for step in sorted({*self.saved.steps()} & {*self.ours.steps()} - {*self.weights_equal}):
            was, now = (_digests(one.path(step)) for one in (self.saved, self.ours))
            for name in sorted(was | now):
                self._compare(step, f"checkpoint {name}", was.get(name, ABSENT), now.get(name, ABSENT))
            self.weights_equal.append(step)

    def _compare(self, step: int, name: str, was: Any, now: Any) -> None:
        if was != now:
            self.difference = {"step": step, "name": name, "was": was, "is": now}
            raise TrainingError(f"step {step}: {name} was {was}, is {now}", where=self.run)


def _digests(checkpoint: Path) -> dict[str, str]:
    found = {}
    for path in checkpoint.glob("*.safetensors"):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def replay(
    run: Path,
    store: str,
    out: Path,
    *,
    stop_after: int | None,
    device: str,
    threads: int,
    json: bool,
    followers: Sequence[Follower] = (),
) -> None:
    """Do the recorded steps of `run` again in `out`, at most `stop_after` of them."""
    again = Replay(run)
    n_recorded = len(again.lines)
    try:
        start(
            store,
            out,
            again.recipe,
            [],
            is_resumed=False,
            stop_after=n_recorded if stop_after is None else min(stop_after, n_recorded),
            version=again.about["store_digest"],
            device=device,
            threads=threads,
            json=json,
            followers=[again, *followers],
        )
    except TrainingError:
        if json and again.difference:
            print(jsonlib.dumps(again.report()))
        raise
