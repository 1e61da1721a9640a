"""Accuracy with a bootstrap interval, and the answer that somebody who never saw an image would give."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from schemas.records import Question
from schemas.seeds import digest_int

RESAMPLES = 2_000


def interval(values: Sequence[bool | float], *key: object) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of the mean over 2,000 resamples, named by `key`; None for no values."""
    if not values:
        return None
    known = np.asarray(values, dtype=np.float64)
    drawn = np.random.Generator(np.random.Philox(digest_int("interval", *key)))
    means = known[drawn.integers(0, len(known), size=(RESAMPLES, len(known)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def majority_answers(train: Sequence[Question]) -> Mapping[str, str]:
    """Most common gold answer by question text, first in the alphabet on a tie; "" holds the one over all texts."""
    counts: dict[str, Counter[str]] = {"": Counter()}
    for question in train:
        counts.setdefault(question.question, Counter())[question.answer] += 1
        counts[""][question.answer] += 1
    return {
        text: min(counter, key=lambda answer: (-counter[answer], answer)) for text, counter in counts.items() if counter
    }


def majority_guess(question: Question, majority: Mapping[str, str]) -> str:
    """What the question alone suggests: the majority answer of its wording, or of all questions for a new wording."""
    return majority.get(question.question, majority.get("", ""))
