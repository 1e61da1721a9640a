"""Rollouts: prompts are run once, forked, decoded, extended by what the environment shows, and rewound.

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
    """What one row wrote in one `decode`: ids with their log-probabilities and entropies, in nats.

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


class RolloutEngine(Protocol):
    """Weights must not change between `prefill` and the last `decode` of its rows."""

    def prefill(self, prompts: Sequence[TokenRow]) -> list[int]:
        """One row per prompt; equal prompts are run once."""

    def fork(self, handle: int, n: int) -> list[int]:
        """`n` new rows with the past of `handle`, which stays as it is."""

    def decode(
        self, handles: Sequence[int], stop_ids: Sequence[int], max_tokens: int | Sequence[int], keys: Sequence[Key]
    ) -> list[Turn]:
        """Lets every row write until a stop id, which it keeps, or until its budget is spent.

        Token number n of a row is drawn with ``uniform(*key, n)``, n counted from the row's first
        token: a rewound row draws anew only under another key.
        """

    def extend(self, handles: Sequence[int], observations: Sequence[Observation]) -> None:
        """Appends one observation to each row."""

    def rewind(self, handle: int, n_tokens: int) -> None:
        """Forgets the row's last `n_tokens` tokens."""

    def row(self, handle: int) -> TokenRow:
        """All that the row holds by now, its written tokens marked."""

    def drop(self, handles: Sequence[int]) -> None:
        """Frees rows; their handles are never used again."""
