"""Processes that train together: which one this is, and what all of them know when they put it together.

torchrun starts them, accelerate places them; one process alone needs neither and pays nothing. There is no wrapper
around the model and no hook in its backward pass: what must be summed is summed here, once per step, in an order that
does not depend on who was faster. Every method is a collective: all ranks call it, in the same order. Records travel
as JSON: nothing is unpickled.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import timedelta
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor

PATIENCE = timedelta(minutes=30)  # for the slowest rank's rollouts; the death of one ends all at once, by torchrun
BUCKET_ELEMENTS = 1 << 26  # of one all-reduce: 256 MB in float32

One = TypeVar("One")


@dataclass(frozen=True)
class Ranks:
    """Rank `rank` of `world`, on `device`."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @classmethod
    def start(cls, device: str) -> "Ranks":
        """This process among those that torchrun started with it, if it did."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(device=device)
        from accelerate import PartialState

        state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
        return cls(state.process_index, state.num_processes, "cpu" if device == "cpu" else str(state.device))

    def stop(self) -> None:
        """At the end of a run; a process that dies instead is noticed by torchrun."""
        if self.world > 1:
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def gather(self, one: One, kind: Any = None) -> list[One]:
        """What every rank has, in the order of ranks: plain values, or light records where their `kind` is given."""
        if self.world == 1:
            return [one]
        told = torch.frombuffer(bytearray(json.dumps(one, default=asdict).encode()), dtype=torch.uint8).to(self.device)
        sizes = torch.zeros(self.world, dtype=torch.long, device=self.device)
        sizes[self.rank] = len(told)
        dist.all_reduce(sizes)
        everyone = [told.new_empty(int(sizes.max())) for _ in range(self.world)]
        dist.all_gather(everyone, torch.nn.functional.pad(told, (0, len(everyone[0]) - len(told))))
        texts = [each[:n].cpu().numpy().tobytes() for each, n in zip(everyone, sizes.tolist(), strict=True)]
        return [record_of(kind, json.loads(text)) for text in texts]

    def total(self, *numbers: float) -> list[float]:
        """Each number summed over all ranks."""
        return [sum(values) for values in zip(*self.gather(numbers), strict=True)]

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()

    def sum_all(self, tensors: Iterable[Tensor]) -> None:
        """Sums each tensor over all ranks, in place, in flat buckets of at least float32; all bring the same shapes."""
        if self.world > 1:
            for bucket in _buckets(list(tensors)):
                exact = torch.promote_types(bucket[0].dtype, torch.float32)
                flat = torch.cat([one.reshape(-1).to(exact) for one in bucket])
                dist.all_reduce(flat)
                for one, part in zip(bucket, flat.split([one.numel() for one in bucket]), strict=True):
                    one.copy_(part.view_as(one))

    def reached(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Those of `weights` that have a gradient on some rank; where it is missing here, zeros stand for it now."""
        if self.world > 1 and weights:
            flags = torch.tensor([one.grad is not None for one in weights], dtype=torch.int32, device=weights[0].device)
            dist.all_reduce(flags)
            for one, n in zip(weights, flags.tolist(), strict=True):
                if n and one.grad is None:
                    one.grad = torch.zeros_like(one, dtype=one.grad_dtype)
        return [one for one in weights if one.grad is not None]


ALONE = Ranks()


def record_of(kind: Any, plain: Any) -> Any:
    """Dataclasses, and lists and tuples of one type, as `asdict` and JSON have left them; anything else as it is."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: record_of(hints[name], value) for name, value in plain.items()})
    if get_origin(kind) in (list, tuple):
        return get_origin(kind)(record_of(get_args(kind)[0], one) for one in plain)
    return plain


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Runs of tensors of one dtype, in order, of at most BUCKET_ELEMENTS (at least one tensor)."""
    buckets: list[list[Tensor]] = []
    room = 0
    for one in tensors:
        room -= one.numel()
        if not buckets or room < 0 or buckets[-1][0].dtype != one.dtype:
            buckets.append([])
            room = BUCKET_ELEMENTS - one.numel()
        buckets[-1].append(one)
    return buckets


def part_like(weight: Tensor, value: Tensor) -> Tensor:
    """`value` where `weight` is: on its device, and this rank's part of it if the weight is in parts."""
    value = value.to(weight.device)
    if not isinstance(weight, DTensor):
        return value
    return distribute_tensor(value, weight.device_mesh, weight.placements, src_data_rank=None)
