"""The update of one group along its prefix tree: every shared token is run once, with its graph.

Keys and values of a node, its last hidden state and the features of each distinct crop are cut out of the graph and
become leaves. Continuations run in micro-batches and leave their gradients there; depth first, one backward per node
carries them on, at last through the prompt and the vision tower. Exact, not an approximation: `trainer.self_check`
compares with independent rows. Memory is the graphs on the current path, the vision graphs and one micro-batch.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from trainer.attention import Part
from trainer.batched import Batch, LaidRow, collate, lay_out, run, score
from trainer.caches import RecordingPast, SharedPast
from trainer.features import FeatureCache
from trainer.policy import Policy
from trainer.sequences import Scores, TokenRow
from trainer.tree import Node, plan


class Segment(NamedTuple):
    """Written tokens number begin … end − 1 of each of `rows`, which share them."""

    rows: tuple[int, ...]
    begin: int
    end: int


LossOf = Callable[[Segment, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Settings:
    """`max_tokens` bounds the padded tokens of a micro-batch; `is_flat` shares the prompt alone."""

    temperature: float = 1.0
    max_tokens: int = 8192
    recompute: bool = False
    entropy_has_grad: bool = False
    is_flat: bool = False


class Boundary:
    """Where one graph ends and others begin: outputs with a graph, and leaves that stand for them."""

    def __init__(self) -> None:
        self._pairs: list[tuple[torch.Tensor, torch.Tensor]] = []

    def cut(self, output: torch.Tensor) -> torch.Tensor:
        """A leaf with the value of `output`, whose gradient is at least float32, so that micro-batches add up in it."""
        leaf = output.detach()
        if output.requires_grad:
            leaf.requires_grad_().grad_dtype = torch.promote_types(output.dtype, torch.float32)
            self._pairs.append((output, leaf))
        return leaf

    def backward(self, loss: torch.Tensor | None = None) -> None:
        """One pass for `loss` and what reached the leaves; a leaf that no loss reached is skipped."""
        reached = [(output, leaf.grad.to(output.dtype)) for output, leaf in self._pairs if leaf.grad is not None]
        if loss is not None and loss.requires_grad:
            reached.append((loss, torch.ones_like(loss)))
        if reached:
            torch.autograd.backward(*zip(*reached, strict=True))


@dataclass(frozen=True, slots=True)
class _Path:
    """What lies before a node, as leaves: parts per layer and the last hidden state [1, hidden]."""

    parts: list[list[Part]] = field(default_factory=list)
    last_hidden: torch.Tensor | None = None


def tree_backward(
    policy: Policy,
    rows: Sequence[TokenRow],
    loss_of: LossOf,
    settings: Settings = Settings(),
    streams: Sequence[Hashable] | None = None,
    features: FeatureCache | None = None,
) -> list[Scores]:
    """Adds the gradient of Σ loss_of(segment, logprobs, entropies) to `.grad`; returns detached scores per row.

    `loss_of` returns the share of a segment for all its rows, already divided by the global counts.
    """
    laid = [lay_out(row, policy.image_id) for row in rows]
    root = plan(rows, [one.spans for one in laid], streams, is_flat=settings.is_flat)
    group = _Run(policy, laid, loss_of, settings)
    group.node(root, _Path(), FeatureCache(policy) if features is None else features)
    return [group.scores_of(row) for row in range(len(rows))]


@torch.no_grad()
def tree_scores(
    policy: Policy, rows: Sequence[TokenRow], settings: Settings = Settings(), features: FeatureCache | None = None
) -> list[Scores]:
    """The same scores without a graph (reference log-probabilities, old log-probabilities)."""
    return tree_backward(policy, rows, lambda _, logprobs, __: logprobs.sum(), settings, features=features)


def micro_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices, longest first, in runs of at most `max_tokens` padded tokens (at least one each)."""
    runs: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
        if runs and (len(runs[-1]) + 1) * max(1, lengths[runs[-1][0]]) <= max_tokens:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


class _Run:
    """One group under way."""

    def __init__(self, policy: Policy, laid: Sequence[LaidRow], loss_of: LossOf, settings: Settings) -> None:
        self.policy, self.laid, self.loss_of, self.settings = policy, laid, loss_of, settings
        self.features: dict[str, torch.Tensor] = {}
        self.scores: list[list[Scores]] = [[] for _ in laid]

    def node(self, node: Node, before: _Path, images: FeatureCache | None = None) -> None:
        """Runs the node, then its leaves and children, then its backward; the root also encodes all images."""
        boundary, past = Boundary(), RecordingPast(before.parts)
        fresh = self._encoded(boundary, images) if images is not None else {}
        batch = collate([self.laid[node.rows[0]]], node.begin, node.end)
        hidden = run(self.policy, batch, past, self.features | fresh)
        loss = self._loss(batch, hidden, before, [node.rows])
        new = [(boundary.cut(keys), boundary.cut(values)) for keys, values in past.layers]
        parts = [[*old, part] for old, part in zip(before.parts or [[]] * len(new), new, strict=True)]
        path = _Path(parts, boundary.cut(hidden[:, -1]))
        self._leaves(node, path)
        for child in node.children:
            self.node(child, path)
        boundary.backward(loss)

    def _encoded(self, boundary: Boundary, images: FeatureCache) -> dict[str, torch.Tensor]:
        """Each distinct image once: leaves for continuations, and features with their graph for the prompt."""
        features = images.get(image for one in self.laid for image in one.row.images)
        later = {span.image.key for one in self.laid for span in one.spans if span.start >= one.row.n_prompt}
        self.features = {key: boundary.cut(features[key]) for key in sorted(later)}
        return features

    def _leaves(self, node: Node, path: _Path) -> None:
        lengths = [self.laid[row].row.written_at[-1] - node.end for row in node.leaves]
        past = SharedPast(path.parts)
        for some in micro_batches(lengths, self.settings.max_tokens):
            rows = [node.leaves[one] for one in some]
            batch = collate([self.laid[row] for row in rows], node.end)
            hidden = run(self.policy, batch, past, self.features, recompute=self.settings.recompute)
            loss = self._loss(batch, hidden, path, [(row,) for row in rows])
            if loss is not None and loss.requires_grad:
                loss.backward()

    def _loss(
        self, batch: Batch, hidden: torch.Tensor, before: _Path, rows: Sequence[tuple[int, ...]]
    ) -> torch.Tensor | None:
        """Of the batch's written tokens, whose scores are noted; the token after a path is scored from its last."""
        if not len(batch.targets):
            return None
        losses, settings = [], self.settings
        scored = score(
            self.policy,
            batch,
            hidden,
            settings.temperature,
            before=before.last_hidden,
            entropy_has_grad=settings.entropy_has_grad,
        )
        for own, scores in zip(rows, scored, strict=True):
            begin = sum(len(one.logprobs) for one in self.scores[own[0]])
            losses.append(self.loss_of(Segment(own, begin, begin + len(scores.logprobs)), *scores))
            for row in own:
                self.scores[row].append(Scores(*(one.detach() for one in scores)))
        return sum(losses)

    def scores_of(self, row: int) -> Scores:
        dtype = torch.promote_types(self.policy.head_weight.dtype, torch.float32)
        nothing = Scores(*(torch.zeros(0, dtype=dtype, device=self.policy.device),) * 2)
        return Scores(*(torch.cat(parts) for parts in zip(nothing, *self.scores[row], strict=True)))
