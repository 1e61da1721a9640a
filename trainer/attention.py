"""Attention of new tokens to each other and to what lies before them, the past being read where it lies.

The decoder's layers are stock; their attention function is ours and asks the `past` that a forward was given.
A past in several parts is never joined: each part gives its output with the log of its softmax denominator, and

    out = Σ_p out_p · exp(L_p − L),  L = log Σ_p exp(L_p).

Backward, a kernel that is given the whole `out` and `L` returns exactly its part's share of every gradient. So the
rows of a batch fold into one product with a past that they share, and no copy of it is made (cascade attention;
the folding of backward passes is ours).
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "fovea"  # under which transformers finds `_of_a_layer`

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

Part = tuple[Tensor, Tensor]  # keys and values [1, H_kv, P, D] of P tokens that all rows of a batch have behind them


class Past(Protocol):
    """What lies before the new tokens of a forward; it may take the new ones up."""

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        """Attention output [B, H, n, D] of new queries [B, H, n, D], keys and values [B, H_kv, n, D] of a layer."""


def _of_a_layer(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    past: Past | None = None,
    scaling: float | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    if past is None:  # a forward of the whole model, by others
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    out = past.attend(module.layer_idx, query, key, value, module.scaling if scaling is None else scaling)
    return out.transpose(1, 2), None


AttentionInterface.register(NAME, _of_a_layer)
AttentionMaskInterface.register(NAME, sdpa_mask)


def causal(query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """New tokens with nothing before them; padding on the right needs no mask, as nothing earlier looks at it."""
    return scaled_dot_product_attention(query, keys, values, is_causal=True, scale=scaling, enable_gqa=True)


def after_parts(query: Tensor, keys: Tensor, values: Tensor, parts: Sequence[Part], scaling: float) -> Tensor:
    """New tokens, causal among themselves, after the shared `parts`; gradients reach the parts."""
    if not parts:
        return causal(query, keys, values, scaling)
    if query.device.type != "cpu":
        return joined(query, keys, values, parts, scaling)
    return _AfterParts.apply(scaling, query, keys, values, *(one for part in parts for one in part))


def joined(query: Tensor, keys: Tensor, values: Tensor, parts: Sequence[Part], scaling: float) -> Tensor:
    """The same with one copy of the past per row: for devices without the kernels below."""
    batch, _, n_new, _ = query.shape
    stacks = zip(*parts, strict=True)
    old = [torch.cat(stack, dim=2).expand(batch, -1, -1, -1) for stack in stacks]
    all_keys, all_values = torch.cat([old[0], keys], dim=2), torch.cat([old[1], values], dim=2)
    n_all = all_keys.shape[2]
    mask = torch.ones(n_new, n_all, dtype=torch.bool, device=query.device).tril(n_all - n_new)
    groups = query.shape[1] // keys.shape[1]
    repeated = [one.repeat_interleave(groups, dim=1) for one in (all_keys, all_values)]  # a mask rules out enable_gqa
    return scaled_dot_product_attention(query, *repeated, attn_mask=mask, scale=scaling)


class _AfterParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scaling, query, keys, values, *shared):
        out, denominator = _flash(query, keys, values, 0.0, True, scale=scaling)
        outs, denominators = [out], [denominator]
        folded = fold(query, keys.shape[1])
        for part in zip(shared[::2], shared[1::2], strict=True):
            out, denominator = _flash(folded, *part, 0.0, False, scale=scaling)
            outs.append(unfold(out, query.shape))
            denominators.append(unfold(denominator[..., None], (*query.shape[:3], 1))[..., 0])
        out, denominator = merge(outs, denominators)
        ctx.save_for_backward(query, keys, values, out, denominator, *shared)
        ctx.scaling = scaling
        return out

    @staticmethod
    def backward(ctx, grad):
        query, keys, values, out, denominator, *shared = ctx.saved_tensors
        grad_query, *grads = _flash_backward(grad, query, keys, values, out, denominator, 0.0, True, scale=ctx.scaling)
        whole = [fold(one, keys.shape[1]) for one in (grad, query, out, denominator[..., None])]
        for part in zip(shared[::2], shared[1::2], strict=True):
            share, *more = _flash_backward(*whole[:2], *part, whole[2], whole[3][..., 0], 0.0, False, scale=ctx.scaling)
            grad_query = grad_query + unfold(share, query.shape)
            grads += more
        return None, grad_query, *grads


def fold(heads: Tensor, n_kv: int) -> Tensor:
    """[B, H, n, D] → [1, H_kv, B·(H/H_kv)·n, D]: every row and head that meets one key head, in one row."""
    batch, n_heads, n_new, width = heads.shape
    grouped = heads.reshape(batch, n_kv, n_heads // n_kv, n_new, width)
    return grouped.transpose(0, 1).reshape(1, n_kv, -1, width)


def unfold(folded: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of `fold`, for heads of `shape`."""
    batch, n_heads, n_new, width = shape
    n_kv = folded.shape[1]
    return folded.view(n_kv, batch, n_heads // n_kv, n_new, width).transpose(0, 1).reshape(batch, n_heads, n_new, width)


def merge(outs: Sequence[Tensor], denominators: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Outputs [..., D] over all parts and the logs [...] of their denominators as those of one softmax."""
    whole = torch.stack(list(denominators)).logsumexp(0)
    shares = [(one - whole).exp()[..., None] for one in denominators]
    out = sum(one * share for one, share in zip(outs, shares, strict=True))
    return out.to(outs[0].dtype), whole
