"""The two kinds of update: imitation of weighted episodes, and dual-stream GRPO. Each leaves gradients behind.

No optimizer here, no files: an update turns episodes into `.grad` and numbers for the log.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from trainer.batched import score_rows
from trainer.checkpoints import trained_parameters
from trainer.core.advantages import Stream
from trainer.environment import Episode
from trainer.groups import Group, counts, mean
from trainer.losses import RowDiagnostics, imitation_loss, row_diagnostics, row_loss, row_weight, sft_scale
from trainer.policy import Policy
from trainer.recipe import Recipe
from trainer.shared_prefix import group_backward, group_scores

Metrics = dict[str, float | None]
IMITATED_AT = 1.0  # temperature of plain imitation, whatever rollouts are sampled at


def imitate(policy: Policy, episodes: Sequence[Episode], weights: Sequence[Sequence[float]], recipe: Recipe) -> Metrics:
    """Gradient of −Σ w·log p / Σ w over the written tokens of all episodes; one weight per written token of each."""
    rows = [episode.row for episode in episodes]
    token_weights = [torch.tensor(each) for each in weights]
    total = sum(float(each.sum()) for each in token_weights)
    counted = {"tokens": float(sum(sum(row.is_written) for row in rows)), "rows": float(len(rows))}
    if total == 0:
        return {"loss": 0.0, **counted}  # nothing to learn, and nothing to divide by
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index].ids), index))
    loss = 0.0
    for batch in _batches(order, [len(row.ids) for row in rows], recipe.run.max_tokens):
        scores = score_rows(policy, [rows[index] for index in batch], IMITATED_AT, recompute=recipe.model.recompute)
        parts = [
            imitation_loss(one.logprobs, token_weights[index].to(one.logprobs))
            for index, one in zip(batch, scores, strict=True)
        ]
        share = torch.stack(parts).sum() / total
        share.backward()
        loss += float(share.detach())
    return {"loss": loss, **counted}


def _batches(order: Sequence[int], lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Runs of rows, shortest first, of at most `max_tokens` padded tokens each (at least one row)."""
    batches: list[list[int]] = []
    for index in order:
        if batches and (len(batches[-1]) + 1) * lengths[index] <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def dual_stream(
    policy: Policy, groups: Sequence[Group], recipe: Recipe, reference: Policy | None, *, split_streams: bool
) -> Metrics:
    """Gradient of the dual-stream objective over all groups, shared prefix by shared prefix.

    With `split_streams` the streams go through the model one after the other, so that the norm of each stream's
    gradient can be told; the sum is the same.
    """
    loss = recipe.loss
    pulls_all = max(loss.lambda_sft, loss.kl, loss.entropy_bonus) > 0  # terms that do not depend on the advantage
    kept = [one for one in groups if pulls_all or not one.advantages.is_dropped]
    update = _Update(policy, recipe, reference, groups)
    if not split_streams:
        for each in kept:
            update.run(each, ("policy", "expert"))
        return update.metrics()
    for each in kept:
        update.run(each, ("policy",))
    own = {name: one.grad.clone() for name, one in trained_parameters(policy).items() if one.grad is not None}
    for each in kept:
        update.run(each, ("expert",))
    norms = {"policy/grad_norm": _norm(own.values()), "expert/grad_norm": _norm(_others(policy, own))}
    return update.metrics() | norms


def _others(policy: Policy, own: dict[str, Tensor]) -> list[Tensor]:
    grads = {name: one.grad for name, one in trained_parameters(policy).items() if one.grad is not None}
    return [grad - own[name] if name in own else grad for name, grad in grads.items()]


def _norm(grads: Iterable[Tensor]) -> float:
    return float(torch.stack([grad.double().norm() for grad in grads] or [torch.zeros(())]).norm())


class _Update:
    """The running sums of one update; `run` adds one group's gradient."""

    def __init__(self, policy: Policy, recipe: Recipe, reference: Policy | None, groups: Sequence[Group]) -> None:
        self.policy, self.recipe, self.reference = policy, recipe, reference
        self.counts = counts(groups, recipe.loss.lambda_sft)
        self.loss = 0.0
        self.seen: dict[Stream, list[RowDiagnostics]] = {"policy": [], "expert": []}
        self.logprobs: dict[Stream, list[float]] = {"policy": [], "expert": []}

    def run(self, group: Group, streams: tuple[Stream, ...]) -> None:
        chosen = [index for index, one in enumerate(group.members) if one.stream in streams]
        if not chosen:
            return
        rows = [group.members[index].episode.row for index in chosen]
        run, config = self.recipe.run, self.recipe.loss
        wants_kl = self.reference is not None and config.kl > 0
        references = group_scores(self.reference, rows, run.temperature, run.max_tokens) if wants_kl else None

        def loss_of(at: int, logprobs: Tensor, entropies: Tensor) -> Tensor:
            reference = references[at].logprobs if references else None
            return self._row(group, chosen[at], logprobs, entropies, reference)

        group_backward(
            self.policy,
            rows,
            loss_of,
            run.temperature,
            run.max_tokens,
            recompute=self.recipe.model.recompute,
            entropy_has_grad=config.entropy_bonus > 0,
        )

    def _row(self, group: Group, index: int, logprobs: Tensor, entropies: Tensor, reference: Tensor | None) -> Tensor:
        stream, config = group.members[index].stream, self.recipe.loss
        advantage = group.advantages.values[index]
        loss = row_loss(
            logprobs, None, advantage, stream, config, reference_logprobs=reference, entropies=entropies
        ) * row_weight(len(logprobs), stream, self.counts, config)
        if stream == "expert" and config.lambda_sft > 0:
            loss = loss + sft_scale(self.counts, config) * imitation_loss(logprobs)
        self.seen[stream].append(row_diagnostics(logprobs.detach(), None, advantage, stream, config))
        self.logprobs[stream].append(float(logprobs.detach().exp().mean()))
        self.loss += float(loss.detach())
        return loss

    def metrics(self) -> Metrics:
        metrics: Metrics = {"loss": self.loss, **{key: float(value) for key, value in self.counts._asdict().items()}}
        for stream, rows in self.seen.items():
            plain = [asdict(one) for one in rows]
            for name in ("clip_fraction", "ratio_min", "ratio_max", "n_clamped", "zero_gradient_share"):
                metrics[f"{stream}/{name}"] = mean([float(one[name]) for one in plain])
            metrics[f"{stream}/token_probability"] = mean(self.logprobs[stream])
        return metrics
