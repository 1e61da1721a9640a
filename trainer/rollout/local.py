"""Rollouts with the trainer's own modules: one live batch over many prompts, refilled as rows leave it.

A prompt's keys and values exist once, a row has those of its own tokens. So a fork shares tensors, a rewind cuts
them, an observation costs its own tokens, and nothing is ever read again: every token of a prompt, an observation or
a turn goes through the decoder once. Equality with a full forward is the test of this file.
"""

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trainer.features import FeatureCache
from trainer.policy import Policy
from trainer.positions import next_position, position_ids
from trainer.rollout import Forwarded, Key, Observation, Turn
from trainer.rollout.live import LiveBatch, Writing
from trainer.rollout.rows import Prompt, Row, Text, read
from trainer.sequences import TokenRow, image_spans

LIVE_ROWS = 64
READ_TOKENS = 4096  # observations that are read in one forward
WAIT_STEPS = 8  # of the live batch, for which an observation may wait to be read together with others


class LocalRollout:
    """A `RolloutEngine` over `policy`, of which at most `live_rows` rows write at a time.

    Without `stop_ids` a turn ends with the policy's stop id. `features` may be shared with an update.
    """

    def __init__(
        self,
        policy: Policy,
        temperature: float = 1.0,
        *,
        is_greedy: bool = False,
        live_rows: int = LIVE_ROWS,
        stop_ids: Sequence[int] | None = None,
        features: FeatureCache | None = None,
    ) -> None:
        stops = frozenset([policy.stop_id] if stop_ids is None else stop_ids)
        if stops & policy.banned_ids or live_rows < 1:
            raise ValueError(f"a stop id is banned, or no row may live: {sorted(stops)}, {live_rows}")
        self.policy, self.live_rows = policy, live_rows
        self.features = FeatureCache(policy) if features is None else features
        self.forwarded = Forwarded()
        self._live = LiveBatch(policy, temperature, stops, is_greedy=is_greedy)
        self._rows: dict[int, Row] = {}
        self._prompts: dict[tuple[object, ...], Prompt] = {}
        self._n_handles = 0
        self._ready: deque[tuple[int, Key, int]] = deque()  # asked for a turn, with nothing to be read before it
        self._unread: list[tuple[int, Key, int]] = []  # asked for a turn after what they have not read yet
        self._n_waited = 0

    @property
    def has_room(self) -> bool:
        return len(self._live) + len(self._ready) < self.live_rows

    def prefill(self, prompts: Sequence[TokenRow]) -> list[int]:
        return [self._add(self._started(prompt)) for prompt in prompts]

    def fork(self, handle: int, n: int) -> list[int]:
        return [self._add(self._idle(handle).forked()) for _ in range(n)]

    def write(self, handles: Sequence[int], keys: Sequence[Key], max_tokens: int | Sequence[int]) -> None:
        limits = [max_tokens] * len(handles) if isinstance(max_tokens, int) else max_tokens
        for asked in zip(handles, keys, limits, strict=True):
            row = self._idle(asked[0])
            if asked[2] < 1:
                raise ValueError(f"{row.start.name}: a turn of {asked[2]} tokens")
            row.is_writing = True
            (self._unread if row.own.hidden is None else self._ready).append(asked)

    @torch.inference_mode()
    def finished(self) -> list[tuple[int, Turn]]:
        over: list[tuple[Writing, Tensor]] = []
        while not over:
            self._admit()
            if not len(self._live):
                break
            self.forwarded.written += self._live.n_running
            over = self._live.step()
        for writing, past in over:
            row = self._rows[writing.handle]
            row.append(writing.ids, (), is_written=True)
            row.own.past, row.is_writing = past, False
        return [(writing.handle, writing.turn()) for writing, _ in over]

    def extend(self, handles: Sequence[int], observations: Sequence[Observation]) -> None:
        """The tokens are read before the row's next turn, images encoded then."""
        for handle, seen in zip(handles, observations, strict=True):
            row = self._idle(handle)
            spans = image_spans(seen.ids, seen.images, self.policy.image_id, row.start.name)
            row.append(seen.ids, spans, is_written=False)

    def rewind(self, handle: int, n_tokens: int) -> None:
        self._idle(handle).rewind(n_tokens)

    def row(self, handle: int) -> TokenRow:
        return self._rows[handle].token_row()

    @torch.inference_mode()
    def drop(self, handles: Sequence[int]) -> None:
        for handle in handles:
            prompt = self._idle(handle).prompt
            del self._rows[handle]
            prompt.n_rows -= 1
            if prompt.n_rows == 0:
                self._live.past.prompts.remove(prompt)
                del self._prompts[prompt.key]

    def _idle(self, handle: int) -> Row:
        row = self._rows[handle]
        if row.is_writing:
            raise ValueError(f"{row.start.name} is writing")
        return row

    def _add(self, row: Row) -> int:
        self._n_handles += 1
        self._rows[self._n_handles] = row
        row.prompt.n_rows += 1
        return self._n_handles

    @torch.inference_mode()
    def _started(self, start: TokenRow) -> Row:
        key = start.ids, start.image_keys
        if key not in self._prompts:
            spans = image_spans(start.ids, start.images, self.policy.image_id, start.name)
            text = Text(list(start.ids), spans, position_ids(len(start.ids), spans), self._nothing())
            self._read([text], [()])
            self.forwarded.prompt += len(start.ids)
            self._prompts[key] = Prompt(key, text.hidden, next_position(text.positions))
            self._live.past.prompts.add(self._prompts[key], text.past)
        prompt = self._prompts[key]
        return Row(start, prompt, Text([], [], torch.empty(3, 0, dtype=torch.long), self._nothing(), prompt.hidden))

    def _nothing(self) -> Tensor:
        """The past of no tokens."""
        text = self.policy.language_model.config
        width = text.hidden_size // text.num_attention_heads
        return self.policy.head_weight.new_empty(self.policy.n_layers, 2, text.num_key_value_heads, 0, width)

    def _admit(self) -> None:
        """Fills the live batch, after reading what rows have to read first: that of many in one forward."""
        n_unread, n_others = len(self._unread), len(self._live) + len(self._ready)
        self._n_waited = self._n_waited + 1 if n_unread else 0
        if n_unread and (4 * n_unread >= n_others or self._n_waited > WAIT_STEPS):
            for lot in _lots([self._rows[handle] for handle, _, _ in self._unread]):
                self._read_after_prompts(lot)
            self._ready.extendleft(reversed(self._unread))  # before rows that have not begun
            self._unread, self._n_waited = [], 0
        while self._ready and len(self._live) < self.live_rows:
            handle, key, limit = self._ready.popleft()
            row = self._rows[handle]
            writing = Writing(handle, key, row.n_tokens, row.next_position, limit, row.prompt, row.own.hidden)
            self._live.join(writing, row.own.past)

    def _read_after_prompts(self, rows: Sequence[Row]) -> None:
        n_written = sum(sum(row.is_written[row.own.n_read :]) for row in rows)
        self.forwarded.written += n_written
        self.forwarded.observed += sum(row.own.n_unread for row in rows) - n_written
        pasts = [(self._live.past.prompts.of(row.prompt), row.own.past) for row in rows]
        self._read([row.own for row in rows], [[one for one in parts if one.shape[3]] for parts in pasts])

    def _read(self, texts: Sequence[Text], parts: Sequence[Sequence[Tensor]]) -> None:
        before = self.features.n_encoded
        features = self.features.get([span.image for text in texts for span in text.unread_spans])
        self.forwarded.encoded += self.features.n_encoded - before
        read(self.policy, texts, parts, features)


def _lots(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """`rows` in lots of at most READ_TOKENS tokens to be read, or of one row."""
    lot: list[Row] = []
    for row in rows:
        if lot and sum(one.own.n_unread for one in lot) + row.own.n_unread > READ_TOKENS:
            yield lot
            lot = []
        lot.append(row)
    yield lot
