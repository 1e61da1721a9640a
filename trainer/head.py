"""The log-probability head: loss tokens only, chunk by chunk.

Logits of a 152k vocabulary are what fills a memory first, so they never exist for more than one
chunk of tokens and are never kept. One rule serves sampling and training alike: the logits are
divided by the temperature, banned ids get the lowest finite one, which is probability 0; arithmetic
is float32 (float64 for float64 inputs), whatever the weights are stored in.
"""

import torch
from torch import Tensor

from schemas.errors import TrainingError
from trainer.gathering import gathered, gathers

_CHUNK_ELEMENTS = 1 << 24  # logits of one chunk: 64 MB in float32
_CACHE_ELEMENTS = 1 << 21  # logits that become probabilities at once
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


def distribution(logits: Tensor) -> tuple[Tensor, Tensor]:
    """p, and log p in place of `logits`, both [n, V]; no gradient.

    By the library's softmax: `exp` is many times slower where it underflows. The largest logit is taken off first, so
    that digits of large ones last.
    """
    logits.sub_(logits.amax(-1, keepdim=True))
    probs = torch.softmax(logits, -1)
    return probs, logits.add_(probs.amax(-1, keepdim=True).log_())  # of the likeliest, e⁰ / Σ


class _TokenScores(torch.autograd.Function):
    """log p(target) and H = −Σ p·log p, whose gradient is ∂/∂z = g·(1[target] − p) − g_H·p·(log p + H).

    The pulls on a hidden state are known up to g and g_H before these are, and made while p is there; only a head that
    is trained needs its logits again.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets, banned, temperature, chunk, entropy_has_grad, adds):
        room = _room(hidden, weight, chunk)
        few = chunk if entropy_has_grad else max(1, _CACHE_ELEMENTS // len(weight))
        logprobs, entropies = (room.new_empty(len(hidden)) for _ in range(2))
        pulls = [room.new_empty(hidden.shape) for _ in range(1 + entropy_has_grad) if ctx.needs_input_grad[0]]
        for at in range(0, len(hidden), chunk):
            part = slice(at, at + chunk)
            logits = masked_logits(hidden[part], weight, banned, temperature, room)
            views = (one.split(few) for one in (logits, targets[part], logprobs[part], entropies[part]))
            for rows, written, logprob, entropy in zip(*views, strict=True):
                probs, _ = distribution(rows)
                logprob.copy_(rows.gather(-1, written[:, None])[:, 0])
                entropy.copy_(rows.mul_(probs).sum(-1).neg_())
                if pulls and entropy_has_grad:  # all rows of the chunk
                    pulls[1][part] = _times_weight(rows.addcmul_(probs, entropy[:, None]), weight)
                rows.copy_(probs)
            if pulls:
                pulls[0][part] = _times_weight(_without(logits, targets[part]), weight)
        ctx.save_for_backward(hidden, weight, targets, banned, entropies, *pulls)
        ctx.settings = temperature, chunk, entropy_has_grad, adds
        if not entropy_has_grad:
            ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx, *grads):
        hidden, weight, targets, banned, entropies, *pulls = ctx.saved_tensors
        temperature, chunk, entropy_has_grad, adds = ctx.settings
        factors = [grad[:, None] / -temperature for grad in grads[: 1 + entropy_has_grad]]
        grad_hidden = sum(map(torch.mul, factors, pulls)).to(hidden.dtype) if pulls else None
        if not ctx.needs_input_grad[1]:
            return grad_hidden, *(None,) * 7
        room = _room(hidden, weight, chunk)
        grad_weight = gathered(weight) if adds else torch.zeros_like(weight, dtype=room.dtype)
        for at in range(0, len(hidden), chunk):
            part = slice(at, at + chunk)
            logits = masked_logits(hidden[part], weight, banned, temperature, room)
            if entropy_has_grad:
                probs, _ = distribution(logits)
                informed = logits.mul_(probs).addcmul_(probs, entropies[part, None]).mul_(factors[1][part])
                grad_logits = _without(probs, targets[part]).mul_(factors[0][part]).add_(informed)
            else:
                for rows in logits.split(max(1, _CACHE_ELEMENTS // len(weight))):
                    rows.copy_(rows.softmax(-1))
                grad_logits = _without(logits, targets[part]).mul_(factors[0][part])
            grad_weight.addmm_(grad_logits.T, hidden[part].to(grad_logits.dtype))
        return grad_hidden, None if adds else grad_weight.to(weight.dtype), *(None,) * 6


def _room(hidden: Tensor, weight: Tensor, chunk: int) -> Tensor:
    """[chunk, V], where every chunk of tokens is worked on."""
    exact = torch.promote_types(weight.dtype, torch.float32)
    return weight.new_empty(min(chunk, len(hidden)), len(weight), dtype=exact)


def _without(probs: Tensor, targets: Tensor) -> Tensor:
    """p − 1[target], in place of p."""
    return probs.scatter_add_(1, targets[:, None], probs.new_full((len(targets), 1), -1.0))


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
    accumulate: bool = False,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """log p(targets) and full-vocabulary entropy, both [n], from hidden [n, h] and weight [V, h].

    The entropy is detached unless `entropy_has_grad`. With `accumulate` the backward pass adds to `weight.grad` where
    that can be (`trainer.gathering`). A banned target has log-probability −∞ and is refused: it can only be a row
    that nobody could have sampled.
    """
    n_tokens, _ = hidden.shape
    vocabulary, _ = weight.shape  # [V, h]
    assert targets.shape == (n_tokens,)
    assert banned.shape == (vocabulary,)
    if bool(banned[targets].any()):
        raise TrainingError(
            f"banned ids {sorted(set(targets[banned[targets]].tolist()))} are marked as written",
            fix="markers of images, video and chat never carry loss; check the row's is_written",
        )
    chunk = chunk or max(1, _CHUNK_ELEMENTS // vocabulary)
    adds = accumulate and gathers(weight)
    return _TokenScores.apply(hidden, weight, targets, banned, float(temperature), chunk, entropy_has_grad, adds)
