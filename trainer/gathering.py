"""Gradients of matrices as large as the vocabulary, added where they gather.

A backward pass that hands such a gradient to autograd first makes [V, h] zeros for a few rows, per micro-batch. Added
to `.grad` itself there is one such matrix in all. It is for `loss.backward()` alone: `torch.autograd.grad` finds
nothing, and hooks of the weight do not run.
"""

import torch
from torch import Tensor, nn


def gathers(weight: Tensor) -> bool:
    """Whether `weight` is a trained leaf, with a gradient of at least float32, that may be added to in place."""
    exact = torch.promote_types(weight.dtype, torch.float32)
    return torch.is_grad_enabled() and weight.requires_grad and weight.is_leaf and weight.grad_dtype == exact


def gathered(weight: Tensor) -> Tensor:
    """Its `.grad`; of zeros from now on if there was none."""
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight, dtype=weight.grad_dtype)
    return weight.grad


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, ids, left_out):
        ctx.save_for_backward(weight, ids)
        ctx.left_out = left_out
        return nn.functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx, grad):
        weight, ids = ctx.saved_tensors
        total = gathered(weight)
        pulls = grad.to(total.dtype).masked_fill((ids == ctx.left_out)[..., None], 0.0)
        total.index_add_(0, ids.flatten(), pulls.flatten(0, -2))
        return None, None, None


def rows_of(embedding: nn.Embedding, ids: Tensor) -> Tensor:
    """`embedding(ids)`, whose backward pass adds to the rows `ids` of the gradient; as there, padding has none."""
    if not gathers(embedding.weight):
        return embedding(ids)
    left_out = -1 if embedding.padding_idx is None else embedding.padding_idx
    return _Rows.apply(embedding.weight, ids, left_out)
