"""The learning rate as a pure function of the step, so that resuming needs no scheduler state.

It holds no optimizer and counts nothing: who repeats a step number gets the same rate again.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

Shape = Literal["constant", "cosine"]


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """Linear warm-up to `lr`, then constant or cosine. [P] paper, [D] ours (MedEyes, arXiv:2511.22018)."""

    lr: float = 1e-6  # peak, AdamW [P]
    shape: Shape = "constant"  # after the warm-up [D]
    warmup_steps: int = 0  # [D]; the released configuration says 500, six times its whole run of 80
    lr_min_share: float = 0.0  # cosine ends at lr_min_share · lr [D]

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be finite and positive, got {self.lr}")
        if self.shape not in get_args(Shape):
            raise ValueError(f"shape must be one of {', '.join(get_args(Shape))}, got {self.shape!r}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must not be negative, got {self.warmup_steps}")
        if not 0 <= self.lr_min_share <= 1:
            raise ValueError(f"lr_min_share must be in [0, 1], got {self.lr_min_share}")


def learning_rate(step: int, n_steps: int, config: ScheduleConfig) -> float:
    """The rate of optimizer step `step` = 0 … n_steps − 1.

    Warm-up of w steps: lr·(step + 1)/w, so the first step is not wasted on 0 and step w − 1 has the peak.
    Cosine: lr·(1 − (1 − m)·½(1 − cos π·(step − w)/(n − w))), m = lr_min_share, reached at step n_steps.
    """
    warmup = config.warmup_steps
    if step < 0:
        raise ValueError(f"step must not be negative, got {step}")
    if warmup >= n_steps:
        raise ValueError(f"warmup_steps ({warmup}) must be less than the {n_steps} steps of the run")
    if step < warmup:
        return config.lr * ((step + 1) / warmup)
    if config.shape == "constant":
        return config.lr
    progress = min(1.0, (step - warmup) / (n_steps - warmup))
    fallen = 0.5 * (1 - math.cos(math.pi * progress))
    return config.lr * (1 - (1 - config.lr_min_share) * fallen)
