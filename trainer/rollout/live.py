"""The live batch: every row in it writes one token per step, whichever prompt it comes from and whenever it came.

A row may come between any two steps with the hidden state of its last token, and leaves with the step that ends its
turn. What it writes depends on its past and its key alone.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from schemas.seeds import uniform
from trainer.policy import Policy
from trainer.rollout import Key, Turn
from trainer.rollout.pasts import LivePast
from trainer.rollout.sampling import draw
from trainer.rollout.step import decode_one


@dataclass(eq=False, slots=True)
class Writing:
    """A turn in progress: of which row, after how many of its tokens, at which position, with which noise."""

    handle: int
    key: Key
    n_before: int
    position: int
    limit: int
    prompt: object  # whose keys and values `LivePast.prompts` holds
    hidden: Tensor  # [h] of the token before the turn
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    is_stopped: bool = False

    def write(self, token: float, logprob: float, entropy: float, stop_ids: frozenset[int]) -> bool:
        """Whether the turn is over."""
        self.ids.append(int(token))
        self.logprobs.append(logprob)
        self.entropies.append(entropy)
        self.is_stopped = token in stop_ids
        return self.is_stopped or len(self.ids) == self.limit

    def turn(self) -> Turn:
        return Turn(tuple(self.ids), tuple(self.logprobs), tuple(self.entropies), self.is_stopped)


class LiveBatch:
    """Rows `past.own.owners`, in this order; those that came last have not run a token of their turn yet."""

    def __init__(self, policy: Policy, temperature: float, stop_ids: frozenset[int], *, is_greedy: bool) -> None:
        self.policy, self.temperature, self.stop_ids, self.is_greedy = policy, temperature, stop_ids, is_greedy
        self.past = LivePast(policy.language_model.config.num_attention_heads)
        self.n_running = 0
        self._is_arranged = False

    def __len__(self) -> int:
        return len(self.past.own)

    def join(self, writing: Writing, past: Tensor) -> None:
        self.past.own.add(writing, past, writing.limit)

    def step(self) -> list[tuple[Writing, Tensor]]:
        """One token for every row; the turns that ended, each with keys and values of its row, last token excepted."""
        rows = self.past.own.owners
        hidden = [self._run(rows[: self.n_running])] if self.n_running else []
        if new := rows[self.n_running :]:
            hidden.append(torch.stack([row.hidden for row in new]))
            self.n_running, self._is_arranged = len(rows), False
        over = self._draw(rows, torch.cat(hidden))
        return [(row, self._leave(row)) for row in over]

    def _run(self, rows: list[Writing]) -> Tensor:
        """Hidden states [rows, h] of the tokens drawn last."""
        if not self._is_arranged:  # prompts come and go only after a turn has ended, so this sees it
            places = {id(prompt): place for place, prompt in enumerate(self.past.prompts.owners)}
            self.past.arrange([places[id(row.prompt)] for row in rows])
            self._is_arranged = True
        self.past.advance()
        device = self.policy.device
        ids = torch.tensor([row.ids[-1] for row in rows], device=device)
        positions = torch.tensor([row.position + len(row.ids) - 1 for row in rows], device=device)
        return decode_one(self.policy, ids, positions, self.past)

    def _draw(self, rows: list[Writing], hidden: Tensor) -> list[Writing]:
        noise = None
        if not self.is_greedy:
            drawn = [uniform(*row.key, row.n_before + len(row.ids)) for row in rows]
            noise = torch.tensor(drawn, dtype=torch.float64, device=hidden.device)
        drawn = draw(hidden, self.policy.head_weight, self.policy.banned, self.temperature, noise)
        told = torch.stack([one.double() for one in drawn], dim=1).tolist()  # one transfer; ids are exact below 2⁵³
        return [row for row, said in zip(rows, told, strict=True) if row.write(*said, self.stop_ids)]

    def _leave(self, row: Writing) -> Tensor:
        own = self.past.own
        past = own.of(row).clone()
        own.remove(row)
        self.n_running, self._is_arranged = len(own), False
        return past
