"""Mirrors of `steps.jsonl` for people who watch: TensorBoard and trackio, both extras, imported when asked for.

A mirror says nothing that the log does not. When a run is resumed it is made anew from the log, so that no step is
there twice and none that a kill took is missing.
"""

import contextlib
import hashlib
import shutil
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from schemas.errors import UsageError
from trainer.runlog import RunLog

PROJECT = "fovea"  # in trackio


def open_writer(name: str) -> "TensorBoard | Trackio":
    if name not in WRITERS:
        raise UsageError(f"no writer {name!r}", where="--writer", fix=f"one of {', '.join(WRITERS)}")
    return WRITERS[name]()


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if name != "step" and isinstance(value, int | float)}


class TensorBoard:
    """Event files in RUN/tensorboard."""

    def __init__(self) -> None:
        self.library = _imported("torch.utils.tensorboard", "tensorboard")

    def begin(self, log: RunLog) -> None:
        folder = log.run / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        self.events = self.library.SummaryWriter(str(folder))
        for line in log.steps():
            self.follow(line)

    def follow(self, metrics: dict[str, Any]) -> None:
        for name, value in _numbers(metrics).items():
            self.events.add_scalar(name, value, metrics["step"])
        self.events.flush()

    def end(self) -> dict[str, Any]:
        self.events.close()
        return {}


class Trackio:
    """A run of project `fovea` in trackio's database on this machine, named after the folder of the run."""

    def __init__(self) -> None:
        self.library = _imported("trackio", "trackio")

    def begin(self, log: RunLog) -> None:
        name, known = run_name(log.run), log.steps()
        with contextlib.redirect_stdout(sys.stderr):  # it greets on stdout, where programs read
            if known:
                self._forget(name)
            settings = {"config": log.read()["recipe"], "embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
            self.run = self.library.init(project=PROJECT, name=name, **settings)
        for line in known:
            self.follow(line)

    def _forget(self, name: str) -> None:
        try:
            runs = list(self.library.Api().runs(PROJECT))
        except ValueError:  # no such project: the run had no mirror before
            return
        for one in runs:
            if one.name == name:
                one.delete()

    def follow(self, metrics: dict[str, Any]) -> None:
        self.run.log(_numbers(metrics), step=metrics["step"])

    def end(self) -> dict[str, Any]:
        with contextlib.redirect_stdout(sys.stderr):
            self.library.finish()  # and not once more when the process ends
        return {}


WRITERS = {"tensorboard": TensorBoard, "trackio": Trackio}


def run_name(run: Path) -> str:
    """The folder's name and a mark of its whole path: many a run is called `run`."""
    path = run.resolve()
    return f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _imported(module: str, extra: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{extra} is not installed", where=f"--writer {extra}", fix=f"pip install 'fovea[{extra}]'"
        ) from error
