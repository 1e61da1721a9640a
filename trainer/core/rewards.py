"""The MedEyes reward: accuracy, grammar and diversity of looks, weighed 0.7 / 0.2 / 0.1.

Takes two verdicts (the answer judge's and the strict parser's) and the executed looks; it
judges no answer and parses no text itself. Only diversity is partial credit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from schemas.boxes import Box, iou

Look = tuple[int, Box]  # which of the question's images, and the box on it


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """What is paid for. [P] paper, [C] released configuration only, [D] ours (MedEyes, arXiv:2511.22018)."""

    weight_accuracy: float = 0.7  # λ_acc [P]
    weight_grammar: float = 0.2  # λ_grammar [P]
    weight_diversity: float = 0.1  # λ_div [P]
    iou_max: float = 0.5  # two boxes below it are different regions; symbol [P], value [C]
    looks_max: int = 4  # T_max: this many unique regions earn the full count term; value [P], use as a bound [D]
    gate_diversity: bool = False  # pay diversity only for right answers, against "look everywhere" [D, after MedVR]

    def __post_init__(self) -> None:
        weights = (self.weight_accuracy, self.weight_grammar, self.weight_diversity)
        if not all(0 <= weight < math.inf for weight in weights) or sum(weights) == 0:
            raise ValueError(f"reward weights must be finite, not negative and not all 0, got {weights}")
        if not 0 < self.iou_max <= 1:
            raise ValueError(f"iou_max must be in (0, 1], got {self.iou_max}")
        if self.looks_max < 1:
            raise ValueError(f"looks_max must be at least 1, got {self.looks_max}")


@dataclass(frozen=True, slots=True)
class Reward:
    """One trajectory's total and its three unweighted components, each logged by itself.

    `diversity` is the measured value even where `gate_diversity` keeps it out of the total.
    An unscorable answer has NaN accuracy and NaN total; the other two stay known.
    """

    total: float
    accuracy: float  # 0, 1 or NaN
    grammar: float  # 0 or 1
    diversity: float  # in [0, 1]


def overlap(look: Look, other: Look) -> float:
    """IoU of two looks; those on different images have nothing in common."""
    return iou(look[1], other[1]) if look[0] == other[0] else 0.0


def n_unique(looks: Sequence[Look], iou_max: float) -> int:
    """Greedy count in order of looking: a look is new when its IoU with every look kept so far is < `iou_max`."""
    kept: list[Look] = []
    for look in looks:
        if all(overlap(look, other) < iou_max for other in kept):
            kept.append(look)
    return len(kept)


def diversity(looks: Sequence[Look], config: RewardConfig) -> float:
    """r_div = ½·min(n_unique, T_max)/T_max + ½·(share of pairs with IoU < iou_max), in [0, 1].

    The pair term is 0 for fewer than two looks. Both terms are the paper's, the bounding is ours.
    """
    count_term = min(n_unique(looks, config.iou_max), config.looks_max) / config.looks_max
    pairs = list(combinations(looks, 2))
    pair_term = sum(overlap(a, b) < config.iou_max for a, b in pairs) / len(pairs) if pairs else 0.0
    return 0.5 * count_term + 0.5 * pair_term


def reward(is_correct: bool | None, is_grammatical: bool, looks: Sequence[Look], config: RewardConfig) -> Reward:
    """R = 0.7·r_acc + 0.2·r_grammar + 0.1·r_div.

    `is_correct` is None when nobody can judge the answer: the total is then NaN, which
    `advantages` leaves out of every statistic and gives advantage 0.
    """
    accuracy = math.nan if is_correct is None else float(is_correct)
    grammar, looked = float(is_grammatical), diversity(looks, config)
    paid = looked * accuracy if config.gate_diversity else looked
    terms = (config.weight_accuracy * accuracy, config.weight_grammar * grammar, config.weight_diversity * paid)
    return Reward(math.fsum(terms), accuracy, grammar, looked)  # fsum: 0.7 + 0.2 + 0.1 is 1, not 1 − 1 ulp
