"""Before a run begins: one group along its prefix tree against the same rows run independently.

What could part them – a library's new attention path, a position counted otherwise – would train the wrong thing
without a sign. A run that fails this check does not start.
"""

from collections.abc import Callable, Sequence

import torch

from schemas.errors import TrainingError
from trainer.batched import score_rows
from trainer.policy import Policy
from trainer.sequences import Scores, TokenRow
from trainer.tree_update import Segment, Settings, tree_backward

TOLERANCE = {  # nats; bfloat16 rounds by itself to 0.02 in a tiny model
    torch.float64: 1e-6,
    torch.float32: 5e-3,
    torch.bfloat16: 0.25,
}


def self_check(
    policy: Policy, rows: Sequence[TokenRow], temperature: float = 1.0, tolerance: float | None = None
) -> float:
    """The largest difference between the tree and independent rows; TrainingError beyond `tolerance`.

    Compared are log-probabilities (absolute, nats) and every parameter's gradient, |Δg| / (|g| + 10⁻³·|all g|),
    of one loss with unequal token weights. Gradients that were there before come back.
    """
    tolerance = TOLERANCE[policy.head_weight.dtype] if tolerance is None else tolerance
    settings = Settings(temperature)
    trained = {name: weight for name, weight in policy.model.named_parameters() if weight.requires_grad}
    before = {name: weight.grad for name, weight in trained.items()}
    try:
        alone, alone_grads = _probe(trained, lambda: _independent_backward(policy, rows, temperature))
        shared, shared_grads = _probe(trained, lambda: tree_backward(policy, rows, _probe_loss, settings))
    finally:
        for name, weight in trained.items():
            weight.grad = before[name]
    total = torch.stack([grad.double().norm() for grad in alone_grads.values()]).norm()
    off = torch.cat([a.logprobs - b.logprobs for a, b in zip(alone, shared, strict=True)]).abs().max()
    apart = {"log-probabilities": off.double()}
    apart |= {name: _apart(grad, shared_grads.get(name), total) for name, grad in alone_grads.items()}
    worst, at = torch.stack(list(apart.values())).max(0)  # NaN is the largest
    if not worst <= tolerance or alone_grads.keys() != shared_grads.keys():
        raise TrainingError(
            f"the prefix tree and independent rows differ by {worst:.2e} (tolerance {tolerance:.0e})",
            where=list(apart)[at],
            fix="do not train with these versions, or raise the tolerance if the weights are bfloat16",
        )
    return float(worst)


def _probe_loss(segment: Segment, logprobs: torch.Tensor, _entropies: torch.Tensor) -> torch.Tensor:
    """Σ over the segment's rows of cos(t + row)·ℓ_t, t = number of the written token."""
    at = torch.arange(segment.begin, segment.end, device=logprobs.device)
    return sum((torch.cos(at + row) * logprobs).sum() for row in segment.rows)


def _independent_backward(policy: Policy, rows: Sequence[TokenRow], temperature: float) -> list[Scores]:
    scores = score_rows(policy, rows, temperature)
    sum(_probe_loss(Segment((i,), 0, len(one.logprobs)), *one) for i, one in enumerate(scores)).backward()
    return [Scores(*(values.detach() for values in score)) for score in scores]


def _probe(trained: dict[str, torch.nn.Parameter], backward: Callable[[], list[Scores]]):
    """Scores and gradients of one backward that starts from none."""
    for weight in trained.values():
        weight.grad = None
    scores = backward()
    return scores, {name: weight.grad for name, weight in trained.items() if weight.grad is not None}


def _apart(grad: torch.Tensor, other: torch.Tensor | None, total: torch.Tensor) -> torch.Tensor:
    difference = grad if other is None else grad - other
    return difference.double().norm() / (grad.double().norm() + 1e-3 * total)
