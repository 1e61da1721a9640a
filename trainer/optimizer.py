"""AdamW that keeps a float32 master of each half-precision weight, so that small steps add up.

A step of 1e-6 is far below half a unit in the last place of a bfloat16 weight of 0.02 (6e-5): rounded to the weight at
once, it is lost every time. Weights of 32 bits or more are torch's own fused AdamW, to the bit: it holds nothing
beside the state. Nothing is clipped or scheduled here.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

MASTER = "master"  # its name in the state of a weight, beside AdamW's moments


class MasterAdamW(torch.optim.AdamW):
    """Weight = master, rounded. Master, moments and gradient are float32.

    `.grad` of a half-precision weight becomes float32 itself: the sum over micro-batches, and what clipping sees.
    A cleared `state` begins again from the weights as they are. Weights in parts (`trainer.sharding`) are a group of
    their own, which is not fused.
    """

    def __init__(self, weights: Iterable[torch.nn.Parameter], *, lr: float = 0.0, weight_decay: float = 0.0) -> None:
        weights = list(weights)
        kinds = {fused: [one for one in weights if isinstance(one, DTensor) != fused] for fused in (True, False)}
        groups = [{"params": some, "fused": fused} for fused, some in kinds.items() if some]
        super().__init__(groups, lr=lr, weight_decay=weight_decay)
        for weight in weights:
            if _is_half(weight):
                weight.grad_dtype = torch.float32

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """AdamW on the masters in place of their weights; a weight without a gradient is left alone."""
        weights = [group["params"] for group in self.param_groups]
        for group, own in zip(self.param_groups, weights, strict=True):
            for counted in (self.state[one] for one in own if group["fused"] and one in self.state):
                counted["step"] = counted["step"].to(counted["exp_avg"].device)  # from a file it is on the CPU
            group["params"] = [self._master(one) if _is_half(one) and one.grad is not None else one for one in own]
        super().step()
        for group, own in zip(self.param_groups, weights, strict=True):
            for weight, stepped in zip(own, group["params"], strict=True):
                if stepped is not weight:
                    weight.copy_(stepped)
                    self.state[weight] = {**self.state.pop(stepped), MASTER: stepped}
                    stepped.grad = None
            group["params"] = own

    def _master(self, weight: torch.nn.Parameter) -> Tensor:
        """The master with the gradient and the moments of its weight."""
        state = self.state.pop(weight, {})
        master = state.pop(MASTER) if state else weight.float()
        master.grad = weight.grad
        if state:
            self.state[master] = state
        return master


def _is_half(weight: Tensor) -> bool:
    return weight.dtype.itemsize < 4
