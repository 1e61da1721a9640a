"""The log-probability head: loss tokens only, chunk by chunk, recomputed in the backward pass.

Logits of a 152k vocabulary are what fills a memory first, so they never exist for more than one
chunk of tokens and are never kept. One rule serves sampling and training alike: the logits are
divided by the temperature, banned ids get the lowest finite one, which is probability 0; arithmetic
is float32 (float64 for float64 inputs), whatever the weights are stored in.
"""

import torch
from torch import Tensor

from schemas.errors import TrainingError

_CHUNK_ELEMENTS = 1 << 24  # logits of one chunk: 64 MB in float32
_ROWS_AT_ONCE = 16_384  # vocabulary rows of a bfloat16 head that are upcast at once


def masked_logits(
    hidden: Tensor, weight: Tensor, banned: Tensor, temperature: float, out: Tensor | None = None
) -> Tensor:
    """z = (hidden · weightᵀ) / temperature [n, V] in float32 or float64; the lowest number where `banned` [V].

    Written into the first rows of `out`, if there is one; no gradient.
    """
    exact = torch.promote_types(weight.dtype, torch.float32)
    scaled = hidden.to(exact) / temperature
    logits = scaled.new_empty(len(hidden), len(weight)) if out is None else out[: len(hidden)]
    for rows, columns in zip(weight.split(_ROWS_AT_ONCE), logits.split(_ROWS_AT_ONCE, dim=1), strict=True):
        torch.mm(scaled, rows.to(exact).T, out=columns)
    return logits.add_(logits.new_zeros(len(weight)).masked_fill_(banned, torch.finfo(exact).min))


def distribution(logits: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """p, in `out`, and log p, in place of `logits`, both [n, V]; no gradient.

    By the library's softmax: `exp` is many times slower where it underflows. The largest logit is taken off first, so
    that digits of large ones last.
    """
    logits.sub_(logits.amax(-1, keepdim=True))
    probs = torch.softmax(logits, -1, out=out)
    return probs, logits.add_(probs.amax(-1, keepdim=True).log_())  # of the likeliest, e⁰ / Σ


class _TokenScores(torch.autograd.Function):
    """Forward: log p(target) and H = −Σ p·log p. Backward: ∂/∂z = g·(1[target] − p) − g_H·p·(log p + H)."""

    @staticmethod
    def forward(ctx, hidden, weight, targets, banned, temperature, chunk, entropy_has_grad):
        room = _room(hidden, weight, chunk)
        logprobs, entropies = (room[0].new_empty(len(hidden)) for _ in range(2))
        for at in range(0, len(hidden), chunk):
            part = slice(at, at + chunk)
            logits, probs = (one[: len(hidden[part])] for one in room)
            probs, log_probs = distribution(masked_logits(hidden[part], weight, banned, temperature, logits), probs)
            logprobs[part] = log_probs.gather(-1, targets[part, None])[:, 0]
            entropies[part] = -probs.mul_(log_probs).sum(-1)
        ctx.save_for_backward(hidden, weight, targets, banned, entropies)
        ctx.settings = temperature, chunk, entropy_has_grad
        if not entropy_has_grad:
            ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx, grad_logprobs, grad_entropies):
        hidden, weight, targets, banned, entropies = ctx.saved_tensors
        temperature, chunk, entropy_has_grad = ctx.settings
        room = _room(hidden, weight, chunk)
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=room[0].dtype) if ctx.needs_input_grad[1] else None
        for at in range(0, len(hidden), chunk):
            part = slice(at, at + chunk)
            pulls = grad_logprobs[part, None]
            logits, probs = (one[: len(pulls)] for one in room)
            masked_logits(hidden[part], weight, banned, temperature, logits)
            if entropy_has_grad:
                _, log_probs = distribution(logits, probs)
                informed = log_probs.add_(entropies[part, None]).masked_fill_(banned, 0.0)
                grad_logits = probs.mul_(informed.mul_(grad_entropies[part, None]).add_(pulls).neg_())
            else:
                grad_logits = torch.softmax(logits, -1, out=probs).mul_(-pulls)
            grad_logits.scatter_add_(1, targets[part, None], pulls).div_(temperature)
            if grad_hidden is not None:
                grad_hidden[part] = _times_weight(grad_logits, weight)
            if grad_weight is not None:
                grad_weight.addmm_(grad_logits.T, hidden[part].to(grad_logits.dtype))
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), *(None,) * 5


def _room(hidden: Tensor, weight: Tensor, chunk: int) -> list[Tensor]:
    """Two tensors [chunk, V] that every chunk of tokens is worked on in."""
    exact = torch.promote_types(weight.dtype, torch.float32)
    return [weight.new_empty(min(chunk, len(hidden)), len(weight), dtype=exact) for _ in range(2)]


def _times_weight(grad_logits: Tensor, weight: Tensor) -> Tensor:
    columns, rows = grad_logits.split(_ROWS_AT_ONCE, dim=1), weight.split(_ROWS_AT_ONCE)
    return sum(part @ block.to(part.dtype) for part, block in zip(columns, rows, strict=True))


def token_scores(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    banned: Tensor,
    temperature: float = 1.0,
    *,
    entropy_has_grad: bool = False,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """log p(targets) and full-vocabulary entropy, both [n], from hidden [n, h] and weight [V, h].

    The entropy is detached unless `entropy_has_grad`. A banned target has log-probability −∞ and
    is refused: it can only be a row that nobody could have sampled.
    """
    n_tokens, _ = hidden.shape
    vocabulary, _ = weight.shape  # [V, h]
    assert targets.shape == (n_tokens,)
    assert banned.shape == (vocabulary,)
    if n_tokens == 0:
        nothing = hidden.sum(-1).to(torch.promote_types(weight.dtype, torch.float32))
        return nothing, nothing.detach()
    if bool(banned[targets].any()):
        raise TrainingError(
            f"banned ids {sorted(set(targets[banned[targets]].tolist()))} are marked as written",
            fix="markers of images, video and chat never carry loss; check the row's is_written",
        )
    chunk = chunk or max(1, _CHUNK_ELEMENTS // vocabulary)
    return _TokenScores.apply(hidden, weight, targets, banned, float(temperature), chunk, entropy_has_grad)
