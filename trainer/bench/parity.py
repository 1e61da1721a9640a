"""What is timed must be the same thing: gradients along the tree against independent rows, and against TRL's.

TRL's loss is asked directly, with recorded rollouts in place of its own; nothing is banned on either side, and both
divide by all written tokens (`dapo`).
"""

import torch
from torch import Tensor

from schemas.errors import TrainingError
from trainer.attention import NAME
from trainer.bench.case import Case, make_policy, recorded
from trainer.bench.updates import dapo
from trainer.policy import Policy
from trainer.self_check import self_check
from trainer.tree_update import tree_backward

SHARED_MAX, TRL_MAX = 1e-6, 1e-5  # relative; float64 and float32


def run(case: Case, _side: str) -> dict[str, float]:
    exact = _policy(case)
    exact.model.to(torch.float64)
    found = {"shared": self_check(exact, recorded(case, exact), tolerance=SHARED_MAX)}
    return found | (_against_trl(case) if case.against == "trl" else {})


def _policy(case: Case) -> Policy:
    """Untrained attention is almost flat and forgives every mistake."""
    policy = make_policy(case)
    for weight in policy.model.parameters():
        weight.data.mul_(3.0 if weight.ndim > 1 else 1.0)
    return policy


def _against_trl(case: Case) -> dict[str, float]:
    """|Δloss| / |loss| and the worst |Δg| / (|g| + 10⁻³·|all g|); TrainingError beyond the tolerance."""
    from trainer.bench.trl_steps import loss_asked

    policy = _policy(case)
    rows = recorded(case, policy)
    theirs = loss_asked(case, policy, rows)()
    theirs.backward()
    wanted = _gradients(policy)
    policy.model.eval()
    policy.language_model.config._attn_implementation = NAME
    policy.banned.zero_()
    losses: list[Tensor] = []
    loss_of = dapo(rows)
    tree_backward(policy, rows, lambda *scores: losses.append(loss_of(*scores)) or losses[-1])
    ours = _gradients(policy)
    total = torch.stack([one.norm() for one in wanted.values()]).norm()
    apart = [float((ours[name] - one).norm() / (one.norm() + 1e-3 * total)) for name, one in wanted.items()]
    found = {"trl_loss": abs(float(sum(losses) / theirs) - 1), "trl_gradient": max(apart)}
    if ours.keys() != wanted.keys() or not max(found.values()) <= TRL_MAX:
        raise TrainingError(f"our update and TRL's differ: {found} (tolerance {TRL_MAX:.0e})")
    return found


def _gradients(policy: Policy) -> dict[str, Tensor]:
    """Taken away."""
    found = {name: one.grad.double() for name, one in policy.model.named_parameters() if one.grad is not None}
    policy.model.zero_grad(set_to_none=True)
    return found
