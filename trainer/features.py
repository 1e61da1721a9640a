"""What images look like to the policy, by their content: each is encoded once for as long as it is held.

A frozen tower gives the same features in every step, so they are held across steps and updates, the least recently
used going first; a trained one must `forget` them when its weights have changed. Every image goes through the tower
alone: its features depend on nothing that was encoded beside it, nor on what a run that was killed had still held.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from trainer.policy import Policy
from trainer.sequences import EncodedImage

BYTES_MAX = 1 << 30


class FeatureCache:
    """`n_encoded` counts the tokens of all images that went through the tower."""

    def __init__(self, policy: Policy, bytes_max: int = BYTES_MAX) -> None:
        self.policy, self.bytes_max = policy, bytes_max
        self.n_encoded = 0
        self._held: dict[str, Tensor] = {}  # in order of use

    def get(self, images: Iterable[EncodedImage]) -> dict[str, Tensor]:
        """Features [n_tokens, hidden] by key; of a trained tower, where gradients are on, new ones with their graph."""
        distinct = {image.key: image for image in images}
        if torch.is_grad_enabled() and not self.policy.freeze_vision:
            return {key: self._encoded(image) for key, image in distinct.items()}
        with torch.inference_mode(mode=False), torch.no_grad():  # an update may take what a rollout has encoded
            found = {key: self._held.pop(key, None) for key in distinct}
            found = {key: self._encoded(distinct[key]) if one is None else one for key, one in found.items()}
        self._held |= found
        self._shed()
        return found

    def forget(self) -> None:
        """To be called when weights have changed; of a frozen tower it forgets nothing."""
        if not self.policy.freeze_vision:
            self._held.clear()

    @property
    def n_bytes(self) -> int:
        return sum(one.nbytes for one in self._held.values())

    def _encoded(self, image: EncodedImage) -> Tensor:
        self.n_encoded += image.n_tokens
        return self.policy.encode([image])[0]

    def _shed(self) -> None:
        excess = self.n_bytes - self.bytes_max
        while excess > 0:
            excess -= self._held.pop(next(iter(self._held))).nbytes
