"""What images look like to the policy, by their content: each is encoded once for as long as it is held.

A frozen tower gives the same features in every step, so they are held across steps and updates, the least recently
used going first. Every image goes through it alone: its features depend on nothing that was encoded beside it, nor on
what a run that was killed had still held. A trained tower must `forget` when its weights have changed; until then
the graphs of what a rollout has shown wait for the update, as far as `graph_tokens_max` goes.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from trainer.policy import Policy
from trainer.sequences import EncodedImage

BYTES_MAX = 1 << 30
GRAPH_TOKENS_MAX = 2048  # about 5 MB each in the 3B's tower


class FeatureCache:
    """`n_encoded` counts the tokens of all images that went through the tower."""

    def __init__(self, policy: Policy, bytes_max: int = BYTES_MAX, graph_tokens_max: int = 0) -> None:
        self.policy, self.bytes_max, self.graph_tokens_max = policy, bytes_max, graph_tokens_max
        self.n_encoded = 0
        self._held: dict[str, Tensor] = {}  # in order of use
        self._graphs: dict[str, Tensor] = {}  # features of a trained tower with their graph, for one backward pass

    def get(self, images: Iterable[EncodedImage]) -> dict[str, Tensor]:
        """Features [n_tokens, hidden] by key; of a trained tower, where gradients are on, with a graph of their own."""
        distinct = {image.key: image for image in images}
        if torch.is_grad_enabled() and not self.policy.freeze_vision:
            waiting = {key: self._graphs.pop(key) for key in distinct if key in self._graphs}
            return waiting | self._encoded([image for key, image in distinct.items() if key not in waiting])
        found = {key: self._held.pop(key, None) for key in distinct}
        with torch.inference_mode(mode=False):  # an update may take what a rollout has encoded
            found = {key: self._shown(distinct[key]) if one is None else one for key, one in found.items()}
        self._held |= found
        self._shed()
        return found

    def _shown(self, image: EncodedImage) -> Tensor:
        """Without a graph; if there is room for it, the graph waits."""
        n_waiting = sum(len(one) for one in self._graphs.values())
        waits = not self.policy.freeze_vision and n_waiting + image.n_tokens <= self.graph_tokens_max
        with torch.set_grad_enabled(waits):
            features = self._encoded([image])
        if waits:
            self._graphs |= features
        return features[image.key].detach()

    def forget(self) -> None:
        """To be called when weights have changed; of a frozen tower it forgets nothing."""
        if not self.policy.freeze_vision:
            self._held.clear()
            self._graphs.clear()

    @property
    def n_bytes(self) -> int:
        return sum(one.nbytes for one in self._held.values())

    def _encoded(self, images: Sequence[EncodedImage]) -> dict[str, Tensor]:
        self.n_encoded += sum(image.n_tokens for image in images)
        return dict(zip((image.key for image in images), self.policy.encode(images), strict=True))

    def _shed(self) -> None:
        excess = self.n_bytes - self.bytes_max
        while excess > 0:
            excess -= self._held.pop(next(iter(self._held))).nbytes
