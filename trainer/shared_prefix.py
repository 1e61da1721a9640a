"""The update of one group: rows with one prompt and its images, which is run once.

Three kinds of tensors are cut out of the graph and become leaves: features of each distinct crop,
keys and values of the prompt, the prompt's last hidden state. Continuations run in micro-batches
and leave their gradients in the leaves; one backward at the end carries those through the prompt
and the vision tower. Exact, not an approximation: `self_check` compares with independent rows.
Memory is one prompt graph, the crops' vision graphs and one micro-batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from schemas.errors import InputError, TrainingError
from trainer.batched import collate, encode_distinct, score_rows, split_scores
from trainer.caches import PrefixCache, RecordingCache
from trainer.head import token_scores
from trainer.policy import Placed, Policy
from trainer.positions import position_ids
from trainer.sequences import ImageSpan, Scores, TokenRow, image_spans

LossOf = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]


class Boundary:
    """Where one graph ends and others begin: outputs with a graph, and leaves that stand for them."""

    def __init__(self) -> None:
        self._pairs: list[tuple[torch.Tensor, torch.Tensor]] = []

    def cut(self, output: torch.Tensor) -> torch.Tensor:
        """A leaf with the value of `output`, at least float32 so that micro-batches sum exactly."""
        leaf = output.detach().to(torch.promote_types(output.dtype, torch.float32))
        if output.requires_grad:
            self._pairs.append((output, leaf.requires_grad_()))
        return leaf

    def backward(self) -> None:
        """Carries the leaves' gradients on; a leaf that no loss reached is skipped."""
        reached = [(output, leaf.grad.to(output.dtype)) for output, leaf in self._pairs if leaf.grad is not None]
        if reached:
            torch.autograd.backward(*zip(*reached, strict=True))


@dataclass(frozen=True, slots=True)
class Prefix:
    """The shared prompt as leaves: `last_hidden` [1, hidden], keys and values, features of crops by image key."""

    last_hidden: torch.Tensor
    cache: PrefixCache
    features: dict[str, torch.Tensor]


def group_backward(
    policy: Policy,
    rows: Sequence[TokenRow],
    loss_of: LossOf,
    temperature: float = 1.0,
    max_tokens: int = 8192,
    *,
    recompute: bool = False,
    entropy_has_grad: bool = False,
) -> list[Scores]:
    """Adds the gradient of Σᵢ loss_of(i, logprobs, entropies) to `.grad`; returns detached scores per row.

    `loss_of` gets the written tokens of row i and returns its scalar share, already divided by the
    global counts. `max_tokens` bounds the padded tokens of one micro-batch of continuations.
    """
    boundary = Boundary()
    prefix = _run_prefix(policy, rows, boundary)
    scores: dict[int, Scores] = {}
    for part in micro_batches(rows, max_tokens):
        some = _score_continuations(
            policy, [rows[i] for i in part], prefix, temperature, recompute=recompute, entropy_has_grad=entropy_has_grad
        )
        loss = sum(loss_of(i, *score) for i, score in zip(part, some, strict=True))
        if torch.is_tensor(loss) and loss.requires_grad:
            loss.backward()
        scores.update(zip(part, (Scores(*(values.detach() for values in score)) for score in some), strict=True))
    boundary.backward()
    return [scores[i] for i in range(len(rows))]


@torch.no_grad()
def group_scores(
    policy: Policy, rows: Sequence[TokenRow], temperature: float = 1.0, max_tokens: int = 8192
) -> list[Scores]:
    """The same scores without a graph (reference log-probabilities, old log-probabilities)."""
    return group_backward(policy, rows, lambda _, logprobs, __: logprobs.sum(), temperature, max_tokens)


def micro_batches(rows: Sequence[TokenRow], max_tokens: int) -> list[list[int]]:
    """Row indices, longest continuation first, in runs of at most `max_tokens` padded tokens (at least one row)."""
    length = [max(1, len(row.ids) - row.n_prompt) for row in rows]
    runs: list[list[int]] = []
    for i in sorted(range(len(rows)), key=lambda i: -length[i]):
        if runs and (len(runs[-1]) + 1) * length[runs[-1][0]] <= max_tokens:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def _run_prefix(policy: Policy, rows: Sequence[TokenRow], boundary: Boundary) -> Prefix:
    ids, spans = _shared_prompt(rows, policy.image_id)
    features = encode_distinct(policy, rows)
    placed = [Placed(0, span.start, features[span.image.key]) for span in spans]
    embedded = policy.embed(torch.tensor([ids], device=policy.device), placed)
    cache = RecordingCache()
    positions = position_ids(len(ids), spans)[:, None].to(policy.device)
    hidden = policy.decode_hidden(embedded, positions, cache)
    in_continuations = {image.key for row in rows for image in row.images[len(spans) :]}
    return Prefix(
        last_hidden=boundary.cut(hidden[:, -1]),
        cache=PrefixCache([(boundary.cut(keys), boundary.cut(values)) for keys, values in cache.layers]),
        features={key: boundary.cut(features[key]) for key in sorted(in_continuations)},
    )


def _shared_prompt(rows: Sequence[TokenRow], image_id: int) -> tuple[tuple[int, ...], list[ImageSpan]]:
    """The prompt's ids and images; InputError, naming the row, where a row does not begin with them."""
    first = rows[0]
    ids = first.ids[: first.n_prompt]
    spans = [span for span in image_spans(first.ids, first.images, image_id, first.name) if span.start < len(ids)]
    keys = tuple(span.image.key for span in spans)
    for row in rows:
        if row.ids[: row.n_prompt] != ids or row.image_keys[: len(keys)] != keys:
            raise InputError(f"its prompt is not that of {first.name}", where=row.name, fix="give one group at a time")
    return ids, spans


def _score_continuations(
    policy: Policy,
    rows: Sequence[TokenRow],
    prefix: Prefix,
    temperature: float,
    *,
    recompute: bool,
    entropy_has_grad: bool,
) -> list[Scores]:
    batch = collate(rows, policy.image_id, rows[0].n_prompt)
    dtype = policy.head_weight.dtype
    features = {key: leaf.to(dtype) for key, leaf in prefix.features.items()}
    embedded = policy.embed(batch.ids.to(policy.device), batch.placed(features))
    positions = batch.positions.to(policy.device)
    hidden = policy.decode_hidden(embedded, positions, prefix.cache, recompute=recompute)
    before = prefix.last_hidden.to(hidden.dtype).expand(len(rows), 1, -1)  # predicts the first token after the prompt
    at_row, at_column = batch.predictors.to(policy.device).unbind(1)
    flat = token_scores(
        torch.cat([before, hidden], dim=1)[at_row, at_column + 1],
        policy.head_weight,
        batch.targets.to(policy.device),
        policy.banned,
        temperature,
        entropy_has_grad=entropy_has_grad,
    )
    return split_scores(*flat, batch.counts)


def self_check(policy: Policy, rows: Sequence[TokenRow], tolerance: float, temperature: float = 1.0) -> float:
    """The largest difference between shared and independent rows; TrainingError beyond `tolerance`.

    Compared are log-probabilities (absolute, nats) and every parameter's gradient, |Δg| / (|g| + 10⁻³·|all g|),
    of one loss with unequal token weights. Gradients that were there before come back.
    """
    trained = {name: weight for name, weight in policy.model.named_parameters() if weight.requires_grad}
    before = {name: weight.grad for name, weight in trained.items()}
    try:
        alone, alone_grads = _probe(trained, lambda: _independent_backward(policy, rows, temperature))
        shared, shared_grads = _probe(trained, lambda: group_backward(policy, rows, _probe_loss, temperature))
    finally:
        for name, weight in trained.items():
            weight.grad = before[name]
    pairs = zip(alone, shared, strict=True)
    off = [float((a.logprobs - b.logprobs).abs().max()) for a, b in pairs if len(a.logprobs)]
    worst_logprob = max(off, key=_nan_first, default=0.0)
    total = torch.stack([grad.double().norm() for grad in alone_grads.values()]).norm()
    apart = {name: _apart(grad, shared_grads.get(name), total) for name, grad in alone_grads.items()}
    worst_name = max(apart, key=lambda name: _nan_first(apart[name]))
    worst = max(worst_logprob, apart[worst_name], key=_nan_first)
    if not worst <= tolerance or alone_grads.keys() != shared_grads.keys():
        raise TrainingError(
            f"shared prefix and independent rows differ by {worst:.2e} (tolerance {tolerance:.0e})",
            where=worst_name if worst_logprob <= tolerance else "log-probabilities",
            fix="do not train with these versions, or raise the tolerance if the weights are bfloat16",
        )
    return worst


def _nan_first(value: float) -> float:
    """The key under which a maximum finds NaN, which compares with nothing."""
    return math.inf if math.isnan(value) else value


def _probe_loss(row: int, logprobs: torch.Tensor, _entropies: torch.Tensor) -> torch.Tensor:
    weights = torch.cos(torch.arange(len(logprobs), device=logprobs.device) + row)
    return (weights * logprobs).sum()


def _independent_backward(policy: Policy, rows: Sequence[TokenRow], temperature: float) -> list[Scores]:
    scores = score_rows(policy, rows, temperature)
    sum(_probe_loss(i, *score) for i, score in enumerate(scores)).backward()
    return [Scores(*(values.detach() for values in score)) for score in scores]


def _probe(trained: dict[str, torch.nn.Parameter], backward: Callable[[], list[Scores]]):
    """Scores and gradients of one backward that starts from none."""
    for weight in trained.values():
        weight.grad = None
    scores = backward()
    return scores, {name: weight.grad for name, weight in trained.items() if weight.grad is not None}


def _apart(grad: torch.Tensor, other: torch.Tensor | None, total: torch.Tensor) -> float:
    difference = grad if other is None else grad - other
    return float(difference.double().norm() / (grad.double().norm() + 1e-3 * total))
