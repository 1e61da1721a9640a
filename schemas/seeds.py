"""Randomness named by what is sampled, never by when, where or in which batch.

A draw is a pure function of its key, so one worker or fifty, a killed run or a whole one,
and any batch composition give the same numbers.
"""

import hashlib

_UNIT = 1.0 / (1 << 53)


def digest_int(*key: object) -> int:
    """64 bits of BLAKE2b over the parts of `key`, each written with its length so that no two keys run together."""
    text = "".join([f"{len(part)}:{part}" for part in map(str, key)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def uniform(*key: object) -> float:
    """One draw in [0, 1) with 53 random bits, e.g. ``uniform(seed, step, question_id, rollout, fork, token)``."""
    return (digest_int(*key) >> 11) * _UNIT


def shuffled(items: list, *key: object) -> list:
    """`items` in a random order fixed by `key` (sorted by one draw each; ties cannot matter at 53 bits)."""
    order = sorted(range(len(items)), key=lambda index: uniform(*key, index))
    return [items[index] for index in order]
