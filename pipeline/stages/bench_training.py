"""How the training benches measure: sides as fresh processes that take turns (A B A B), medians, spread, peak memory.

This process never imports torch. A side is `python -m trainer.bench SIDE CASE`; each result is one line of `--out`,
so that a bench that was stopped goes on where it was. No time is taken of sides that fail the parity check.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from schemas.errors import FoveaError, UsageError

ROOT = Path(__file__).resolve().parents[2]  # of our packages, in a clone and when installed
SIDES = "trainer.bench"
SWEEP = -1  # the round of processes that only find the fastest setting
RATE, GRAD_NORM_MAX = 1e-5, 1.0
TRL = {
    "learning_rate": RATE,
    "max_grad_norm": GRAD_NORM_MAX,
    "lr_scheduler_type": "constant",
    "beta": 0.0,
    "bf16": False,  # the weights have their dtype already
    "gradient_checkpointing": False,
    "shuffle_dataset": False,
    "dataloader_pin_memory": False,
    "logging_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}
MODELS = {  # fields of `trainer.tiny.TinyConfig`
    "small": {
        "text_hidden": 256,
        "text_layers": 4,
        "text_mlp": 1376,
        "vision_hidden": 128,
        "vision_layers": 6,
        "vision_mlp": 256,
        "vision_full_attention": [2, 5],
        "max_pixels": 2048 * 28 * 28,
    },
    "3b": {  # Qwen2.5-VL-3B
        "vocab_size": 151_936,
        "spare_ids": 271,
        "text_hidden": 2048,
        "text_layers": 36,
        "text_heads": 16,
        "text_mlp": 11_008,
        "vision_hidden": 1280,
        "vision_layers": 32,
        "vision_heads": 16,
        "vision_mlp": 3420,
        "vision_full_attention": [7, 15, 23, 31],
        "max_pixels": 2048 * 28 * 28,
    },
}


@dataclass(frozen=True, slots=True)
class Case:
    """What is run, the same on all sides. Images are square, their sizes in tokens of 28 × 28 px.

    `trained`: all, text (a frozen tower) or lora (adapters of rank 64 in the decoder). `lengths`: even, or uneven –
    each row writes another number of tokens, up to `turn_tokens`. `first_looks`: how many differ among recorded
    rollouts, 0 all. `live`: rows that are written at once, 0 all. `is_repeated`: the same images in every step, as
    over epochs. `micro_batch`: TRL's, 0 all rows.
    """

    image_tokens: int = 256
    group: int = 8
    vocabulary: int = 640
    prompts: int = 1
    turn_tokens: int = 128
    crops: int = 0
    crop_tokens: int = 64
    first_looks: int = 0
    lengths: str = "even"
    live: int = 0
    model: str = "small"
    trained: str = "all"
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    is_repeated: bool = False
    micro_batch: int = 0
    warmup: int = 1
    repeats: int = 2
    against: str = ""  # of the parity check

    def told(self) -> dict[str, Any]:
        """What a side gets."""
        sizes = MODELS[self.model] | ({"vocab_size": self.vocabulary} if self.model == "small" else {})
        return asdict(self) | {"sizes": sizes, "rate": RATE, "grad_norm_max": GRAD_NORM_MAX, "trl": self.trl()}

    def trl(self) -> dict[str, Any]:
        """TRL's settings. The stop marker is forbidden before a turn's last token, and certain there."""
        n_rows, n_turns = self.prompts * self.group, self.crops + 1
        micro_batch = self.micro_batch or n_rows
        ends = {
            "min_new_tokens": self.turn_tokens - 1,
            "exponential_decay_length_penalty": [self.turn_tokens - 2, 1e30],
        }
        return TRL | {
            "per_device_train_batch_size": micro_batch,
            "gradient_accumulation_steps": n_rows // micro_batch,
            "num_generations": self.group,
            "max_completion_length": n_turns * (self.turn_tokens + self.crop_tokens + 64),
            "max_tool_calling_iterations": self.crops or None,
            "max_steps": self.warmup + self.repeats,
            "use_cpu": self.device == "cpu",
            "generation_kwargs": ends,
        }


@dataclass(frozen=True, slots=True)
class Side:
    name: str
    case: Case

    def key(self, round_: int) -> str:
        return json.dumps([self.name, round_, self.case.told()], sort_keys=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians over all timed runs of all processes of a side; `spread_cpu_s` is the least and the greatest.

    `above_mb` is the peak above the built model and the optimizer's state; the greatest over the processes.
    """

    seconds: float
    cpu_s: float
    spread_cpu_s: tuple[float, float]
    phases_cpu_s: dict[str, float]
    above_mb: float
    peak_mb: float
    facts: dict[str, Any]


@dataclass
class Runner:
    """Starts sides and remembers what they said, in `out` if it is given."""

    out: Path | None = None
    minutes: float = 60.0
    begun_s: float = field(default_factory=time.monotonic)
    known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.out is not None and self.out.exists():
            text = self.out.read_text("utf-8")
            whole = text[: text.rfind("\n") + 1]  # the last line of a bench that was killed may be none
            self.out.write_text(whole, "utf-8")
            self.known = {line["key"]: line["result"] for line in map(json.loads, whole.splitlines())}

    def run(self, side: Side, round_: int = 0) -> dict[str, Any]:
        key = side.key(round_)
        if key not in self.known:
            self.known[key] = self._started(side)
            if self.out is not None:
                with self.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": key, "result": self.known[key]}) + "\n")
        return self.known[key]

    def _started(self, side: Side) -> dict[str, Any]:
        left_s = 60 * self.minutes - (time.monotonic() - self.begun_s)
        late = UsageError(
            f"{self.minutes:g} minutes are over", where="--minutes", fix="the same command with the same --out goes on"
        )
        if left_s <= 0:
            raise late
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        threads = {"OMP_NUM_THREADS": str(side.case.threads)}
        line = [sys.executable, "-P", "-m", SIDES, side.name, json.dumps(side.case.told())]
        environment = os.environ | threads | {"PYTHONPATH": os.pathsep.join(paths)}
        pipes: dict[str, Any] = {"capture_output": True, "text": True, "encoding": "utf-8"}
        try:
            ran = subprocess.run(line, env=environment, timeout=left_s, check=False, **pipes)
        except subprocess.TimeoutExpired:
            raise late from None
        if ran.returncode:
            last = next((one for one in reversed(ran.stderr.splitlines()) if one.strip()), "it said nothing")
            raise FoveaError(f"exit code {ran.returncode}: {last}", where=f"side {side.name} of the bench")
        return json.loads(ran.stdout)

    def in_turns(self, sides: Sequence[Side], rounds: int, phases: Sequence[str] = ()) -> list[Measured]:
        """One figure per side: every round runs each once, in the order given; of `phases` alone if there are any."""
        results = [[self.run(side, round_) for side in sides] for round_ in range(rounds)]
        return [measured([each[at] for each in results], side.case, phases) for at, side in enumerate(sides)]

    def once(self, side: Side) -> Measured:
        """By one process, which is not counted later on: enough to choose a setting."""
        return measured([self.run(side, SWEEP)], side.case)


def measured(results: Sequence[Mapping[str, Any]], case: Case, phases: Sequence[str] = ()) -> Measured:
    runs = [run for result in results for run in result["runs"][case.warmup :]]
    named = phases or list(runs[0])
    wall_s, cpu_s = ([sum(run[name][clock] for name in named) for run in runs] for clock in range(2))
    return Measured(
        seconds=round(median(wall_s), 4),
        cpu_s=round(median(cpu_s), 4),
        spread_cpu_s=(round(min(cpu_s), 4), round(max(cpu_s), 4)),
        phases_cpu_s={name: round(median(run[name][1] for run in runs), 4) for name in named},
        above_mb=max(result["mb"]["above"] for result in results),
        peak_mb=max(result["mb"]["peak"] for result in results),
        facts=dict(results[0]["facts"]),
    )
