"""Plain padded forward of independent rows, with gradient: the reference, and the path of SFT.

Every row repeats its prompt here. Rows that share one go through `trainer.shared_prefix`, which
must agree with this file; images are encoded once per distinct key in both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from schemas.errors import InputError
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


def collate(rows: Sequence[TokenRow], image_id: int, n_skipped: int = 0) -> Batch:
    """Tokens `n_skipped` … last written − 1 of each row: the last written token predicts nothing and is left out."""
    ends = [max(row.written_at, default=n_skipped) for row in rows]
    width = max(1, max(ends) - n_skipped)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    positions = torch.zeros(3, len(rows), width, dtype=torch.long)
    images, predictors, targets, counts = [], [], [], []
    for at, (row, end) in enumerate(zip(rows, ends, strict=True)):
        spans = image_spans(row.ids, row.images, image_id, row.name)
        _refuse_cut(spans, n_skipped, row.name)
        ids[at, : end - n_skipped] = torch.tensor(row.ids[n_skipped:end], dtype=torch.long)
        positions[:, at, : end - n_skipped] = position_ids(len(row.ids), spans)[:, n_skipped:end]
        images += [(at, span.start - n_skipped, span.image.key) for span in spans if n_skipped <= span.start < end]
        predictors += [(at, token - 1 - n_skipped) for token in row.written_at]
        targets += [row.ids[token] for token in row.written_at]
        counts.append(len(row.written_at))
    where = torch.tensor(predictors, dtype=torch.long).view(-1, 2)
    return Batch(ids, positions, tuple(images), where, torch.tensor(targets, dtype=torch.long), tuple(counts))


def _refuse_cut(spans: Sequence[ImageSpan], n_skipped: int, name: str) -> None:
    if any(span.start < n_skipped < span.stop for span in spans):
        raise InputError(f"the prompt ends inside an image, after token {n_skipped}", where=name)


def encode_distinct(policy: Policy, rows: Sequence[TokenRow]) -> dict[str, torch.Tensor]:
    """Features of every image of `rows` by key, each encoded once."""
    images = distinct_images(rows)
    return dict(zip((image.key for image in images), policy.encode(images), strict=True))


def split_scores(logprobs: torch.Tensor, entropies: torch.Tensor, counts: Sequence[int]) -> list[Scores]:
    """Flat scores of a batch, row by row."""
    return [Scores(*parts) for parts in zip(logprobs.split(counts), entropies.split(counts), strict=True)]


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
    batch = collate(rows, policy.image_id)
    embedded = policy.embed(batch.ids.to(policy.device), batch.placed(encode_distinct(policy, rows)))
    hidden = policy.decode_hidden(embedded, batch.positions.to(policy.device), recompute=recompute)
    at_row, at_column = batch.predictors.to(policy.device).unbind(1)
    scores = token_scores(
        hidden[at_row, at_column],
        policy.head_weight,
        batch.targets.to(policy.device),
        policy.banned,
        temperature,
        entropy_has_grad=entropy_has_grad,
    )
    return split_scores(*scores, batch.counts)
