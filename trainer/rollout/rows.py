"""A row of a rollout: its prompt, which other rows may share, and the tokens after it, read as far as `past` goes.

Tokens are read where they were left: many texts in one packed forward, each after its own parts of the past.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import torch
from torch import Tensor

from trainer.policy import Placed, Policy
from trainer.positions import next_position, position_ids
from trainer.rollout.pasts import PackedPast
from trainer.sequences import ImageSpan, TokenRow


@dataclass(eq=False, slots=True)
class Text:
    """Tokens of a prompt, or of a row after it; `past` [layers, 2, H_kv, n, D] holds the first n of them.

    `hidden` [h] is that of the last token, None while that is unread; of a row without tokens, that of its prompt.
    """

    ids: list[int]
    spans: list[ImageSpan]
    positions: Tensor  # [3, len(ids)]
    past: Tensor
    hidden: Tensor | None = None

    @property
    def n_read(self) -> int:
        return self.past.shape[3]

    @property
    def n_unread(self) -> int:
        return len(self.ids) - self.n_read

    @property
    def unread_spans(self) -> list[ImageSpan]:
        return [span for span in self.spans if span.stop > self.n_read]


@dataclass(eq=False, slots=True)
class Prompt:
    """Its keys and values lie in the live batch, once for all `n_rows` rows that begin with it."""

    key: tuple[object, ...]
    hidden: Tensor  # [h] of its last token
    next_position: int
    n_rows: int = 0


@dataclass(eq=False, slots=True)
class Row:
    start: TokenRow
    prompt: Prompt
    own: Text
    is_written: list[bool] = field(default_factory=list)
    is_writing: bool = False

    @property
    def n_tokens(self) -> int:
        return len(self.start.ids) + len(self.own.ids)

    @property
    def next_position(self) -> int:
        return next_position(self.own.positions) if self.own.ids else self.prompt.next_position

    def append(self, ids: Sequence[int], spans: Sequence[ImageSpan], *, is_written: bool) -> None:
        own, before = self.own, len(self.own.ids)
        if not ids:
            return
        own.positions = torch.cat([own.positions, position_ids(len(ids), spans, self.next_position)], dim=1)
        own.spans += [ImageSpan(before + span.start, before + span.stop, span.image) for span in spans]
        own.ids += ids
        self.is_written += [is_written] * len(ids)
        own.hidden = None

    def forked(self) -> "Row":
        own = replace(self.own, ids=list(self.own.ids), spans=list(self.own.spans))
        return replace(self, own=own, is_written=list(self.is_written))

    def rewind(self, n_tokens: int) -> None:
        own, length = self.own, len(self.own.ids) - n_tokens
        if n_tokens < 0 or length < 0 or any(span.start < length < span.stop for span in own.spans):
            raise ValueError(f"{self.start.name}: cannot rewind {n_tokens} tokens into the prompt or an image")
        if n_tokens > 0:
            own.ids, self.is_written = own.ids[:length], self.is_written[:length]
            own.spans = [span for span in own.spans if span.stop <= length]
            own.positions, own.past = own.positions[:, :length], own.past[:, :, :, : max(0, length - 1)]
            own.hidden = None if length else self.prompt.hidden

    def token_row(self) -> TokenRow:
        start, own = self.start, self.own
        images = (*start.images, *(span.image for span in own.spans))
        return TokenRow(
            (*start.ids, *own.ids), (*start.is_written, *self.is_written), images, len(start.ids), start.name
        )


def read(
    policy: Policy, texts: Sequence[Text], parts: Sequence[Sequence[Tensor]], features: Mapping[str, Tensor]
) -> None:
    """Runs what each text has not read yet after its `parts` [layers, 2, H_kv, P, D], packed in one forward."""
    ends = list(accumulate(text.n_unread for text in texts))
    placed = []
    for text, end in zip(texts, ends, strict=True):
        for span in text.unread_spans:
            start = max(span.start, text.n_read)  # a row may have been rewound to the end of an image
            placed.append(Placed(0, end - len(text.ids) + start, features[span.image.key][start - span.start :]))
    ids = torch.tensor([[token for text in texts for token in text.ids[text.n_read :]]], device=policy.device)
    positions = torch.cat([text.positions[:, text.n_read :] for text in texts], dim=1)[:, None].to(policy.device)
    past = PackedPast([text.n_unread for text in texts], parts)
    hidden = policy.decode_hidden(policy.embed(ids, placed), positions, past)[0]
    for text, new, end in zip(texts, past.pieces(), ends, strict=True):
        text.past = torch.cat([text.past, new], dim=3) if text.n_read else new
        text.hidden = hidden[end - 1].clone()
