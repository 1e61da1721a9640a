"""A tiny Qwen2.5-VL: the real classes, the real tokenizer rules, about a million parameters.

Everything that is true of a 3B checkpoint is true of this one – mRoPE, windowed vision, grouped
keys, single digits, spare embedding rows – so a test or a demo on a CPU runs the same code.
The weights are random: it knows nothing until it is trained.
"""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
)

from trainer.policy import Policy
from trainer.processor import Processor
from trainer.sequences import MERGE

SPECIAL = tuple(
    f"<|{name}|>"
    for name in (
        "endoftext im_start im_end object_ref_start object_ref_end box_start box_end quad_start quad_end "
        "vision_start vision_end vision_pad image_pad video_pad"
    ).split()
)
ADDED = ("<tool_call>", "</tool_call>")  # single ids, yet not special, as in Qwen2.5
IDS_MIN = 256 + len(SPECIAL) + len(ADDED)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, slots=True)
class TinyConfig:
    """Sizes; the defaults give about 1.2 M parameters."""

    vocab_size: int = 640  # rows of the embedding; the tokenizer leaves `spare_ids` of them free
    spare_ids: int = 32  # for gaze tokens, as the real model has 271
    text_hidden: int = 128
    text_layers: int = 3
    text_heads: int = 4
    text_kv_heads: int = 2
    text_mlp: int = 256
    vision_hidden: int = 96
    vision_layers: int = 3
    vision_heads: int = 4
    vision_mlp: int = 192
    vision_window_px: int = 112
    vision_full_attention: tuple[int, ...] = (2,)  # layers that see the whole image, not a window
    min_pixels: int = 4 * 28 * 28
    max_pixels: int = 112 * 112

    def __post_init__(self) -> None:
        for one in fields(self):
            least = {"spare_ids": 0, "vision_window_px": 14 * MERGE}.get(one.name, 1)
            if one.name != "vision_full_attention" and getattr(self, one.name) < least:
                raise ValueError(f"{one.name} must be at least {least}, got {getattr(self, one.name)}")
        divisible = {  # rotary positions turn pairs of a text head, and pairs of both axes of a vision head
            "text_hidden": 2 * self.text_heads,
            "text_heads": self.text_kv_heads,
            "vision_hidden": 4 * self.vision_heads,
        }
        for name, by in divisible.items():
            if getattr(self, name) % by:
                raise ValueError(f"{name} must be a multiple of {by}, got {getattr(self, name)}")
        if self.vocab_size - self.spare_ids < IDS_MIN:
            raise ValueError(f"vocab_size − spare_ids must be at least {IDS_MIN}: every byte and marker has an id")


def make_tiny(
    config: TinyConfig, lines: Sequence[str], seed: int
) -> tuple[Qwen2_5_VLForConditionalGeneration, PreTrainedTokenizerBase, Qwen2VLImageProcessorPil]:
    """A random model of `config`, a tokenizer trained on `lines`, and the PIL image processor."""
    tokenizer = make_tokenizer(lines, config.vocab_size - config.spare_ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(model_config(config, tokenizer)).eval()
        _initialise(model)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    size = {"shortest_edge": config.min_pixels, "longest_edge": config.max_pixels}
    return model, tokenizer, Qwen2VLImageProcessorPil(size=size, patch_size=14, merge_size=MERGE)


@torch.no_grad()
def _initialise(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Fan-in scaled weights, and patches read as a whitened cosine basis.

    The library's deviation of 0.02 suits widths of thousands: at 96 it leaves every layer linear, and a random patch
    embedding buries texture under brightness. Measured on gold crops of the phantom (striped or plain): without
    this, chance after 8,000 crops; with it, all right after 3,200.
    """
    for part in model.modules():
        if isinstance(part, torch.nn.Linear) and part is not model.lm_head:
            part.weight.normal_(std=part.in_features**-0.5)
    projection = model.model.visual.patch_embed.proj.weight  # [features, colours, frames, side, side]
    basis = whitened_cosines(len(projection), projection.shape[-1])
    projection.copy_(basis[:, None, None].expand_as(projection))


def whitened_cosines(n: int, side: int) -> torch.Tensor:
    """The first `n` products of cosines on a side × side patch, those along the axes first: [n, side, side].

    Amplitude grows with frequency, as that of natural images falls, so that fine texture weighs as much as brightness.
    """
    orders = sorted(itertools.product(range(side), repeat=2), key=lambda order: (min(order), max(order), order))[:n]
    waves = torch.cos(torch.pi * torch.outer(torch.arange(side), torch.arange(side) + 0.5) / side)
    planes = torch.stack([torch.outer(waves[row], waves[column]) for row, column in orders])
    planes /= planes.flatten(1).norm(dim=1)[:, None, None]
    return planes * torch.tensor([0.1 * (1 + math.hypot(*order)) for order in orders])[:, None, None]


def save_tiny(config: TinyConfig, lines: Sequence[str], seed: int, folder: str | Path) -> Path:
    """`make_tiny` written as a checkpoint folder, to be loaded like any other."""
    model, tokenizer, image_processor = make_tiny(config, lines, seed)
    Policy(model, Processor(tokenizer, image_processor)).save(folder)
    return Path(folder)


def make_tokenizer(lines: Sequence[str], n_ids: int) -> PreTrainedTokenizerBase:
    """Byte-level BPE with Qwen2's splitting (each digit by itself): at most `n_ids` ids, markers included."""
    rules = Qwen2Tokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE())
    learner.normalizer, learner.pre_tokenizer = rules.normalizer, rules.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=n_ids - len(SPECIAL) - len(ADDED),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(list(lines), trainer)
    bpe = json.loads(learner.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=bpe["vocab"],
        merges=[tuple(pair) for pair in bpe["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL[1:]),
        model_max_length=32_768,
    )
    tokenizer.add_tokens(list(ADDED))
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def model_config(config: TinyConfig, tokenizer: PreTrainedTokenizerBase) -> Qwen2_5_VLConfig:
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("endoftext", "im_end")}
    half = config.text_hidden // config.text_heads // 2
    side = half * 3 // 8  # the real model splits 64 into 16 + 24 + 24
    text = {
        "vocab_size": max(config.vocab_size, len(tokenizer)),
        "hidden_size": config.text_hidden,
        "intermediate_size": config.text_mlp,
        "num_hidden_layers": config.text_layers,
        "num_attention_heads": config.text_heads,
        "num_key_value_heads": config.text_kv_heads,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [half - 2 * side, side, side]},
        "bos_token_id": ids["endoftext"],
        "eos_token_id": ids["im_end"],
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": config.vision_layers,
        "hidden_size": config.vision_hidden,
        "intermediate_size": config.vision_mlp,
        "num_heads": config.vision_heads,
        "out_hidden_size": config.text_hidden,
        "window_size": config.vision_window_px,
        "fullatt_block_indexes": list(config.vision_full_attention),
    }
    markers = ("image_pad", "video_pad", "vision_start", "vision_end")
    image, video, start, end = (tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in markers)
    built = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        tie_word_embeddings=True,
    )
    built._attn_implementation = "sdpa"
    return built
