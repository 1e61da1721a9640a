"""Keys and values of earlier tokens, kept in three ways; the decoder only ever calls `update`.

`RecordingCache` hands out what one forward computed, graph included. `PrefixCache` puts a fixed
prefix before every batch and stores nothing, so that a layer may be run twice. `GrowingCache`
writes in place and belongs to decoding alone: it must never lie under a graph.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class RecordingCache:
    """Remembers each layer's keys and values [B, H, n, D] of one forward over an empty past."""

    n_past = 0

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        assert layer == len(self.layers), "a recording cache serves one forward"
        self.layers.append((keys, values))
        return keys, values


class PrefixCache:
    """One prefix of keys and values [1, H, P, D] per layer before all rows of a batch; stateless."""

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.layers = layers
        self.n_past = layers[0][0].shape[2]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        batch = keys.shape[0]
        old = (kept.to(keys.dtype).expand(batch, -1, -1, -1) for kept in self.layers[layer])
        return tuple(torch.cat(pair, dim=2) for pair in zip(old, (keys, values), strict=True))


class GrowingCache:
    """Rows of unequal length, aligned where their next tokens begin; holes are False in `mask`.

    The first forward takes a chunk of `max(n_new)` tokens in which row r uses the last n_new[r];
    every later one takes any number. `advance` after each forward makes its slots the past.
    """

    def __init__(self, rows: Sequence[Tensor], n_new: Sequence[int], n_later: int) -> None:
        """`rows` are [layers, 2, H, n_cached, D]; `n_later` is the room wanted after the first chunk."""
        n_layers, _, heads, _, width = rows[0].shape
        self.n_past = max(row.shape[3] for row in rows)
        n_chunk, n_rows = max(n_new), len(rows)
        room = self.n_past + n_chunk + min(n_later, 64)
        self._slots = rows[0].new_zeros(n_layers, 2, n_rows, heads, room, width)
        self._mask = torch.ones(n_rows, room, dtype=torch.bool, device=rows[0].device)
        for at, row in enumerate(rows):
            begin = self.n_past - row.shape[3]
            self._slots[:, :, at, :, begin : self.n_past] = row
            self._mask[at, :begin] = False
            self._mask[at, self.n_past : self.n_past + n_chunk - n_new[at]] = False

    def key_mask(self, n_new: int) -> Tensor:
        """bool [B, n_past + n_new] for a forward of `n_new` tokens; makes room for them."""
        wanted = self.n_past + n_new
        if wanted > self._mask.shape[1]:
            more = max(wanted, self._mask.shape[1] * 3 // 2) - self._mask.shape[1]
            self._slots = torch.nn.functional.pad(self._slots, (0, 0, 0, more))
            self._mask = torch.nn.functional.pad(self._mask, (0, more), value=True)
        return self._mask[:, :wanted]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        end = self.n_past + keys.shape[2]
        slots = self._slots[layer, :, :, :, :end]
        slots[0, :, :, self.n_past :] = keys
        slots[1, :, :, self.n_past :] = values
        return slots[0], slots[1]

    def advance(self, n_new: int) -> None:
        self.n_past += n_new

    def keep(self, rows: Sequence[int]) -> None:
        """Only `rows` of the batch go on, in this order."""
        index = torch.tensor(rows, device=self._mask.device)
        self._slots, self._mask = self._slots[:, :, index], self._mask[index]

    def cut(self, row: int, begin: int) -> Tensor:
        """A row's slots `begin` … n_past − 1, [layers, 2, H, n, D]."""
        return self._slots[:, :, row, :, begin : self.n_past]
