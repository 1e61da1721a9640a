"""Tiny random checkpoints of every family that the `hf` expert loads, written as folders."""

from pathlib import Path

import torch
from transformers import (
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
)

from trainer.processor import Processor
from trainer.tiny import TinyConfig, make_tiny, make_tokenizer

LINES = ("What about 0? Where is the lesion? yes Yes no No left right",) * 9
FAMILIES = ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 2, 2]},
    "tie_word_embeddings": True,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
VISION = {
    "depth": 2,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_heads": 4,
    "out_hidden_size": 64,
    "patch_size": 16,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 1],
}


def make_family(family: str, folder: Path) -> Path:
    """Its weights are enlarged: untrained logits are almost flat, and a flat model forgives every mistake."""
    if family == "qwen2_5_vl":
        sizes = TinyConfig(vocab_size=360, text_hidden=64, text_mlp=96, text_layers=2, vision_window_px=56)
        model, tokenizer, images = make_tiny(sizes, LINES, seed=0)
    else:
        model, tokenizer = _qwen3(family)
        images = Qwen2VLImageProcessorPil(patch_size=16, merge_size=2)
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.mul_(3.0)
    model.save_pretrained(str(folder))
    Processor(tokenizer, images).save(folder)
    return folder


def _qwen3(family: str):
    tokenizer = make_tokenizer(LINES, 340)
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad", "vision_start_token_id": "vision_start"}
    names |= {"vision_end_token_id": "vision_end"}
    ids = {field: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for field, name in names.items()}
    text = TEXT | {"vocab_size": 344, "pad_token_id": tokenizer.pad_token_id}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if family == "qwen3_vl":
            config = Qwen3VLConfig(text_config=text, vision_config=VISION, tie_word_embeddings=True, **ids)
            return Qwen3VLForConditionalGeneration(config).eval(), tokenizer
        config = Qwen3VLMoeConfig(text_config=text | EXPERTS, vision_config=VISION, tie_word_embeddings=True, **ids)
        return Qwen3VLMoeForConditionalGeneration(config).eval(), tokenizer
