"""One new token of each row through the decoder, without a graph: the layers' own weights in fewer operations.

The stock layers round in the same places, in every dtype. A layer that somebody watches through hooks, torch's own
sharding among them, is no longer bare: then all layers run as they are.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from trainer.attention import Past
from trainer.policy import Policy

_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # of oneDNN, which not every build of torch has


def decode_one(policy: Policy, ids: Tensor, positions: Tensor, past: Past) -> Tensor:
    """Last hidden states [rows, h] of tokens `ids` [rows] at `positions` [rows], the same on all three axes."""
    model = policy.language_model
    hidden, places = model.embed_tokens(ids), positions[:, None].expand(3, -1, 1)
    if any(_is_watched(part) for layer in model.layers for part in (layer, layer.self_attn, layer.mlp)):
        return policy.decode_hidden(hidden[:, None], places, past)[:, 0]
    cosine, sine = model.rotary_emb(hidden, places)  # [rows, 1, D]: one for all heads
    half = sine.shape[-1] // 2
    sine = torch.cat((-sine[..., :half], sine[..., half:]), dim=-1)
    for layer in model.layers:
        hidden = hidden + _attended(layer.self_attn, _normed(layer.input_layernorm, hidden), cosine, sine, past)
        hidden = hidden + _mixed(layer.mlp, _normed(layer.post_attention_layernorm, hidden))
    return _normed(model.norm, hidden)


def _attended(layer: nn.Module, hidden: Tensor, cosine: Tensor, sine: Tensor, past: Past) -> Tensor:
    """Queries and keys are turned together: x cos + (x₂, x₁) sin, the sign of −x₂ being in `sine`."""
    rows, width = len(hidden), layer.head_dim
    query, keys, values = (_product(one, hidden) for one in (layer.q_proj, layer.k_proj, layer.v_proj))
    heads = torch.cat((query, keys), dim=1).view(rows, -1, width)
    heads = (heads * cosine).add_(heads.roll(width // 2, -1).mul_(sine))[:, :, None]
    query, keys = heads.split((query.shape[1] // width, keys.shape[1] // width), dim=1)
    out = past.attend(layer.layer_idx, query, keys, values.view(rows, -1, 1, width), layer.scaling)
    return _product(layer.o_proj, out.reshape(rows, -1))


def _mixed(layer: nn.Module, hidden: Tensor) -> Tensor:
    gate, up = _product(layer.gate_proj, hidden), _product(layer.up_proj, hidden)
    return _product(layer.down_proj, layer.act_fn(gate).mul_(up))


def _normed(norm: nn.Module, hidden: Tensor) -> Tensor:
    """The stock norm: never in more than float32, and rounded to the input's type before it meets the weight."""
    exact = hidden.float() if hidden.dtype == torch.float64 else hidden
    return norm.weight * rms_norm(exact, norm.weight.shape, None, norm.variance_epsilon)


def _product(layer: nn.Module, hidden: Tensor) -> Tensor:
    """`layer(hidden)`; in float32 by oneDNN's kernel, which on some processors is twice as fast as torch's default."""
    if type(layer) is nn.Linear and hidden.dtype == torch.float32 and hidden.device.type == "cpu" and _linear:
        return _linear(hidden, layer.weight, layer.bias, "none", [], "")
    return layer(hidden)


def _is_watched(part: nn.Module) -> bool:
    return bool(part._forward_hooks or part._forward_pre_hooks)
