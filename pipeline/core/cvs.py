"""Confidence Value Sampler: which region to look at next, the best one or one drawn from a nucleus.

It acts on each choice of a region, before the drill, and knows nothing of boxes, steps or experts. What was
chosen from, and how probable it was, is part of the choice, so that a stored row can be checked by itself.
(MedEyes, arXiv:2511.22018; the released code never reaches its nucleus.)
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from schemas.records import Rule
from schemas.seeds import uniform

CROSSINGS = ("exclude", "include")
GUARD = 1e-9  # float sums overshoot 1.0 by an ulp and would drop the last region at p₀ = 1


@dataclass(frozen=True, slots=True)
class SamplerConfig:
    """How many expert paths to keep per question, and how daring they are.

    [P] the paper, [C] only the released configuration, [D] ours where both are silent.
    """

    variants: int = 6  # N_expert [P]
    mass: float = 0.9  # p₀ [P]
    temperature: float = 0.2  # τ [D]; at 1 confidences .9/.7/.5/.3/.1 become almost uniform
    crossing: str = "exclude"  # [P: Σ P ≤ p₀, D: at least the top one]; "include" is the usual top-p set
    redraws: int = 4  # [D]; a variant that repeats another is drawn again at most so often, then left out

    def __post_init__(self) -> None:
        if self.variants < 0 or self.redraws < 0:
            raise ValueError(f"variants and redraws must not be negative, got {self.variants} and {self.redraws}")
        if not 0 < self.mass <= 1:
            raise ValueError(f"mass must be in (0, 1], got {self.mass}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive and finite, got {self.temperature}")
        if self.crossing not in CROSSINGS:
            raise ValueError(f"crossing must be one of {CROSSINGS}, got {self.crossing!r}")


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen region and all that it was chosen from."""

    region: int
    candidates: tuple[int, ...]  # ids, ascending
    confidences: tuple[float, ...]  # of the candidates, in their order
    nucleus: tuple[int, ...]  # ids, most probable first
    probability: float  # of the chosen one under the softmax over all candidates, before truncation
    rank: int  # of the chosen one, 0 = most probable


Choose = Callable[[tuple[int, ...], tuple[float, ...], int], Choice]
"""(candidates, their confidences, number of choices made before in this trajectory) → Choice; candidates not empty."""


def softmax(confidences: Sequence[float], temperature: float) -> list[float]:
    """P_i ∝ exp(c_i / τ), shifted by the maximum so that no τ overflows."""
    top = max(confidences)
    weights = [math.exp((confidence - top) / temperature) for confidence in confidences]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def nucleus(probabilities: Sequence[float], mass: float, crossing: str = "exclude") -> tuple[int, ...]:
    """Indices of the nucleus, most probable first (equal ones by index): never empty, everything at mass 1.

    "exclude" keeps the longest prefix with Σ P ≤ p₀, but at least the top one; "include" adds the one that
    crosses p₀ unless p₀ is reached exactly.
    """
    order = sorted(range(len(probabilities)), key=lambda index: -probabilities[index])
    kept, total = 0, 0.0
    while kept < len(order) and total + probabilities[order[kept]] <= mass + GUARD:
        total += probabilities[order[kept]]
        kept += 1
    if crossing == "include" and total < mass - GUARD:
        kept += 1
    return tuple(order[: max(1, kept)])


def greedy(rule: Rule) -> Choose:
    """Variant 0: the highest confidence, of equals the lowest id; the nucleus is recorded, not used."""
    return lambda candidates, confidences, _: _choice(candidates, confidences, _ranking(confidences, rule), 0)


def sampled(rule: Rule, seed: int, question_id: str, variant: int, redraw: int) -> Choose:
    """Variants 1…N: one draw from the renormalised nucleus, keyed by what is drawn."""

    def choose(candidates: tuple[int, ...], confidences: tuple[float, ...], n_before: int) -> Choice:
        ranking = _ranking(confidences, rule)
        if len(ranking.totals) == 1:  # whatever is drawn
            return _choice(candidates, confidences, ranking, 0)
        draw = uniform("cvs", seed, question_id, variant, redraw, n_before)
        return _choice(candidates, confidences, ranking, _drawn(ranking.totals, draw))

    return choose


class _Ranking(NamedTuple):
    """Candidates by rank, 0 = most probable; none of it depends on a draw."""

    order: tuple[int, ...]  # indices of the candidates
    probabilities: tuple[float, ...]
    totals: tuple[float, ...]  # probabilities of the nucleus, summed up


@lru_cache(maxsize=256)
def _ranking(confidences: tuple[float, ...], rule: Rule) -> _Ranking:
    """Remembered, since all variants of a search begin with the same choice."""
    order = sorted(range(len(confidences)), key=lambda index: -confidences[index])
    probabilities = softmax([confidences[index] for index in order], rule.temperature)
    kept = nucleus(probabilities, rule.mass, rule.crossing)
    totals = accumulate(probabilities[index] for index in kept)
    return _Ranking(tuple(order), tuple(probabilities), tuple(totals))


def _choice(candidates: tuple[int, ...], confidences: tuple[float, ...], ranking: _Ranking, rank: int) -> Choice:
    ids = tuple([candidates[index] for index in ranking.order])
    return Choice(ids[rank], candidates, confidences, ids[: len(ranking.totals)], ranking.probabilities[rank], rank)


def _drawn(totals: Sequence[float], draw: float) -> int:
    """The first index whose cumulated weight exceeds `draw` in [0, 1) times their sum; a draw of 0 is the first."""
    return min(bisect_right(totals, draw * totals[-1]), len(totals) - 1)
