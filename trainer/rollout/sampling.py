"""One token per row from one uniform number per row, by inverse of the cumulative distribution.

Ten times cheaper than `multinomial` at a 152k vocabulary, and a draw depends on nothing but its
row's distribution and its own number. Banned ids have probability 0 and are never returned.
"""

from typing import NamedTuple

import torch

from trainer.head import entropy_of, masked_logits


class Drawn(NamedTuple):
    """Per row of the batch: token id, its log-probability and the entropy of the distribution, nats; all [B]."""

    ids: torch.Tensor
    logprobs: torch.Tensor
    entropies: torch.Tensor


def draw(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    banned: torch.Tensor,
    temperature: float,
    noise: torch.Tensor | None,
) -> Drawn:
    """One id per row of hidden [B, h]; `noise` [B] float64 in [0, 1), or None for the likeliest id."""
    log_probs = masked_logits(hidden, weight, banned, temperature).log_softmax(-1)
    probs = log_probs.exp()
    ids = probs.argmax(-1) if noise is None else inverse_cdf(probs, noise)
    return Drawn(ids, log_probs.gather(-1, ids[:, None])[:, 0], entropy_of(log_probs, probs))


def inverse_cdf(probs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The first id whose cumulative probability exceeds noise · total: ids [B] from probs [B, V], noise [B]."""
    batch, vocabulary = probs.shape
    assert noise.shape == (batch,)
    cumulative = probs.cumsum(-1, dtype=torch.float64)
    at = noise.to(probs.device)[:, None] * cumulative[:, -1:]  # below the total, since noise ≤ 1 − 2⁻⁵³
    ids = torch.searchsorted(cumulative, at, right=True)[:, 0].clamp_(max=vocabulary - 1)
    impossible = probs.gather(-1, ids[:, None])[:, 0] == 0  # a parallel scan on a GPU may round at a zero
    return torch.where(impossible, probs.argmax(-1), ids)
