"""Multimodal rotary positions as a running counter.

A text token takes (p, p, p) and moves p by 1; an image of gh × gw merged tokens takes
t = p, h = p + i, w = p + j and moves p by max(gh, gw). Being a counter it can go on from any
point of a row, which is what lets a crop be appended to a live cache. Nothing is inferred by
the model, so its hidden `rope_deltas` never comes to exist. Videos are not known here.
"""

from collections.abc import Sequence

import torch

from trainer.sequences import ImageSpan


def position_ids(n_tokens: int, spans: Sequence[ImageSpan], start: int = 0) -> torch.Tensor:
    """(t, h, w) of `n_tokens` tokens with images at `spans`, counting from `start`: int64 [3, n_tokens]."""
    positions, at, counter = torch.empty(3, n_tokens, dtype=torch.long), 0, start
    for span in spans:
        n_text = span.start - at
        positions[:, at : span.start] = torch.arange(counter, counter + n_text)
        counter += n_text
        rows, columns = span.image.merged_grid
        block = positions[:, span.start : span.stop].view(3, rows, columns)
        block[0] = counter
        block[1] = torch.arange(counter, counter + rows)[:, None]
        block[2] = torch.arange(counter, counter + columns)
        counter += max(rows, columns)
        at = span.stop
    positions[:, at:] = torch.arange(counter, counter + n_tokens - at)
    return positions


def next_position(positions: torch.Tensor) -> int:
    """What the counter shows after `positions` [3, n]: an image ends in its largest row and column."""
    return int(positions[:, -1].max()) + 1 if positions.shape[1] else 0
