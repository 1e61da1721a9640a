"""Pasts of a forward (`trainer.attention.Past`): keys and values of earlier tokens, kept in two ways.

`RecordingPast` hands out what one forward computed, graph included. `SharedPast` puts a fixed path of parts before
every row and stores nothing, so that a layer may be run twice. Those of decoding are in `trainer.rollout.pasts`.
"""

from collections.abc import Sequence

from torch import Tensor

from trainer.attention import Part, after_parts


class SharedPast:
    """Parts per layer, `parts[layer]` in order from the beginning, before all rows of a batch; none: a fresh start."""

    def __init__(self, parts: Sequence[Sequence[Part]] = ()) -> None:
        self.parts = parts

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        return after_parts(query, keys, values, self.parts[layer] if self.parts else (), scaling)


class RecordingPast(SharedPast):
    """Remembers each layer's new keys and values [B, H_kv, n, D] of one forward."""

    def __init__(self, parts: Sequence[Sequence[Part]] = ()) -> None:
        super().__init__(parts)
        self.layers: list[Part] = []

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        assert layer == len(self.layers), "a recording past serves one forward"
        self.layers.append((keys, values))
        return super().attend(layer, query, keys, values, scaling)
