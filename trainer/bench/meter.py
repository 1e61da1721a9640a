"""Seconds by phase, on the wall and of the CPU, and the memory that a run needs above what was built before it."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Meter:
    """`runs` holds [wall, CPU] seconds by phase, one dictionary per run. To be made when model and data are there."""

    def __init__(self, device: str) -> None:
        self.is_gpu, self.runs = device != "cpu", []
        with suppress(OSError):
            FORGET.write_text("5")  # the peak so far
        if self.is_gpu:
            torch.cuda.reset_peak_memory_stats()
        self.built_mb = torch.cuda.memory_allocated() / 2**20 if self.is_gpu else _status_mb("VmRSS")

    def start(self) -> None:
        self.runs.append({})
        self.then = self._now()

    def lap(self, phase: str) -> None:
        """Since the last call, to `phase` of the current run."""
        now, spent = self._now(), self.runs[-1].get(phase, (0.0, 0.0))
        self.runs[-1][phase] = [before + b - a for before, a, b in zip(spent, self.then, now, strict=True)]
        self.then = now

    def _now(self) -> tuple[float, float]:
        if self.is_gpu:
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def result(self, optimizer: torch.optim.Optimizer | None = None, **facts: Any) -> dict[str, Any]:
        """`above`: the peak above the built model and the optimizer's state."""
        states = optimizer.state.values() if optimizer else ()
        state = sum(one.nbytes for each in states for one in each.values() if torch.is_tensor(one)) / 2**20
        peak = torch.cuda.max_memory_allocated() / 2**20 if self.is_gpu else _status_mb("VmHWM")
        mb = {"built": self.built_mb, "state": state, "peak": peak, "above": peak - self.built_mb - state}
        return {"runs": self.runs, "mb": {name: round(value, 1) for name, value in mb.items()}, "facts": facts}


def _status_mb(name: str) -> float:
    """Of this process as Linux counts it, 0 elsewhere."""
    lines = STATUS.read_text().splitlines() if STATUS.exists() else ()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
