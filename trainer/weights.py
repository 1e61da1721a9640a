"""Files of weights: a folder or Hub id into stock Qwen2.5-VL modules, and back. Safetensors only, and all must fit."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration
from transformers.utils import logging as transformers_logging

from schemas.errors import CheckpointError


def load_model(path_or_hub_id: str | Path, dtype: torch.dtype) -> Qwen2_5_VLForConditionalGeneration:
    source = str(path_or_hub_id)
    try:
        config = AutoConfig.from_pretrained(source)
        if config.model_type != "qwen2_5_vl":
            raise CheckpointError(f"a model of type {config.model_type}, not qwen2_5_vl", where=source)
        with _no_progress_bars():
            model, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(
                source,
                config=config,
                dtype=dtype,
                attn_implementation="sdpa",
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise CheckpointError(
            f"weights cannot be loaded: {str(error).splitlines()[0]}",
            where=source,
            fix="give a folder or Hub id with config.json and *.safetensors (pickled weights are never read)",
        ) from error
    if wrong := sorted({*report["missing_keys"], *map(str, report["mismatched_keys"]), *report["unexpected_keys"]}):
        raise CheckpointError(
            f"{len(wrong)} weights are missing, unknown or of another shape: {wrong[:3]}", where=source
        )
    return model


def save_model(model: Qwen2_5_VLForConditionalGeneration, folder: str | Path) -> None:
    """Weights and configuration under their published names, as any Qwen2.5-VL folder has them."""
    with _no_progress_bars():
        model.save_pretrained(str(folder))


def load_tower(visual: nn.Module, path: Path) -> None:
    """The vision tower alone, as `Policy.save` leaves it beside an adapter."""
    try:
        visual.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"vision tower cannot be loaded: {str(error).splitlines()[0]}", where=path) from error


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """transformers draws bars on stderr even when nobody looks."""
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()
