"""The log-probability head: loss tokens only, chunk by chunk, recomputed in the backward pass.

Logits of a 152k vocabulary are what fills a memory first, so they never exist for more than one
chunk of tokens and are never kept. One rule serves sampling and training alike: banned ids get
logit −∞, then the rest is divided by the temperature; arithmetic is float32 (float64 for float64
inputs), whatever the weights are stored in.
"""

import torch
from torch import Tensor

from schemas.errors import TrainingError

_CHUNK_ELEMENTS = 1 << 26  # logits of one chunk: 256 MB in float32
_ROWS_UPCAST = 16_384  # vocabulary rows of a bfloat16 head that are upcast at once


def masked_logits(hidden: Tensor, weight: Tensor, banned: Tensor, temperature: float) -> Tensor:
    """z = (hidden · weightᵀ) / temperature [n, V] in float32 or float64, −∞ where `banned` [V]."""
    exact = torch.promote_types(weight.dtype, torch.float32)
    hidden = hidden.to(exact)
    if weight.dtype == exact:
        logits = hidden @ weight.T
    else:
        logits = torch.cat([hidden @ rows.to(exact).T for rows in weight.split(_ROWS_UPCAST)], dim=-1)
    if temperature != 1.0:
        logits /= temperature
    return logits.masked_fill_(banned, -torch.inf)


def entropy_of(log_probs: Tensor, probs: Tensor) -> Tensor:
    """−Σ p log p [n] in nats; a banned id (p = 0, log p = −∞) adds nothing."""
    return -(probs * log_probs.clamp(min=torch.finfo(log_probs.dtype).min)).sum(-1)


class _TokenScores(torch.autograd.Function):
    """Forward: log p(target) and entropy. Backward: ∂/∂z = g·(1[target] − p) − g_H·p·(log p + H)."""

    @staticmethod
    def forward(ctx, hidden, weight, targets, banned, temperature, chunk, entropy_has_grad):
        scores = [
            _chunk_scores(hidden[at : at + chunk], weight, targets[at : at + chunk], banned, temperature)
            for at in range(0, len(hidden), chunk)
        ]
        logprobs, entropies = (torch.cat(parts) for parts in zip(*scores, strict=True))
        ctx.save_for_backward(hidden, weight, targets, banned)
        ctx.settings = temperature, chunk, entropy_has_grad
        if not entropy_has_grad:
            ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx, grad_logprobs, grad_entropies):
        hidden, weight, targets, banned = ctx.saved_tensors
        temperature, chunk, entropy_has_grad = ctx.settings
        exact = grad_logprobs.dtype
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=exact) if ctx.needs_input_grad[1] else None
        for at in range(0, len(hidden), chunk):
            part = slice(at, at + chunk)
            grad_entropy = grad_entropies[part] if entropy_has_grad else None
            logits = masked_logits(hidden[part], weight, banned, temperature)
            grad_logits = _logits_grad(logits, targets[part], grad_logprobs[part], grad_entropy) / temperature
            if grad_hidden is not None:
                grad_hidden[part] = _times_weight(grad_logits, weight)
            if grad_weight is not None:
                grad_weight.addmm_(grad_logits.T, hidden[part].to(exact))
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), *(None,) * 5


def _chunk_scores(
    hidden: Tensor, weight: Tensor, targets: Tensor, banned: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    log_probs = masked_logits(hidden, weight, banned, temperature).log_softmax(-1)
    return log_probs.gather(-1, targets[:, None])[:, 0], entropy_of(log_probs, log_probs.exp())


def _logits_grad(logits: Tensor, targets: Tensor, grad_logprobs: Tensor, grad_entropies: Tensor | None) -> Tensor:
    log_probs = logits.log_softmax(-1)
    probs = log_probs.exp()
    grad = probs * -grad_logprobs[:, None]
    grad.scatter_add_(1, targets[:, None], grad_logprobs[:, None])
    if grad_entropies is not None:
        finite = log_probs.clamp(min=torch.finfo(log_probs.dtype).min)
        grad -= probs * (finite + entropy_of(log_probs, probs)[:, None]) * grad_entropies[:, None]
    return grad


def _times_weight(grad_logits: Tensor, weight: Tensor) -> Tensor:
    if weight.dtype == grad_logits.dtype:
        return grad_logits @ weight
    columns, rows = grad_logits.split(_ROWS_UPCAST, dim=1), weight.split(_ROWS_UPCAST)
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
