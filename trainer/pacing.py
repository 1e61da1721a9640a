"""zero3: every rank runs the decoder equally often, whatever it has to run.

A layer that is gathered where it runs does so on all ranks at once, so a rank with fewer groups or fewer
micro-batches would leave the others waiting for ever. What each rank will run is counted before the update; a rank
that has less fills in with forward and backward passes of one token whose loss is 0. Trees are flat here: a prefix,
its micro-batches, the prefix's backward pass.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch

from schemas.errors import TrainingError
from trainer.batched import lay_out
from trainer.caches import RecordingPast, SharedPast
from trainer.environment import Episode
from trainer.policy import Policy
from trainer.ranks import Ranks
from trainer.tree import plan
from trainer.tree_update import micro_batches


def calls_of(policy: Policy, episodes: Sequence[Episode], max_tokens: int) -> int:
    """Micro-batches of one group's continuations, as `trainer.tree_update` will run them."""
    rows = [one.row for one in episodes]
    root = plan(rows, [lay_out(row, policy.image_id).spans for row in rows], is_flat=True)
    return len(micro_batches([rows[one].written_at[-1] - root.end for one in root.leaves], max_tokens))


class Paced:
    """The policy, with passes of its own put in after each prefix; `calls` are micro-batches per group.

    Without prefixes it is one number, of batches of independent rows.
    """

    def __init__(self, policy: Policy, ranks: Ranks, calls: Sequence[int], *, has_prefixes: bool = True) -> None:
        self._policy, self._own, self._has_prefixes = policy, list(calls), has_prefixes
        self._longest = [max(some) for some in zip_longest(*ranks.gather(self._own), fillvalue=0)]
        self._n_prefixes = self._n_calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def decode_hidden(
        self, inputs_embeds: torch.Tensor, position_ids: torch.Tensor, past: SharedPast, *, recompute: bool = False
    ) -> torch.Tensor:
        hidden = self._policy.decode_hidden(inputs_embeds, position_ids, past, recompute=recompute)
        if not isinstance(past, RecordingPast):
            self._n_calls += 1
        elif self._n_prefixes < len(self._own):
            self._fill(self._longest[self._n_prefixes] - self._own[self._n_prefixes])
            self._n_prefixes += 1
        return hidden

    def finish(self) -> None:
        """Runs what other ranks have had more of; TrainingError when the plan was not kept."""
        if self._n_calls != sum(self._own) or (self._has_prefixes and self._n_prefixes != len(self._own)):
            raise TrainingError(
                f"{self._n_prefixes} prefixes and {self._n_calls} batches were run,"
                f" {len(self._own)} and {sum(self._own)} were planned",
                where="run.sharding",
                fix="set run.sharding=zero2",
            )
        if not self._has_prefixes:
            self._fill(self._longest[0] - self._own[0])
            return
        for n in self._longest[len(self._own) :]:
            prefix = self._nothing()
            self._fill(n)
            prefix.backward()

    def _fill(self, n: int) -> None:
        for _ in range(n):
            self._nothing().backward()

    def _nothing(self) -> torch.Tensor:
        """A loss of 0 with the graph of one token through the decoder."""
        weight = self._policy.head_weight
        token = torch.zeros(1, 1, weight.shape[1], dtype=weight.dtype, device=weight.device, requires_grad=True)
        positions = torch.zeros(3, 1, 1, dtype=torch.long, device=weight.device)
        return 0.0 * self._policy.decode_hidden(token, positions, SharedPast()).sum()
