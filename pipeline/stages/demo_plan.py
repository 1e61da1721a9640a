"""What the demo runs, in which sizes, and how it knows that a step is done: a list of commands; nothing is run here.

A step is done when its product is there, whoever made it: the slice in the store, the last checkpoint of the run, an
audit and evaluations that can be read.
"""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.reader import Store

SOURCE = "phantom"
EXPERT = "annotations"
QUESTIONS_SLICE = f"ingest/{SOURCE}/default"
SEARCHED_SLICE = f"trajectories/{SOURCE}/{EXPERT}"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Every number of the demo. `settings` override the recipe beyond the two lengths."""

    form: str
    n_train: int
    n_test: int
    warm_steps: int
    grpo_steps: int
    save_every: int
    n_evaluated: int | None = None  # test questions asked; None for all
    level: str = "L0"
    looks_max: int = 2
    view_px: int = 112  # side of the image as the policy sees it
    recipe: str = "tiny"
    temperature: float = 0.7  # of the evaluation, that of the recipe's rollouts: what GRPO improves
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return self.warm_steps + self.grpo_steps

    def plain(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"settings": dict(self.settings)}


FULL = Sizes("full", n_train=3000, n_test=400, warm_steps=550, grpo_steps=120, save_every=67)
SHORT = Sizes("short", n_train=300, n_test=40, warm_steps=100, grpo_steps=6, save_every=53, n_evaluated=40)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One of the three policies that are compared."""

    name: str  # of the evaluation's file
    label: str  # for people
    step: int


@dataclass(frozen=True, slots=True)
class Demo:
    """One folder with everything that a demo makes."""

    out: Path
    sizes: Sizes
    workers: int = 2

    @property
    def store(self) -> Path:
        return self.out / "store"

    @property
    def run(self) -> Path:
        return self.out / "run"

    @property
    def audit(self) -> Path:
        return self.out / "audit.json"

    @property
    def page(self) -> Path:
        return self.out / "report.html"

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        return (
            Checkpoint("untrained", "untrained", 0),
            Checkpoint("warm", "warm start", self.sizes.warm_steps),
            Checkpoint("trained", "trained", self.sizes.steps),
        )

    def evaluation(self, name: str) -> Path:
        return self.out / f"evaluation-{name}.json"


@dataclass(frozen=True, slots=True)
class Step:
    """One `fovea` command; what it prints on stdout is kept in `json_to`, where there is such a file."""

    name: str
    arguments: tuple[str, ...]
    is_done: Callable[[], bool]
    json_to: Path | None = None

    @property
    def command(self) -> str:
        """As a person would type it."""
        return shlex.join(("fovea", *self.arguments))


def steps(demo: Demo) -> list[Step]:
    """All commands in order."""
    return [
        _ingest(demo),
        _search(demo),
        _audit(demo),
        _train(demo),
        *(_evaluate(demo, checkpoint) for checkpoint in demo.checkpoints),
    ]


def _ingest(demo: Demo) -> Step:
    sizes = demo.sizes
    options = {
        "--store": demo.store,
        "--level": sizes.level,
        "--train": sizes.n_train,
        "--validation": 0,
        "--test": sizes.n_test,
        "--workers": demo.workers,
    }
    return Step("ingest", ("ingest", SOURCE, *_spelled(options)), lambda: _has_slice(demo, QUESTIONS_SLICE))


def _search(demo: Demo) -> Step:
    options = {
        "--store": demo.store,
        "--source": SOURCE,
        "--expert": EXPERT,
        "--looks-max": demo.sizes.looks_max,
        "--workers": demo.workers,
    }
    arguments = ("build-trajectories", *_spelled(options))
    return Step("build trajectories", arguments, lambda: _has_slice(demo, SEARCHED_SLICE))


def _audit(demo: Demo) -> Step:
    arguments = ("audit", "--store", str(demo.store), "--json")
    return Step("audit", arguments, lambda: (_read(demo.audit) or {}).get("problems") == [], demo.audit)


def _train(demo: Demo) -> Step:
    sizes = demo.sizes
    options = {"--store": demo.store, "--recipe": sizes.recipe, "--out": demo.run}
    settings = {
        "warm.steps": sizes.warm_steps,
        "run.steps": sizes.grpo_steps,
        "run.save_every": sizes.save_every,
        **sizes.settings,
    }
    overrides = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    last = demo.run / "checkpoints" / f"step-{sizes.steps:06d}" / "state.json"
    resume = ("--resume",) if (demo.run / "run.json").exists() and not last.exists() else ()
    return Step("train", ("train", *_spelled(options), *overrides, *resume), last.exists)


def _evaluate(demo: Demo, checkpoint: Checkpoint) -> Step:
    path = demo.evaluation(checkpoint.name)
    options = {"--run": demo.run, "--store": demo.store, "--split": "test", "--checkpoint": checkpoint.step}
    options["--temperature"] = demo.sizes.temperature
    if demo.sizes.n_evaluated is not None:
        options["--limit"] = demo.sizes.n_evaluated
    arguments = ("evaluate", *_spelled(options), "--out", str(path))
    wanted = f"step-{checkpoint.step:06d}"
    return Step(f"evaluate {checkpoint.label}", arguments, lambda: (_read(path) or {}).get("checkpoint") == wanted)


def _spelled(options: Mapping[str, object]) -> list[str]:
    return [part for name, value in options.items() for part in (name, str(value))]


def _has_slice(demo: Demo, key: str) -> bool:
    return key in Store(demo.store).head().slices


def _read(path: Path) -> Any:
    """The JSON object in a file, None when there is none: a file that a kill has torn is made again."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
