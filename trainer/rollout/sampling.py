"""One token per row from one uniform number per row, by inverse of the cumulative distribution.

Far cheaper than `multinomial` at a 152k vocabulary, and a draw depends on nothing but its
row's distribution and its own number. Banned ids have probability 0 and are never returned.
"""

from typing import NamedTuple

import torch

from trainer.head import distribution, masked_logits

CHUNK_ELEMENTS = 1 << 20  # probabilities that are worked on at once: what a processor's cache holds
BLOCK = 512  # ids whose probabilities are first summed, then looked into


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
    logits = masked_logits(hidden, weight, banned, temperature)
    n_rows = max(1, CHUNK_ELEMENTS // logits.shape[1])
    noises = [None] * len(logits) if noise is None else noise.split(n_rows)
    drawn = [_drawn(*rows) for rows in zip(logits.split(n_rows), noises, strict=False)]
    return Drawn(*(torch.cat(parts) for parts in zip(*drawn, strict=True)))


def _drawn(logits: torch.Tensor, noise: torch.Tensor | None) -> Drawn:
    probs, log_probs = distribution(logits)
    ids = probs.argmax(-1) if noise is None else inverse_cdf(probs, noise)
    return Drawn(ids, log_probs.gather(-1, ids[:, None])[:, 0], -probs.mul_(log_probs).sum(-1))


def inverse_cdf(probs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The first id whose cumulative probability exceeds noise · total: ids [B] from probs [B, V], noise [B].

    First the block of ids that is hit, then, at the same share of the block's own total, the id within it. An id's
    share of the unit interval is so exact to the rounding of a block's sum, which is that of a probability.
    """
    batch, vocabulary = probs.shape
    assert noise.shape == (batch,)
    blocks = torch.nn.functional.pad(probs, (0, -vocabulary % BLOCK)).view(batch, -1, BLOCK)
    sums = blocks.sum(-1).double()
    ends = sums.cumsum(-1)
    at = noise.to(probs.device)[:, None] * ends[:, -1:]  # below the total, since noise ≤ 1 − 2⁻⁵³
    hit = torch.searchsorted(ends, at, right=True).clamp_(max=blocks.shape[1] - 1)
    share = 1 - (ends.gather(1, hit) - at) / sums.gather(1, hit)
    block = blocks.gather(1, hit[:, :, None].expand(-1, -1, BLOCK))[:, 0]
    cumulative = block.cumsum(-1, dtype=torch.float64)
    within = torch.searchsorted(cumulative, share * cumulative[:, -1:], right=True).clamp_(max=BLOCK - 1)
    impossible = block.gather(1, within) == 0  # where a share rounds to 1
    return (hit * BLOCK + torch.where(impossible, block.argmax(-1, keepdim=True), within))[:, 0]
