"""Keys and values of ragged sequences in one tensor, those in use always in its first places.

What is taken out leaves a hole that the last sequence moves into: nothing is masked away, and at the end of a rollout
the few rows that still write are a short batch, not a sparse one.
"""

from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

Owner = TypeVar("Owner")
ROOM_STEP = 64


class Slots(Generic[Owner]):
    """`held` is [layers, 2, places, H_kv, room, D]; place p belongs to `owners[p]` and is filled up to `lengths[p]`."""

    def __init__(self) -> None:
        self.owners: list[Owner] = []
        self.lengths: list[int] = []
        self.held = torch.empty(0)

    def __len__(self) -> int:
        return len(self.owners)

    @property
    def longest(self) -> int:
        return max(self.lengths)

    def add(self, owner: Owner, past: Tensor, n_later: int = 0) -> None:
        """`past` is [layers, 2, H_kv, n, D], and `n_later` tokens more are expected."""
        length = past.shape[3]
        self.reserve(past, len(self) + 1, length + n_later)
        self.held[:, :, len(self), :, :length] = past
        self.owners.append(owner)
        self.lengths.append(length)

    def remove(self, owner: Owner) -> None:
        place = self.owners.index(owner)
        moved, length = self.owners.pop(), self.lengths.pop()
        if moved is not owner:
            self.held[:, :, place] = self.held[:, :, len(self)]
            self.owners[place], self.lengths[place] = moved, length
        self.held[:, :, len(self)] = 0

    def of(self, owner: Owner) -> Tensor:
        """The past of one owner, [layers, 2, H_kv, n, D]; a view."""
        place = self.owners.index(owner)
        return self.held[:, :, place, :, : self.lengths[place]]

    def reserve(self, like: Tensor, n_places: int, room: int) -> None:
        """Room beyond a sequence's end is zero, never what a diverged row left: a masked NaN still spoils the sum."""
        if self.held.numel() == 0:
            self.held = like.new_zeros(*like.shape[:2], 0, like.shape[2], 0, like.shape[4])
        places, now = self.held.shape[2], self.held.shape[4]
        more_places = max(n_places, min(2 * places, places + 16)) - places if n_places > places else 0
        more_room = -(-room // ROOM_STEP) * ROOM_STEP - now if room > now else 0
        if more_places or more_room:
            self.held = pad(self.held, (0, 0, 0, more_room, 0, 0, 0, more_places))
