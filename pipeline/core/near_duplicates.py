"""All pairs of pictures whose hashes nearly agree, as they are or mirrored, inverted, without border.

Every pair is compared, a block at a time, so that memory does not grow with the pictures and nothing is missed.
What a near copy is, only a person can say: `certain` had no false pair among 49,455 of VQA-RAD, `review` had a few.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.records import Hashes

PDQ_CERTAIN, PDQ_REVIEW, PHASH_REVIEW = 31, 70, 8  # bits of 256 and of 64 that may differ
PDQ_BITS, PHASH_BITS = 256, 64
TIERS = ("certain", "review")
SHAPES = ("plain", "trimmed", "mirror")
PLAIN, TRIMMED, MIRROR = range(3)
BLOCK = 512  # pictures

Words = NDArray[np.uint64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Prints:
    """Hashes of `n` pictures, one row per hash: which picture, which shape, four words of PDQ and one of pHash."""

    n: int
    picture: Numbers
    shape: Numbers
    pdq: Words
    phash: Words

    def between(self, first: int, last: int) -> "Prints":
        """Those of pictures first … last - 1."""
        begin, end = np.searchsorted(self.picture, (first, last))
        return self.where(slice(begin, end))

    def where(self, rows: slice | NDArray[np.bool_]) -> "Prints":
        return Prints(self.n, self.picture[rows], self.shape[rows], self.pdq[rows], self.phash[rows])


@dataclass(frozen=True, slots=True)
class Pairs:
    """Near pairs, first < second, each once in its best form; `form` indexes `FORMS`, `tier` indexes `TIERS`."""

    first: Numbers
    second: Numbers
    tier: Numbers
    form: Numbers
    pdq_distance: Numbers
    phash_distance: Numbers


FORMS = (
    tuple(  # shape of one, shape of the other, inverted or not; a copy with more changes is found as the last of them
        "; ".join(filter(None, (" and ".join(sorted({one, other} - {"plain"})), "inverse" * inverse))) or "as is"
        for one in SHAPES
        for other in SHAPES
        for inverse in (0, 1)
    )
)


def prints(hashes: Sequence[Hashes]) -> Prints:
    """Rows for all hashes there are; a trimmed picture that equals the whole one has no row of its own."""
    rows = []
    for picture, one in enumerate(hashes):
        found = [(PLAIN, one.pdq, one.phash), (TRIMMED, one.pdq_trimmed, one.phash_trimmed)]
        rows += [
            (picture, shape, pdq, phash)
            for shape, pdq, phash in (*dict.fromkeys(found), (MIRROR, one.pdq_mirror, one.phash_mirror))
            if pdq is not None and phash is not None and (shape != TRIMMED or (pdq, phash) != found[0][1:])
        ]
    picture, shape, pdq, phash = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Prints(
        len(hashes),
        np.array(picture, np.int64),
        np.array(shape, np.int64),
        _words("".join(pdq)).reshape(-1, 4),
        _words("".join(phash)),
    )


def _words(digits: str) -> Words:
    return np.frombuffer(bytes.fromhex(digits), ">u8").astype(np.uint64)


def near_pairs(all_: Prints, block: int = BLOCK) -> Iterator[Pairs]:
    """Every near pair once, in runs: blocks of `block` pictures against themselves and all later ones."""
    for start in range(0, all_.n, block):
        one = all_.between(start, start + block)
        for later in range(start, all_.n, block):
            found = _block_pairs(one, all_.between(later, later + block))
            if len(found.first):
                yield found


def _block_pairs(one: Prints, other: Prints) -> Pairs:
    """Of one mirrored and one not, either may be the mirrored one; of two mirrored, nothing new is learnt."""
    upright, mirrored = one.where(one.shape != MIRROR), one.where(one.shape == MIRROR)
    hits = np.concatenate([_hits(upright, other), _hits(mirrored, other.where(other.shape != MIRROR))], axis=1)
    first, second, form, pdq, phash = hits[:, hits[0] < hits[1]]
    tier = (pdq > PDQ_CERTAIN).astype(np.int64)
    order = np.lexsort((form, phash, pdq, tier, second, first))
    best = order[_is_new(first[order], second[order])]
    return Pairs(first[best], second[best], tier[best], form[best], pdq[best], phash[best])


def _is_new(first: Numbers, second: Numbers) -> NDArray[np.bool_]:
    """Whether a pair differs from the one before it."""
    return np.concatenate([np.ones(min(1, len(first)), bool), (np.diff(first) != 0) | (np.diff(second) != 0)])


def _hits(one: Prints, other: Prints) -> Numbers:
    """Rows first, second, form, PDQ and pHash distance of all rows that are near; an inverse has the other bits."""
    pdq = sum((_distances(one.pdq[:, word], other.pdq[:, word]) for word in range(4)), np.uint16(0))
    phash = _distances(one.phash, other.phash)
    is_pdq = (pdq <= PDQ_REVIEW) | (pdq >= PDQ_BITS - PDQ_REVIEW)
    row, column = np.nonzero(is_pdq | (phash <= PHASH_REVIEW) | (phash >= PHASH_BITS - PHASH_REVIEW))
    pdq_bits, phash_bits = pdq[row, column].astype(np.int64), phash[row, column].astype(np.int64)
    is_inverse = np.where(is_pdq[row, column], pdq_bits > PDQ_BITS / 2, phash_bits > PHASH_BITS / 2)
    form = (one.shape[row] * len(SHAPES) + other.shape[column]) * 2 + is_inverse
    near = (
        np.where(is_inverse, total - bits, bits) for total, bits in ((PDQ_BITS, pdq_bits), (PHASH_BITS, phash_bits))
    )
    return np.stack([one.picture[row], other.picture[column], form, *near])


def _distances(one: Words, other: Words) -> NDArray[np.uint16]:
    return np.bitwise_count(one[:, None] ^ other).astype(np.uint16)
