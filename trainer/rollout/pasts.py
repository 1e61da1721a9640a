"""Pasts of the two forwards of a rollout (`trainer.attention.Past`), which never lie under a graph.

`PackedPast` reads many new tokens per row, rows one after the other without padding. `LivePast` reads one new token of
each live row: the row's own tokens lie in its slot, the prompt's in one place for all rows that share it, and the two
softmaxes are merged by the logs of their denominators.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.attention import Part, after_parts
from trainer.rollout.slots import Slots

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class PackedPast:
    """Piece r of the packed tokens has `counts[r]` of them and comes after `parts[r]`, each [layers, 2, H_kv, P, D]."""

    def __init__(self, counts: Sequence[int], parts: Sequence[Sequence[Tensor]]) -> None:
        self.counts, self.parts = list(counts), parts
        self.layers: list[Part] = []

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        self.layers.append((keys, values))
        new = zip(*(one.split(self.counts, dim=2) for one in (query, keys, values)), strict=True)
        before = [[part[layer].unsqueeze(1).unbind() for part in parts] for parts in self.parts]
        outs = [after_parts(*piece, parts, scaling) for piece, parts in zip(new, before, strict=True)]
        return torch.cat(outs, dim=2)

    def pieces(self) -> list[Tensor]:
        """Keys and values of each piece's new tokens, [layers, 2, H_kv, n, D]."""
        return list(torch.stack([torch.cat(layer) for layer in self.layers]).split(self.counts, dim=3))


class LivePast:
    """`prompts` and `own` tokens of the live rows; between two forwards rows may come and go."""

    def __init__(self, n_heads: int) -> None:
        self.n_heads = n_heads
        self.prompts: Slots[object] = Slots()
        self.own: Slots[object] = Slots()

    def arrange(self, places: Sequence[int]) -> None:
        """Row r of the next forwards, which are the first of `own`, has its prompt in `places[r]`."""
        n_kv, device = self.own.held.shape[3], self.own.held.device
        members = [[row for row, at in enumerate(places) if at == place] for place in range(len(self.prompts))]
        most, per_key = max(map(len, members)), self.n_heads // n_kv
        table = torch.tensor([rows + [0] * (most - len(rows)) for rows in members])  # [prompts, most]
        heads = torch.arange(self.n_heads).view(1, n_kv, 1, per_key)
        asked = table[:, None, :, None] * self.n_heads + heads  # [prompts, n_kv, most, per_key]: which (row, head) asks
        rank = torch.tensor([members[at].index(row) for row, at in enumerate(places)])
        kv, group = torch.arange(n_kv)[None, :, None], torch.arange(per_key)
        answered = ((torch.tensor(places)[:, None, None] * n_kv + kv) * most + rank[:, None, None]) * per_key + group
        self._folded = asked.flatten(2).shape
        self._asked, self._answered = asked.flatten().to(device), answered.flatten().to(device)
        lengths = torch.tensor(self.prompts.lengths, device=device)
        self._prompt_mask = None if len(set(self.prompts.lengths)) == 1 else self._mask(lengths, self.prompts.longest)
        self._n_rows = len(places)

    def advance(self) -> None:
        """Makes room for one token of each row; to be called before every forward."""
        own, n_rows = self.own, self._n_rows
        if own.longest == own.held.shape[4]:
            own.reserve(own.held, len(own), own.longest + 1)
        n_kv, room = own.held.shape[3:5]
        lengths = torch.tensor(own.lengths[:n_rows], device=own.held.device)
        first = torch.arange(n_rows * n_kv, device=lengths.device).view(n_rows, n_kv) * room
        self._new = (first + lengths[:, None]).flatten()
        own.lengths[:n_rows] = [length + 1 for length in own.lengths[:n_rows]]
        longest = max(own.lengths[:n_rows])
        self._own_mask = self._mask(lengths + 1, longest)
        self._own = own.held[:, :, :n_rows, :, :longest].unbind()
        self._shared = self.prompts.held[:, :, : len(self.prompts), :, : self.prompts.longest].unbind()

    def _mask(self, lengths: Tensor, width: int) -> Tensor:
        """0 for the first tokens of each sequence and −∞ after them, [n, 1, 1, width]."""
        is_after = torch.arange(width, device=lengths.device) >= lengths[:, None]
        return self.own.held.new_zeros(is_after.shape).masked_fill_(is_after, -torch.inf)[:, None, None]

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        n_rows, n_kv, _, width = keys.shape
        for slots, new in zip(self.own.held[layer], (keys, values), strict=True):
            slots.view(-1, width).index_copy_(0, self._new, new.reshape(-1, width))
        queries = query.reshape(-1, width)  # [rows · heads, D]
        mine, own_log = partial(queries.view(n_rows, n_kv, -1, width), *self._own[layer], self._own_mask, scaling)
        asked = queries.index_select(0, self._asked).view(*self._folded, width)
        shared, log = partial(asked, *self._shared[layer], self._prompt_mask, scaling)
        log = log.reshape(-1).index_select(0, self._answered).view(own_log.shape)
        share = (own_log - log).sigmoid_()[..., None]  # of its own tokens in each softmax
        shared = shared.reshape(-1, width).index_select(0, self._answered).view(mine.shape).to(share.dtype)
        return torch.lerp(shared, mine.to(share.dtype), share).to(query.dtype).view(query.shape)


def partial(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float) -> tuple[Tensor, Tensor]:
    """Attention [..., n, D] to one part of a past, and the log [..., n] of its softmax denominator."""
    if query.device.type == "cpu":
        return _flash(query, keys, values, 0.0, False, attn_mask=mask, scale=scaling)
    return plain(query, keys, values, mask, scaling)


def plain(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float) -> tuple[Tensor, Tensor]:
    """The same for devices without the kernel above; at least float32 inside."""
    scores = (query @ keys.mT).to(torch.promote_types(query.dtype, torch.float32)) * scaling
    if mask is not None:
        scores = scores + mask
    denominator = scores.logsumexp(-1)
    return (scores - denominator[..., None]).exp().to(values.dtype) @ values, denominator
