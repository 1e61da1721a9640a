"""The two kinds of update: imitation of weighted episodes, and dual-stream GRPO. Each leaves gradients behind.

No optimizer here, no files: an update turns episodes into `.grad` and numbers for the log.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.batched import score_rows
from trainer.checkpoints import trained_parameters
from trainer.core.advantages import Stream
from trainer.environment import Episode
from trainer.facts import Metrics, RowFacts, row_facts, row_metrics
from trainer.features import FeatureCache
from trainer.groups import Group
from trainer.losses import Counts, LossConfig, Sums, imitation_loss, row_weight, sft_scale, token_loss
from trainer.policy import Policy
from trainer.recipe import Recipe
from trainer.sequences import Scores, TokenRow
from trainer.tree_update import Segment, Settings, micro_batches, tree_backward, tree_scores

IMITATED_AT = 1.0  # temperature of plain imitation, whatever rollouts are sampled at


def imitate(
    policy: Policy, episodes: Sequence[Episode], weights: Sequence[Sequence[float]], recipe: Recipe, total: float
) -> Metrics:
    """Gradient of −Σ w·log p / `total` over the written tokens of all episodes; one weight per written token of each.

    `total` is Σ w over all ranks.
    """
    rows = [episode.row for episode in episodes]
    counted = {"tokens": float(sum(sum(row.is_written) for row in rows)), "rows": float(len(rows))}
    if total == 0:
        return {"loss": 0.0, **counted}  # nothing to learn, and nothing to divide by
    losses = []
    for batch in micro_batches([len(row.ids) for row in rows], recipe.run.max_tokens):
        scores = score_rows(policy, [rows[index] for index in batch], IMITATED_AT, recompute=recipe.model.recompute)
        parts = zip(scores, (torch.tensor(weights[index], device=policy.device) for index in batch), strict=True)
        loss = sum(imitation_loss(one.logprobs, each) for one, each in parts) / total
        loss.backward()
        losses.append(loss.detach())
    return {"loss": float(sum(losses)), **counted}


@dataclass(frozen=True, slots=True)
class Updated:
    """What an update leaves beside the gradients, of this rank's groups; `norms` are of all ranks."""

    loss: float
    rows: list[RowFacts]
    norms: Metrics


def update_metrics(loss: float, rows: Sequence[RowFacts], counts: Counts) -> Metrics:
    """The log's share of an update, of all ranks together."""
    return {"loss": loss, **{key: float(value) for key, value in counts._asdict().items()}} | row_metrics(rows)


def pulling(groups: Sequence[Group], loss: LossConfig) -> list[Group]:
    """The groups that leave a gradient: without one advantage, by terms that do not depend on it."""
    pulls_all = max(loss.lambda_sft, loss.kl, loss.entropy_bonus) > 0
    return [one for one in groups if pulls_all or not one.advantages.is_dropped]


Summed = Callable[[dict[str, Tensor]], dict[str, Tensor]]  # over all ranks


def dual_stream(
    policy: Policy,
    groups: Sequence[Group],
    recipe: Recipe,
    counts: Counts,
    reference: Policy | None = None,
    *,
    features: FeatureCache | None = None,
    norms_of: Summed | None = None,
) -> Updated:
    """Gradient of the dual-stream objective over all groups, prefix tree by prefix tree; `counts` are global.

    With `norms_of` the streams go through the model one after the other, so that the norm of each stream's gradient
    can be told; the sum is the same.
    """
    kept = pulling(groups, recipe.loss)
    update = _Update(policy, recipe, counts, reference, features)
    if norms_of is None:
        for each in kept:
            update.run(each, ("policy", "expert"))
        return update.done()
    for each in kept:
        update.run(each, ("policy",))
    own = _taken(policy)
    for each in kept:
        update.run(each, ("expert",))
    others = _taken(policy)
    norms = {"policy/grad_norm": _norm(norms_of(own)), "expert/grad_norm": _norm(norms_of(others))}
    for name, weight in trained_parameters(policy).items():
        parts = [grads[name] for grads in (own, others) if name in grads]
        weight.grad = parts[0].add_(parts[1]) if len(parts) == 2 else next(iter(parts), None)
    return update.done(norms)


def _taken(policy: Policy) -> dict[str, Tensor]:
    """The gradients so far, by name; the weights begin again without."""
    grads = {}
    for name, weight in trained_parameters(policy).items():
        if weight.grad is not None:
            grads[name], weight.grad = weight.grad, None
    return grads


def _norm(grads: dict[str, Tensor]) -> float:
    return float(torch.nn.utils.get_total_norm(grads.values()))


class _Update:
    """The running sums of one update; `run` adds one group's gradient."""

    def __init__(
        self, policy: Policy, recipe: Recipe, counts: Counts, reference: Policy | None, features: FeatureCache | None
    ) -> None:
        self.policy, self.recipe, self.counts, self.features = policy, recipe, counts, features
        self.reference = reference if recipe.loss.kl > 0 else None
        run = recipe.run
        self.settings = Settings(
            run.temperature,
            run.max_tokens,
            recipe.model.recompute,
            entropy_has_grad=recipe.loss.entropy_bonus > 0,
            is_flat=run.sharding == "zero3",  # ranks must run alike, whatever their trees
        )
        self.losses: list[Tensor] = []
        self.rows: list[RowFacts] = []

    def done(self, norms: Metrics | None = None) -> Updated:
        return Updated(float(sum(self.losses)), self.rows, norms or {})

    def run(self, group: Group, streams: tuple[Stream, ...]) -> None:
        chosen = [index for index, one in enumerate(group.members) if one.stream in streams]
        if not chosen:
            return
        rows = [group.members[index].episode.row for index in chosen]
        references = self._references(rows, [group.members[index].stream for index in chosen])

        def loss_of(segment: Segment, logprobs: Tensor, entropies: Tensor) -> Tensor:
            known = references[segment.rows[0]][segment.begin : segment.end] if references else None
            return self._loss(group, [chosen[row] for row in segment.rows], logprobs, entropies, known)

        names = [self._stream(group, index) for index in chosen]
        scores = tree_backward(self.policy, rows, loss_of, self.settings, names, self.features)
        self._note(group, chosen, scores, references)

    def _references(self, rows: Sequence[TokenRow], streams: Sequence[Stream]) -> list[Tensor]:
        """Log-probabilities of the reference, NaN for experts, whom it does not concern; none without a KL term."""
        held = [row for row, stream in enumerate(streams) if stream == "policy"]
        if self.reference is None or not held:
            return []
        features = self.features if self.policy.freeze_vision else None  # a tower that both have alike
        scores = tree_scores(self.reference, [rows[row] for row in held], self.settings, features)
        known = dict(zip(held, (one.logprobs for one in scores), strict=True))
        return [known.get(row, torch.full((sum(one.is_written),), math.nan)) for row, one in enumerate(rows)]

    def _stream(self, group: Group, index: int) -> Hashable:
        """What the rows must have in common to share a written token."""
        stream = group.members[index].stream
        return (stream, index) if stream == "expert" and self.recipe.loss.needs_whole_rows else stream

    def _loss(
        self, group: Group, members: Sequence[int], logprobs: Tensor, entropies: Tensor, reference: Tensor | None
    ) -> Tensor:
        """Of tokens that `members`, all of one stream, share."""
        config, stream = self.recipe.loss, group.members[members[0]].stream
        weights = [
            row_weight(sum(group.members[index].episode.is_written), stream, self.counts, config) for index in members
        ]
        sums = Sums.of([group.advantages.values[index] for index in members], weights)
        loss = token_loss(logprobs, None, sums, stream, config, reference_logprobs=reference, entropies=entropies)
        if stream == "expert" and config.lambda_sft > 0:
            loss = loss + len(members) * sft_scale(self.counts, config) * imitation_loss(logprobs)
        self.losses.append(loss.detach())
        return loss

    def _note(
        self, group: Group, members: Sequence[int], scores: Sequence[Scores], references: Sequence[Tensor]
    ) -> None:
        parts = [[one.logprobs for one in scores], [one.entropies for one in scores]]
        parts += [[one.to(scores[0].logprobs) for one in references]] if references else []
        seen = torch.stack([torch.cat(part) for part in parts]).cpu()  # one transfer for all rows
        for index, row in zip(members, seen.split([len(one.logprobs) for one in scores], dim=1), strict=True):
            stream, advantage = group.members[index].stream, group.advantages.values[index]
            self.rows.append(row_facts(stream, advantage, self.recipe.loss, *row))
