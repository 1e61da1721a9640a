"""Plain padded forward of independent rows, with gradient: the reference, and the path of SFT.

Every row repeats its prompt here. Rows that share one go through `trainer.tree_update`, which must agree
with this file; images are encoded once per distinct key in both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from schemas.errors import InputError
from trainer.attention import Past
from trainer.caches import SharedPast
from trainer.head import token_scores
from trainer.policy import Placed, Policy
from trainer.positions import position_ids
from trainer.sequences import ImageSpan, Scores, TokenRow, distinct_images, image_spans


@dataclass(frozen=True, slots=True)
class Batch:
    """What is run of some rows, padded on the right: ids [B, n], positions [3, B, n], who predicts what.

    `images` are (row, start, key). Row by row over the written tokens, hidden state
    `predictors[k]` = (row, column) predicts id `targets[k]`; column −1 is the token before the batch.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    images: tuple[tuple[int, int, str], ...]
    predictors: torch.Tensor
    targets: torch.Tensor
    counts: tuple[int, ...]

    def placed(self, features: dict[str, torch.Tensor]) -> list[Placed]:
        return [Placed(row, start, features[key]) for row, start, key in self.images]


@dataclass(frozen=True, slots=True)
class LaidRow:
    """A row with the places of its images and its positions [3, len(ids)]."""

    row: TokenRow
    spans: tuple[ImageSpan, ...]
    positions: torch.Tensor


def lay_out(row: TokenRow, image_id: int) -> LaidRow:
    spans = image_spans(row.ids, row.images, image_id, row.name)
    if any(span.start < row.n_prompt < span.stop for span in spans):
        raise InputError(f"the prompt ends inside an image, after token {row.n_prompt}", where=row.name)
    return LaidRow(row, tuple(spans), position_ids(len(row.ids), spans))


def collate(rows: Sequence[LaidRow], begin: int = 0, end: int | None = None) -> Batch:
    """Tokens `begin` … `end` − 1 of each row; by default up to the last written one, which predicts nothing itself."""
    ends = [max(one.row.written_at, default=begin) if end is None else end for one in rows]
    width = max(1, max(ends) - begin)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    positions = torch.zeros(3, len(rows), width, dtype=torch.long)
    images, predictors, targets, counts = [], [], [], []
    for at, (laid, stop) in enumerate(zip(rows, ends, strict=True)):
        row, n_run = laid.row, stop - begin
        ids[at, :n_run] = torch.tensor(row.ids[begin:stop], dtype=torch.long)
        positions[:, at, :n_run] = laid.positions[:, begin:stop]
        images += [(at, span.start - begin, span.image.key) for span in laid.spans if begin <= span.start < stop]
        written = [token for token in row.written_at if begin <= token and (end is None or token < end)]
        predictors += [(at, token - 1 - begin) for token in written]
        targets += [row.ids[token] for token in written]
        counts.append(len(written))
    where = torch.tensor(predictors, dtype=torch.long).view(-1, 2)
    return Batch(ids, positions, tuple(images), where, torch.tensor(targets, dtype=torch.long), tuple(counts))


def run(
    policy: Policy, batch: Batch, past: Past, features: dict[str, torch.Tensor], *, recompute: bool = False
) -> torch.Tensor:
    """Last hidden states [B, n, hidden] of a batch after `past`; image features by key."""
    embedded = policy.embed(batch.ids.to(policy.device), batch.placed(features), accumulate=True)
    return policy.decode_hidden(embedded, batch.positions.to(policy.device), past, recompute=recompute)


def score(
    policy: Policy,
    batch: Batch,
    hidden: torch.Tensor,
    temperature: float,
    *,
    before: torch.Tensor | None = None,
    entropy_has_grad: bool = False,
) -> list[Scores]:
    """Of each row's written tokens, from the batch's last hidden states; `before` [1, hidden] is that of column −1."""
    at_row, at_column = batch.predictors.to(policy.device).unbind(1)
    states = hidden[at_row, at_column]
    if before is not None:
        states = torch.where(at_column[:, None] < 0, before, states)
    targets = batch.targets.to(policy.device)
    flat = token_scores(
        states,
        policy.head_weight,
        targets,
        policy.banned,
        temperature,
        entropy_has_grad=entropy_has_grad,
        accumulate=True,
    )
    return [Scores(*parts) for parts in zip(*(one.split(batch.counts) for one in flat), strict=True)]


def score_rows(
    policy: Policy,
    rows: Sequence[TokenRow],
    temperature: float = 1.0,
    *,
    entropy_has_grad: bool = False,
    recompute: bool = False,
) -> list[Scores]:
    """Log-probability and entropy of each row's written tokens, with gradient, from one padded forward.

    Rows of similar length waste the least; `recompute` trades a second forward for layer memory.
    """
    batch = collate([lay_out(row, policy.image_id) for row in rows])
    images = distinct_images(rows)
    features = dict(zip((image.key for image in images), policy.encode(images), strict=True))
    hidden = run(policy, batch, SharedPast(), features, recompute=recompute)
    return score(policy, batch, hidden, temperature, entropy_has_grad=entropy_has_grad)
