"""What a confidence is worth: whether it says how often it is right, and whether it tells right from wrong.

Outcomes are (image, confidence in [0, 1], whether it was right). All sums are exact, so that no order of outcomes
changes a digit. Nothing here knows boxes; it makes no expert better calibrated.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.admission import float32
from pipeline.core.intervals import Share, error_of_sum, share

BINS = 10  # of equal width


@dataclass(frozen=True, slots=True)
class Outcome:
    image_id: str
    confidence: float
    is_true: bool

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"a confidence lies in [0, 1], not at {self.confidence}")


@dataclass(frozen=True, slots=True)
class Bin:
    """Outcomes with a confidence in [low, high), the last bin up to 1; `share` of them are right."""

    low: float
    high: float
    n: int
    confidence: float  # mean
    share: Share


@dataclass(frozen=True, slots=True)
class Calibration:
    """`auroc` is None unless some are right and some wrong; a mean is None of nothing."""

    n: int
    n_true: int
    confidence_true: float | None  # means
    confidence_false: float | None
    ece: float
    brier: float
    auroc: float | None
    bins: tuple[Bin, ...]  # those with an outcome


def calibration(outcomes: Sequence[Outcome]) -> Calibration | None:
    """All measures of some outcomes; None for none."""
    if not outcomes:
        return None
    right = [one.confidence for one in outcomes if one.is_true]
    wrong = [one.confidence for one in outcomes if not one.is_true]
    bins = reliability(outcomes)
    return Calibration(
        n=len(outcomes),
        n_true=len(right),
        confidence_true=mean(right),
        confidence_false=mean(wrong),
        ece=ece(bins),
        brier=brier(outcomes),
        auroc=auroc(right, wrong),
        bins=bins,
    )


def reliability(outcomes: Sequence[Outcome], n_bins: int = BINS) -> tuple[Bin, ...]:
    """The curve: bins of equal width that hold an outcome, lowest first.

    An edge belongs to the bin above, as a float32 too: 0.7 is stored as 0.69999999, and who says tenths would else
    have 0.6 and 0.7 in one bin, where their errors cancel.
    """
    edges = [min(number / n_bins, float32(number / n_bins)) for number in range(n_bins)]
    held: dict[int, list[Outcome]] = {}
    for one in outcomes:
        held.setdefault(bisect_right(edges, one.confidence) - 1, []).append(one)
    return tuple(_bin(number, n_bins, held[number]) for number in sorted(held))


def _bin(number: int, n_bins: int, held: Sequence[Outcome]) -> Bin:
    right = share((one.image_id, float(one.is_true), 1) for one in held)
    assert right is not None  # there is an outcome in it
    confidence = math.fsum(one.confidence for one in held) / len(held)
    return Bin(number / n_bins, (number + 1) / n_bins, len(held), confidence, right)


def ece(bins: Sequence[Bin]) -> float:
    """Expected calibration error: Σ n_b / n · |share right − mean confidence| (Naeini 2015, Guo 2017), in [0, 1]."""
    n = sum(one.n for one in bins)
    return math.fsum(one.n * abs(one.share.value - one.confidence) for one in bins) / n


def brier(outcomes: Sequence[Outcome]) -> float:
    """Mean of (confidence − right)² (Brier 1950), in [0, 1]."""
    return math.fsum((one.confidence - one.is_true) ** 2 for one in outcomes) / len(outcomes)


def auroc(right: Sequence[float], wrong: Sequence[float]) -> float | None:
    """How often a right one is surer than a wrong one, ties half (Mann & Whitney 1947); None without both."""
    if not right or not wrong:
        return None
    ordered = sorted(wrong)
    twice = sum(bisect_left(ordered, one) + bisect_right(ordered, one) for one in right)
    return twice / (2 * len(right) * len(wrong))


def auroc_gain_se(before: Sequence[Outcome], after: Sequence[Outcome]) -> float | None:
    """Standard error of AUROC of `after` less that of `before`, the same things by two confidences; None if unknown.

    From the placements (DeLong et al. 1988), summed over what lies on one image (Obuchowski 1997).
    """
    changes = [new - old for new, old in zip(placements(after), placements(before), strict=True)]
    rests: dict[str, list[float]] = {one.image_id: [] for one in before}
    for is_true in (True, False):
        kind = [(one.image_id, change) for one, change in zip(before, changes, strict=True) if one.is_true is is_true]
        centre = mean([change for _, change in kind]) or 0.0
        for image_id, change in kind:
            rests[image_id].append((change - centre) / len(kind))
    return error_of_sum([math.fsum(each) for each in rests.values()])


def placements(outcomes: Sequence[Outcome]) -> list[float]:
    """Of each outcome, the share of those of the other kind that it is on the right side of, ties half; 0 of none.

    The mean over the right ones is AUROC, and so is that over the wrong ones.
    """
    kinds = [sorted(one.confidence for one in outcomes if one.is_true is is_true) for is_true in (False, True)]
    found = []
    for one in outcomes:
        others = kinds[not one.is_true]
        twice = bisect_left(others, one.confidence) + bisect_right(others, one.confidence)
        below = twice / (2 * len(others)) if others else 0.0
        found.append(below if one.is_true or not others else 1 - below)
    return found


def mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
