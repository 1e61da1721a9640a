"""Rollouts with the trainer's own modules: one live batch over many prompts, keys and values kept per row.

A row is its ids and how many of them its cache holds; what is not yet held runs with the next
decode. So a fork shares tensors, a rewind cuts them, an observation costs its own tokens, and no
row is ever read again from its beginning. Equality with a full forward is the test of this file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from schemas.seeds import uniform
from trainer.caches import GrowingCache, RecordingCache
from trainer.policy import Placed, Policy
from trainer.positions import next_position, position_ids
from trainer.rollout import Key, Observation, Turn
from trainer.rollout.sampling import draw
from trainer.sequences import EncodedImage, ImageSpan, TokenRow, image_spans


@dataclass(slots=True)
class _Row:
    """`past` [layers, 2, H, n_cached, D] holds keys and values of the first n_cached < len(ids) tokens."""

    prompt: TokenRow
    ids: list[int]
    is_written: list[bool]
    spans: list[ImageSpan]
    positions: torch.Tensor  # [3, len(ids)]
    past: torch.Tensor

    @property
    def n_cached(self) -> int:
        return self.past.shape[3]

    def append(self, ids: Sequence[int], spans: Sequence[ImageSpan], *, is_written: bool) -> None:
        new_positions = position_ids(len(ids), spans, next_position(self.positions))
        self.positions = torch.cat([self.positions, new_positions], dim=1)
        self.spans += [ImageSpan(len(self.ids) + s.start, len(self.ids) + s.stop, s.image) for s in spans]
        self.ids += ids
        self.is_written += [is_written] * len(ids)

    def forked(self) -> "_Row":
        return replace(self, ids=list(self.ids), is_written=list(self.is_written), spans=list(self.spans))


@dataclass(slots=True)
class _Writing:
    """One row of a decode in progress; `first_slot` is where its new tokens begin in the batch's cache."""

    row: _Row
    key: Key
    budget: int
    first_slot: int = 0
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    is_stopped: bool = False

    @property
    def is_done(self) -> bool:
        return self.is_stopped or len(self.ids) >= self.budget

    def noise(self) -> float:
        return uniform(*self.key, len(self.row.ids) + len(self.ids))

    def write(self, token: int, logprob: float, entropy: float, stop_ids: frozenset[int]) -> None:
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.entropies.append(entropy)
        self.is_stopped = token in stop_ids

    def settle(self, new_past: torch.Tensor) -> None:
        """Gives the row what was written; its last token stays to be run."""
        self.row.past = torch.cat([self.row.past, new_past], dim=3)
        self.row.append(self.ids, (), is_written=True)

    def turn(self) -> Turn:
        return Turn(tuple(self.ids), tuple(self.logprobs), tuple(self.entropies), self.is_stopped)


class LocalRollout:
    """A `RolloutEngine` over `policy`; `max_row_tokens` bounds prompt, observations and turns together."""

    def __init__(self, policy: Policy, temperature: float = 1.0, *, max_row_tokens: int | None = None) -> None:
        self.policy, self.temperature, self.max_row_tokens = policy, temperature, max_row_tokens
        self._rows: dict[int, _Row] = {}
        self._n_handles = 0
        self._features: dict[str, torch.Tensor] = {}  # by image key, as long as any row lives

    @torch.no_grad()
    def prefill(self, prompts: Sequence[TokenRow]) -> list[int]:
        if not prompts:
            return []
        distinct = {(prompt.ids, prompt.image_keys): prompt for prompt in prompts}
        read = dict(zip(distinct, self._read(list(distinct.values())), strict=True))
        rows = [replace(read[prompt.ids, prompt.image_keys].forked(), prompt=prompt) for prompt in prompts]
        return [self._add(row) for row in rows]

    def fork(self, handle: int, n: int) -> list[int]:
        return [self._add(self._rows[handle].forked()) for _ in range(n)]

    @torch.no_grad()
    def decode(
        self,
        handles: Sequence[int],
        stop_ids: Sequence[int],
        max_tokens: int | Sequence[int],
        keys: Sequence[Key],
        *,
        is_greedy: bool = False,
    ) -> list[Turn]:
        stops = frozenset(stop_ids)
        if stops & self.policy.banned_ids or len(set(handles)) < len(handles):
            raise ValueError("a stop id is banned, or a row is named twice")
        limits = [max_tokens] * len(handles) if isinstance(max_tokens, int) else max_tokens
        all_writing = [
            _Writing(self._rows[handle], key, limit if (room := self.room(handle)) is None else min(limit, room))
            for handle, key, limit in zip(handles, keys, limits, strict=True)
        ]
        if live := [writing for writing in all_writing if not writing.is_done]:
            self._run(live, stops, is_greedy)
        return [writing.turn() for writing in all_writing]

    @torch.no_grad()
    def extend(self, handles: Sequence[int], observations: Sequence[Observation]) -> None:
        """Images are encoded now, in one call; the tokens run with the next decode."""
        pairs = [(self._rows[handle], seen) for handle, seen in zip(handles, observations, strict=True)]
        spans = [image_spans(seen.ids, seen.images, self.policy.image_id, row.prompt.name) for row, seen in pairs]
        self._encode([image for _, seen in pairs for image in seen.images])
        for (row, seen), placed in zip(pairs, spans, strict=True):
            row.append(seen.ids, placed, is_written=False)

    def rewind(self, handle: int, n_tokens: int) -> None:
        row = self._rows[handle]
        length = len(row.ids) - n_tokens
        if n_tokens < 0 or length < len(row.prompt.ids) or any(s.start < length < s.stop for s in row.spans):
            raise ValueError(f"{row.prompt.name}: cannot rewind {n_tokens} tokens into the prompt or an image")
        row.ids, row.is_written = row.ids[:length], row.is_written[:length]
        row.spans = [span for span in row.spans if span.stop <= length]
        row.positions = row.positions[:, :length]
        row.past = row.past[:, :, :, : length - 1]

    def row(self, handle: int) -> TokenRow:
        row = self._rows[handle]
        images = tuple(span.image for span in row.spans)
        return TokenRow(tuple(row.ids), tuple(row.is_written), images, len(row.prompt.ids), row.prompt.name)

    def room(self, handle: int) -> int | None:
        """Tokens the row may still take, or None without a bound."""
        return None if self.max_row_tokens is None else max(0, self.max_row_tokens - len(self._rows[handle].ids))

    def drop(self, handles: Sequence[int]) -> None:
        for handle in handles:
            del self._rows[handle]
        if not self._rows:
            self._features.clear()

    def _add(self, row: _Row) -> int:
        self._n_handles += 1
        self._rows[self._n_handles] = row
        return self._n_handles

    def _encode(self, images: Sequence[EncodedImage]) -> None:
        new = {image.key: image for image in images if image.key not in self._features}
        self._features.update(zip(new, self.policy.encode(list(new.values())), strict=True))

    def _read(self, prompts: Sequence[TokenRow]) -> list[_Row]:
        """Rows whose cache holds all of the prompt but its last token, from one padded forward."""
        rows = [self._unread(prompt) for prompt in prompts]
        self._encode([image for prompt in prompts for image in prompt.images])
        ends = [len(row.ids) - 1 for row in rows]
        cache = RecordingCache()
        self.policy.decode_hidden(*self._chunk(rows, [0] * len(rows), ends, is_left_aligned=True), cache)
        past = torch.stack([torch.stack(layer) for layer in cache.layers])  # [layers, 2, B, H, n, D]
        for at, (row, end) in enumerate(zip(rows, ends, strict=True)):
            row.past = past[:, :, at, :, :end].clone()
        return rows

    def _unread(self, prompt: TokenRow) -> _Row:
        if len(prompt.ids) < 2:
            raise ValueError(f"{prompt.name}: a prompt needs two tokens, one to be cached and one to be run")
        spans = image_spans(prompt.ids, prompt.images, self.policy.image_id, prompt.name)
        positions = position_ids(len(prompt.ids), spans)
        return _Row(prompt, list(prompt.ids), list(prompt.is_written), spans, positions, torch.empty(0, 2, 0, 0, 0))

    def _chunk(
        self, rows: Sequence[_Row], begins: Sequence[int], ends: Sequence[int], *, is_left_aligned: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings [B, n, hidden] and positions [3, B, n] of tokens begin … end − 1 of each row."""
        width = max(end - begin for begin, end in zip(begins, ends, strict=True))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        positions = torch.zeros(3, len(rows), width, dtype=torch.long)
        placed = []
        for at, (row, begin, end) in enumerate(zip(rows, begins, ends, strict=True)):
            column = 0 if is_left_aligned else width - (end - begin)
            columns = slice(column, column + end - begin)
            ids[at, columns] = torch.tensor(row.ids[begin:end])
            positions[:, at, columns] = row.positions[:, begin:end]
            for span in row.spans:
                first, last = max(span.start, begin), min(span.stop, end)
                if first < last:
                    features = self._features[span.image.key][first - span.start : last - span.start]
                    placed.append(Placed(at, column + first - begin, features))
        return self.policy.embed(ids.to(self.policy.device), placed), positions.to(self.policy.device)

    def _run(self, batch: list[_Writing], stop_ids: frozenset[int], is_greedy: bool) -> None:
        """Decodes until every row of `batch` is done; finished rows leave when a quarter of the batch is finished."""
        policy, rows = self.policy, [writing.row for writing in batch]
        begins = [row.n_cached for row in rows]
        n_new = [len(row.ids) - row.n_cached for row in rows]
        cache = GrowingCache([row.past for row in rows], n_new, max(writing.budget for writing in batch))
        for writing, n in zip(batch, n_new, strict=True):
            writing.first_slot = cache.n_past + max(n_new) - n
        embedded, positions = self._chunk(rows, begins, [len(row.ids) for row in rows])
        following = torch.tensor([next_position(row.positions) for row in rows], device=policy.device)
        while True:
            width = embedded.shape[1]
            hidden = policy.decode_hidden(embedded, positions, cache, cache.key_mask(width))[:, -1]
            cache.advance(width)
            noise = None if is_greedy else torch.tensor([writing.noise() for writing in batch], dtype=torch.float64)
            drawn = draw(hidden, policy.head_weight, policy.banned, self.temperature, noise)
            for at, (writing, *values) in enumerate(zip(batch, *(part.tolist() for part in drawn), strict=True)):
                if not writing.is_done:
                    writing.write(*values, stop_ids)
                    if writing.is_done:
                        writing.settle(cache.cut(at, writing.first_slot))
            live = [at for at, writing in enumerate(batch) if not writing.is_done]
            if not live:
                return
            ids = drawn.ids
            if 4 * len(live) <= 3 * len(batch):
                cache.keep(live)
                batch, ids, following = [batch[at] for at in live], ids[live], following[live]
            embedded, positions = policy.embed(ids[:, None]), following.expand(3, -1)[:, :, None]
            following = following + 1
