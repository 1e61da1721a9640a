"""Shares with an interval that knows that what lies on one image is not independent.

Counts come in clusters (image, hits, of how many). A share is the ratio of the sums, its standard error the linearised
one over clusters, its interval Wilson's with the sample size that the clusters are worth, smaller where they are too
few to show how much they differ. It draws no random numbers, and nothing here knows what was counted.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from schemas.intervals import Z_95, wilson

T_95 = (12.706205, 4.302653, 3.182446, 2.776445, 2.570582)  # Student's, for 1 to 5 degrees of freedom
NO_SPREAD = 1e-12  # less is rounding
Count = tuple[str, float, int]  # cluster, hits, of how many
Pair = tuple[str, float, float, int]  # cluster, hits of one, hits of the other, of how many


@dataclass(frozen=True, slots=True)
class Share:
    """`n` things on `n_clusters` images; `se` is None where there is one image only."""

    value: float
    low: float
    high: float
    se: float | None
    n: int
    n_clusters: int


def share(counts: Iterable[Count]) -> Share | None:
    """p = Σ hits / Σ n and its 95 % interval; None where there is nothing to count."""
    clusters = _clusters((name, hits, 0.0, n) for name, hits, n in counts)
    n = sum(cluster[2] for cluster in clusters)
    if not n:
        return None
    p = math.fsum(hits for hits, _, _ in clusters) / n
    low, high = wilson(p, _worth(clusters, p, n))
    return Share(p, low, high, _se([hits - p * m for hits, _, m in clusters], n), n, len(clusters))


def gain(pairs: Iterable[Pair]) -> tuple[float, float | None] | None:
    """How much larger the first share is than the second, of the same things, and the standard error of that.

    Without an error where the gain is the same on every image: that is no spread to judge by, and not certainty.
    """
    clusters = _clusters(pairs)
    n = sum(cluster[2] for cluster in clusters)
    if not n:
        return None
    rests = [(hits - other, m) for hits, other, m in clusters]
    value = math.fsum(rest for rest, _ in rests) / n
    return value, error_of_sum([(rest - value * m) / n for rest, m in rests])


def t_95(df: int) -> float:
    """Student's 97.5 % quantile, to 0.002 (Abramowitz & Stegun 26.7.5)."""
    if df <= len(T_95):
        return T_95[df - 1]
    z = Z_95
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / df + second / df**2 + third / df**3


def _worth(clusters: list[tuple[float, float, int]], p: float, n: int) -> float:
    """n / deff · (t(n − 1) / t(k − 1))² (Korn & Graubard 1998), deff = v / v₀ ≥ 1 (Kish 1965), t the 97.5 % quantile.

    v = k / (k − 1) · Σ (hits − p·m)² / n² over the k clusters, v₀ = p (1 − p) / (n − 1). Clusters of one are worth all
    of n. Where all agree, or there is one cluster only, nothing can be said of the spread: then a cluster is worth one.
    """
    if not 0 < p < 1 or len(clusters) < 2:
        return len(clusters)
    se = _se([hits - p * m for hits, _, m in clusters], n) or 0.0
    deff = max(1.0, se**2 * (n - 1) / (p * (1 - p)))
    return n / deff * (t_95(n - 1) / t_95(len(clusters) - 1)) ** 2


def error_of_sum(rests: list[float]) -> float | None:
    """√(k / (k − 1) · Σ rest²) of k clusters' parts of a mean or a difference; None for one, or without spread."""
    error = _se(rests, 1)
    return None if error is None or error < NO_SPREAD else error


def _se(rests: list[float], n: int) -> float | None:
    k = len(rests)
    return math.sqrt(k / (k - 1) * math.fsum(rest**2 for rest in rests)) / n if k > 1 else None


def _clusters(pairs: Iterable[Pair]) -> list[tuple[float, float, int]]:
    """Sums by cluster, in the order of their names; clusters with nothing to count are left out."""
    found: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair[3]:
            found.setdefault(pair[0], []).append(pair)
    return [
        (math.fsum(one[1] for one in each), math.fsum(one[2] for one in each), sum(one[3] for one in each))
        for _, each in sorted(found.items())
    ]
