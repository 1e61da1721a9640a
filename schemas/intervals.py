"""A mean score and its 95 % interval: Wilson's where every value is 0 or 1, a bootstrap where answers are graded."""

import math
from collections.abc import Sequence

import numpy as np

from schemas.seeds import digest_int

RESAMPLES = 2_000
Z_95 = 1.959963984540054  # the standard normal's 97.5 % quantile


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def interval(values: Sequence[bool | float], *key: object) -> tuple[float, float] | None:
    """95 % interval of the mean: Wilson's where every value is 0 or 1, else a bootstrap; None for no values.

    The percentile bootstrap has 2,000 resamples, named by `key`. It has no width where all values are equal, so of
    verdicts it would call 0 of 5 certain.
    """
    if not values:
        return None
    if all(value in (0, 1) for value in values):
        return wilson(sum(map(int, values)) / len(values), len(values))
    known = np.asarray(values, dtype=np.float64)
    drawn = np.random.Generator(np.random.Philox(digest_int("interval", *key)))
    means = known[drawn.integers(0, len(known), size=(RESAMPLES, len(known)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def wilson(p: float, n: float) -> tuple[float, float]:
    """Wilson's score interval (JASA 1927): (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n), at 95 %.

    Of `n` independent trials, which may be a fraction.
    """
    z2_n = Z_95**2 / n
    middle, half = p + z2_n / 2, Z_95 * math.sqrt((p * (1 - p) + z2_n / 4) / n)
    low, high = (middle - half) / (1 + z2_n), (middle + half) / (1 + z2_n)
    return 0.0 if p == 0 else low, 1.0 if p == 1 else high
