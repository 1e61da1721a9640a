"""Weights, gradients and optimizer in parts: torch's FSDP2 over decoder layers and trained vision blocks.

none    every rank holds everything; gradients are summed once per step (DDP without a wrapper)
zero2   weights are gathered once per step, gradients reduce-scattered once at its end: ragged work needs no plan
zero3   decoder layers are gathered where they run and their gradients reduce-scattered in every backward pass, so
        all ranks must run them equally often (`trainer.pacing`); the rest as in zero2

Embedding, norms, head, patch embedding and merger stay whole. Rollouts always decode on weights gathered once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Partial

from schemas.errors import UsageError
from trainer.checkpoints import trained_parameters
from trainer.environment import Episode
from trainer.pacing import Paced, calls_of
from trainer.policy import Policy
from trainer.ranks import Ranks
from trainer.recipe import Sharding
from trainer.tree_update import micro_batches


class Shards:
    """A policy's weights as this rank holds them; between steps they are in parts."""

    def __init__(self, policy: Policy, kind: Sharding, ranks: Ranks) -> None:
        if kind != "none" and ranks.world == 1:
            raise UsageError(
                f"{kind} needs more than one process",
                where="run.sharding",
                fix="start with torchrun, or set run.sharding=none",
            )
        self.policy, self.kind, self.ranks = policy, kind, ranks
        layers = list(policy.language_model.layers)
        tower = [] if policy.freeze_vision else list(policy.visual.blocks)
        self.blocks: list[FSDPModule] = [] if kind == "none" else self._split(layers + tower)
        self.paced: list[FSDPModule] = self.blocks[: len(layers)] if kind == "zero3" else []
        self._sums: dict[nn.Parameter, Tensor] = {}
        for block in self.blocks:
            _be_quiet(block, is_quiet=True)
        for weight in _half([one for layer in self.paced for one in layer.parameters()]):
            weight.register_post_accumulate_grad_hook(self._add)

    def _split(self, blocks: Sequence[nn.Module]) -> list[FSDPModule]:
        mesh = init_device_mesh(self.policy.device.type, (self.ranks.world,))
        exact = MixedPrecisionPolicy(reduce_dtype=torch.promote_types(self.policy.head_weight.dtype, torch.float32))
        for block in blocks:
            fully_shard(block, mesh=mesh, mp_policy=exact)
            block.set_gradient_divide_factor(1.0)  # losses are divided by global counts: a sum, not a mean
            block.set_force_sum_reduction_for_comms(True)
        return list(blocks)

    def gather(self) -> None:
        """At the beginning of a step: whole weights on every rank, which may then run what it likes."""
        for block in self.blocks:
            block.unshard()
            for weight in _half(block.parameters()):
                weight.grad_dtype = torch.float32  # as the optimizer has it

    def for_groups(self, groups: Sequence[Sequence[Episode]], max_tokens: int) -> AbstractContextManager[Policy]:
        """The policy that all ranks run alike, each with the prefix trees of its own groups."""
        return self._in_step(lambda: [calls_of(self.policy, one, max_tokens) for one in groups])

    def for_rows(self, episodes: Sequence[Episode], max_tokens: int) -> AbstractContextManager[Policy]:
        """The same for independent rows, which have no prefix."""
        lengths = [len(one.ids) for one in episodes]
        return self._in_step(lambda: [len(micro_batches(lengths, max_tokens))], has_prefixes=False)

    @contextmanager
    def _in_step(self, calls: Callable[[], Sequence[int]], *, has_prefixes: bool = True) -> Iterator[Policy]:
        if not self.paced:
            yield self.policy
            return
        for layer in self.paced:
            layer.reshard()
            _be_quiet(layer, is_quiet=False)
            for weight in _half(layer.parameters()):
                weight.grad_dtype = None  # FSDP2 hands over what a backward pass gave in the weight's own type
        paced = Paced(self.policy, self.ranks, calls(), has_prefixes=has_prefixes)
        yield paced
        paced.finish()
        for layer in self.paced:
            _be_quiet(layer, is_quiet=True)

    def _add(self, weight: nn.Parameter) -> None:
        """Sums over the backward passes of a step, in float32."""
        part, weight.grad = weight.grad.float(), None
        self._sums[weight] = self._sums[weight].add_(part) if weight in self._sums else part

    def reduce(self) -> None:
        """At the end of a step: gradients of all ranks in `.grad`, weights in parts again."""
        before = trained_parameters(self.policy)
        for block in self.blocks:
            block.reshard()
        after = trained_parameters(self.policy)
        split = [name for name in after if after[name] is not before[name]]
        whole = [weight for weight in after.values() if not isinstance(weight, DTensor)]
        self.ranks.reached([before[name] for name in split])
        for name in split:
            gradient, before[name].grad = before[name].grad, None
            if gradient is not None:
                after[name].grad = _scattered(gradient, after[name])
        self.ranks.sum_all(one.grad for one in self.ranks.reached(whole))
        for weight, total in self._sums.items():
            weight.grad_dtype, weight.grad = torch.float32, total
        self._sums = {}

    def summed(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gradients by name, summed over all ranks, whole; those given stay as they are."""
        if self.ranks.world == 1:
            return grads
        names = sorted(set().union(*self.ranks.gather(list(grads))))
        weights = trained_parameters(self.policy)
        sums = {name: grads[name].clone() if name in grads else torch.zeros_like(weights[name]) for name in names}
        self.ranks.sum_all(sums.values())
        return sums

    def clip(self, norm_max: float) -> float:
        """The norm of the whole gradient, which is scaled down to `norm_max` if it is larger."""
        grads = [one.grad for one in trained_parameters(self.policy).values() if one.grad is not None]
        if not grads:
            return 0.0
        parts = [one.to_local() for one in grads if isinstance(one, DTensor)]
        whole = [one for one in grads if not isinstance(one, DTensor)]
        norm = torch.nn.utils.get_total_norm(whole)
        if parts:
            squares = torch.nn.utils.get_total_norm(parts).double().square()
            self.ranks.sum_all([squares])
            norm = (norm.double().square() + squares).sqrt().to(norm.dtype)
        coefficient = (norm_max / (norm + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_
        for one in whole + parts:
            one.mul_(coefficient.to(one.device))
        return float(norm)

    @contextmanager
    def whole(self, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """Inside, the first rank has weights and optimizer state as one that trains alone has them, to be saved."""
        split: list[tuple[nn.Module, str, nn.Parameter, nn.Parameter]] = []
        for block in self.blocks:
            for module in block.modules():
                for name, weight in list(module.named_parameters(recurse=False)):
                    state = {kind: _full(value) for kind, value in optimizer.state.get(weight, {}).items()}
                    stand_in = nn.Parameter(_full(weight.detach()), requires_grad=weight.requires_grad)
                    if self.ranks.is_first:
                        split.append((module, name, weight, stand_in))
                        setattr(module, name, stand_in)
                        optimizer.state[stand_in] = state
        yield
        for module, name, weight, stand_in in split:
            setattr(module, name, weight)
            del optimizer.state[stand_in]


def _half(weights: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Trained ones of less than 32 bits, whose gradient is float32."""
    return [one for one in weights if one.requires_grad and one.dtype.itemsize < 4]


def _be_quiet(block: FSDPModule, *, is_quiet: bool) -> None:
    """Whether the block leaves it to others to gather its weights and to reduce its gradients."""
    block.set_reshard_after_forward(not is_quiet)
    block.set_reshard_after_backward(not is_quiet)
    block.set_requires_gradient_sync(not is_quiet)


def _scattered(gradient: Tensor, weight: DTensor) -> DTensor:
    """This rank's part of a gradient summed over all ranks."""
    exact = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    partial = DTensor.from_local(exact, weight.device_mesh, [Partial()], run_check=False)
    return partial.redistribute(placements=weight.placements).to(weight.grad_dtype)


def _full(value: Tensor) -> Tensor:
    """On the CPU: for files, and one at a time."""
    return (value.full_tensor() if isinstance(value, DTensor) else value).cpu()
