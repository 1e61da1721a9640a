"""TRL's side: GRPOTrainer as its users run it, with our weights, pixels, prompts and lengths.

Its settings are the case's. Several turns go through TRL's own tool loop; random weights never write a call, so each
turn is read as one, and `generate`'s length penalty ends a turn at its last token. All else is TRL's.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}  # before the libraries are imported

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoProcessor, Qwen2_5_VLProcessor, TrainerCallback
from transformers.processing_utils import ProcessorMixin
from trl import GRPOConfig, GRPOTrainer

from trainer.bench.case import ASKED, Case, advantages, crop, make_policy, markers, pictures
from trainer.bench.meter import Meter
from trainer.bench.updates import model_inputs
from trainer.policy import Policy
from trainer.sequences import TokenRow

ROLE = "{{ message['role'] }}\n"
ROLE_AND_CALLS = (  # a tool answers in a user's turn, as in Qwen's own template
    "{{ 'user' if message['role'] == 'tool' else message['role'] }}\n"
    "{% if message['tool_calls'] %}{{ message['tool_calls'] | tojson }}{% endif %}"
)
CALL = {"type": "function", "function": {"name": "look", "arguments": {}}}


class _Timed(GRPOTrainer):
    meter: Meter

    def _generate_and_score_completions(self, inputs: list) -> dict[str, Any]:
        self.made = super()._generate_and_score_completions(inputs)
        self.meter.lap("rollout")
        return self.made


class _Laps(TrainerCallback):
    def __init__(self, meter: Meter) -> None:
        self.on_step_begin = lambda *_, **__: meter.start()
        self.on_pre_optimizer_step = lambda *_, **__: meter.lap("update")
        self.on_step_end = lambda *_, **__: meter.lap("optimizer")


class _Processor(Qwen2_5_VLProcessor):
    """Without the video half, which needs torchvision."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **_: Any) -> None:
        for kind in ("image", "video"):
            setattr(self, f"{kind}_token", f"<|{kind}_pad|>")
            setattr(self, f"{kind}_token_id", tokenizer.convert_tokens_to_ids(f"<|{kind}_pad|>"))
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


def run(case: Case, _side: str) -> dict:
    trainer = _trainer(case, make_policy(case))
    trainer.meter = Meter(case.device)
    trainer.add_callback(_Laps(trainer.meter))
    trainer.train()
    prompt, later = (trainer.made[f"{part}_mask"][0] for part in ("prompt", "completion"))
    tokens = {"prompt": int(prompt.sum()), "row": int(prompt.sum() + later.sum())}
    tokens |= {"written": int((later * trainer.made["tool_mask"][0]).sum() if case.crops else later.sum())}
    trained = sum(one.numel() for one in trainer.model.parameters() if one.requires_grad)
    return trainer.meter.result(trainer.optimizer.optimizer, trained=trained, **tokens)


def _trainer(case: Case, policy: Policy) -> _Timed:
    policy.language_model.config._attn_implementation = "sdpa"
    policy.model.generation_config.eos_token_id = policy.stop_id
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": ASKED}]
    rows = [{"prompt": messages, "image": image} for shown in pictures(case) for image in shown.values()]
    generation = case.trl["generation_kwargs"] | {"suppress_tokens": markers(policy)}
    folder = tempfile.TemporaryDirectory(prefix="fovea-bench-")
    config = GRPOConfig(folder.name, **case.trl | {"generation_kwargs": generation})
    made = _Timed(
        model=policy.adapter or policy.model,
        reward_funcs=lambda completions, **_: [number / len(completions) for number in range(len(completions))],
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=_processor(policy),
        tools=[_tool(case)] if case.crops else None,
    )
    made.folder = folder  # until the process ends
    return made


def _processor(policy: Policy) -> _Processor:
    """Our tokenizer and pixels; every turn is read as a call."""
    tokenizer = policy.tokenizer
    tokenizer.chat_template = tokenizer.chat_template.replace(ROLE, ROLE_AND_CALLS)
    tokenizer.response_template = {}
    said = {"role": "assistant", "tool_calls": [CALL]}
    tokenizer.parse_response = lambda ids, **_: said | {"content": tokenizer.decode(ids)}
    AutoProcessor.register(type(policy.model.config), _Processor, exist_ok=True)
    return _Processor(policy.processor.image_processor, tokenizer, chat_template=tokenizer.chat_template)


def _tool(case: Case) -> Callable[[], list]:
    numbers = itertools.count()

    def look() -> list:
        """Look closer.

        Returns:
            A crop of the image.
        """
        before, after = ({"type": "text", "text": text} for text in ("<feedback>", "</feedback>"))
        return [before, {"type": "image", "image": crop(case, next(numbers))}, after]

    return look


def loss_asked(case: Case, policy: Policy, rows: Sequence[TokenRow]) -> Callable[[], Tensor]:
    """TRL's loss of recorded rollouts, laid out as its trainer lays its own; all rows have one prompt."""
    trainer, n_prompt = _trainer(case, policy), rows[0].n_prompt
    trainer.current_gradient_accumulation_steps = 1
    later = [torch.tensor(row.ids[n_prompt:]) for row in rows]
    written = pad_sequence([torch.tensor(row.is_written[n_prompt:]).long() for row in rows], batch_first=True)
    ids = torch.cat([torch.tensor([row.ids[:n_prompt] for row in rows]), pad_sequence(later, batch_first=True)], dim=1)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(row.ids) for row in rows])[:, None]
    told = model_inputs(policy, ids, mask.long(), rows)
    for name, part in (("ids", told.pop("input_ids")), ("mask", told.pop("attention_mask"))):
        told |= {f"prompt_{name}": part[:, :n_prompt], f"completion_{name}": part[:, n_prompt:]}
    told |= {"tool_mask": written.to(policy.device), "num_items_in_batch": written.sum().to(policy.device)}
    told |= {"advantages": torch.tensor(advantages(len(rows)), device=policy.device)}
    return lambda: trainer._compute_loss(
        trainer.model.train(), told | {"num_images": [len(one.images) for one in rows]}
    )
