"""Rollouts: prompts are run once, forked, written on, extended by what the environment shows, and rewound.

A row is named by an integer handle. Token ids go in and come out; an engine never tokenises,
never parses an action and never crops. Sampling noise is named by a key, never by a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from trainer.sequences import EncodedImage, TokenRow

Key = tuple[object, ...]  # what is sampled, e.g. (seed, step, question_id, rollout, fork)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one row wrote after one `write`: ids with their log-probabilities and entropies, in nats.

    Both are those of the distribution that was sampled from: full vocabulary, banned ids removed,
    at the sampling temperature. `is_stopped` is False when the budget ended the turn.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    is_stopped: bool


@dataclass(frozen=True, slots=True)
class Observation:
    """Tokens the environment appends, with the images of their placeholder runs; they carry no loss."""

    ids: tuple[int, ...]
    images: tuple[EncodedImage, ...] = ()


@dataclass(slots=True)
class Forwarded:
    """Tokens that went through the decoder, by what they are, and image tokens that went through the vision tower."""

    prompt: int = 0
    observed: int = 0
    written: int = 0
    encoded: int = 0


class RolloutEngine(Protocol):
    """Weights must not change between `prefill` and the last turn of its rows.

    Rows that write are one batch, which others join as soon as a row leaves it: what a row writes depends on its past
    and its key alone, when it writes on the rest.
    """

    forwarded: Forwarded

    def prefill(self, prompts: Sequence[TokenRow]) -> list[int]:
        """One row per prompt; equal prompts are run once."""

    def fork(self, handle: int, n: int) -> list[int]:
        """`n` new rows with the past of `handle`, which stays as it is."""

    def write(self, handles: Sequence[int], keys: Sequence[Key], max_tokens: int | Sequence[int]) -> None:
        """Asks each row for a turn: until a stop id, which it keeps, or until its budget is spent.

        Token number n of a row is drawn with ``uniform(*key, n)``, n counted from the row's first
        token: a rewound row draws anew only under another key.
        """

    def finished(self) -> list[tuple[int, Turn]]:
        """Writes on until some turns are over, and these; empty when no row has been asked for one."""

    @property
    def has_room(self) -> bool:
        """Whether more rows would write at once if they were asked now."""

    def extend(self, handles: Sequence[int], observations: Sequence[Observation]) -> None:
        """Appends one observation to each row."""

    def rewind(self, handle: int, n_tokens: int) -> None:
        """Forgets the row's last `n_tokens` tokens."""

    def row(self, handle: int) -> TokenRow:
        """All that the row holds by now, its written tokens marked."""

    def drop(self, handles: Sequence[int]) -> None:
        """Frees rows; their handles are never used again."""
