"""Rollouts of several prompts without an update: ours by forking a cache, and the library's `generate`.

`generate` reads the whole history again at every turn, images included; what each side forwards is counted in tokens.
"""

import random
from collections.abc import Sequence

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from trainer.bench.case import Case, Scripted, make_environment, make_policy, markers, pictures
from trainer.bench.meter import Meter
from trainer.bench.updates import model_inputs
from trainer.environment import Episode
from trainer.policy import Policy
from trainer.rollout import Observation
from trainer.rollout.local import LocalRollout


@torch.no_grad()
def run(case: Case, side: str) -> dict:
    policy, images = make_policy(case), pictures(case)
    environment, meter, counted = make_environment(case, policy), Meter(case.device), []
    policy.language_model.embed_tokens.register_forward_pre_hook(lambda _, given: counted.append(given[0].numel()))
    for number, shown in enumerate(images):
        torch.manual_seed(number)
        counted.clear()
        scenes = environment.scenes(shown)
        episodes = [environment.start(scene, "policy", f"{row}") for scene in scenes for row in range(case.group)]
        meter.start()
        (_fork if side == "fork" else _generate)(case, policy, environment, episodes, meter)
    return meter.result(forwarded=sum(counted), written=sum(sum(one.is_written) for one in episodes))


def budgets(case: Case, turn: int) -> list[int]:
    """How many tokens each row writes in a turn."""
    rng = random.Random(f"budgets {turn}")
    most = [case.turn_tokens] * (case.prompts * case.group)
    return most if case.lengths == "even" else [rng.randint(1, one) for one in most]


def _fork(case: Case, policy: Policy, environment: Scripted, episodes: Sequence[Episode], meter: Meter) -> None:
    engine = LocalRollout(policy, stop_ids=(), live_rows=case.live or len(episodes))
    handles = engine.prefill([one.row for one in episodes])
    meter.lap("prefill")
    numbers, limits = {}, [budgets(case, turn) for turn in range(case.crops + 1)]
    for row, handle in enumerate(handles):
        numbers[handle] = row
        engine.write([handle], [("bench", row)], limits[0][row])
    while finished := engine.finished():
        meter.lap("decode")
        for handle, turn in finished:
            row = numbers[handle]
            seen = environment.take(episodes[row], turn.ids)
            if seen is not None:
                engine.extend([handle], [Observation(*seen)])
                engine.write([handle], [("bench", row)], limits[len(episodes[row].turns)][row])
        meter.lap("extend")


class _Ends(LogitsProcessor):
    """Ends each row after its own number of tokens; the first logits end the prefill."""

    def __init__(self, stop_id: int, lengths: Sequence[int], meter: Meter) -> None:
        self.stop_id, self.lengths, self.meter, self.n_written = stop_id, torch.tensor(lengths), meter, 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.n_written == 0:
            self.meter.lap("prefill")
        self.n_written += 1
        is_last = (self.n_written >= self.lengths).to(scores.device)
        scores[is_last] = -torch.inf
        scores[:, self.stop_id] = torch.where(is_last, 0.0, -torch.inf)
        return scores


def _generate(case: Case, policy: Policy, environment: Scripted, episodes: Sequence[Episode], meter: Meter) -> None:
    """The first turn forks prompts by `num_return_sequences`; `live` rows at a time, which end together."""
    policy.language_model.config._attn_implementation = "sdpa"
    n_live = case.live or len(episodes)
    for turn in range(case.crops + 1):
        for at in range(0, len(episodes), n_live):
            some, lengths = episodes[at : at + n_live], budgets(case, turn)[at : at + n_live]
            asked = [one.row for one in (some[:: case.group] if turn == 0 else some)]
            width = max(len(one.ids) for one in asked)
            pads = [width - len(one.ids) for one in asked]
            ids = torch.tensor([[0] * pad + list(one.ids) for pad, one in zip(pads, asked, strict=True)])
            mask = (torch.arange(width) >= torch.tensor(pads)[:, None]).long()
            told = {"eos_token_id": policy.stop_id, "pad_token_id": policy.tokenizer.pad_token_id}
            told |= {"max_new_tokens": max(lengths), "num_return_sequences": len(some) // len(asked)}
            config = GenerationConfig(do_sample=True, top_k=0, suppress_tokens=markers(policy), **told)
            ends = LogitsProcessorList([_Ends(policy.stop_id, lengths, meter)])
            inputs = model_inputs(policy, ids, mask, asked)
            out = policy.model.generate(**inputs, generation_config=config, logits_processor=ends)[:, width:].tolist()
            meter.lap("decode")
            for episode, written, length in zip(some, out, lengths, strict=True):
                environment.take(episode, tuple(written[:length]))
            meter.lap("extend")
