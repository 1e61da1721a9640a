"""Low-rank adapters (LoRA) through peft: small float32 matrices beside frozen linear layers.

    y = W x + (alpha / rank) · B A x,   A [rank, in], B [out, rank], B = 0 at the start (Hu et al., arXiv:2106.09685)

Dropout is always 0 and no bias is trained, so that shared and independent rows agree. peft is an extra and is
imported when an adapter is wanted. Nothing is unpickled: an adapter is read from safetensors or not at all.
"""

import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from schemas.errors import CheckpointError, UsageError
from schemas.seeds import digest_int

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's own names
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TOWER = "visual."  # prefix of a target in the vision tower


@dataclass(frozen=True, slots=True)
class Lora:
    """`targets` are names of linear layers in the decoder's layers, or behind `visual.` in the tower's blocks."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    seed: int


def attach(model: nn.Module, lora: Lora, base: str) -> "PeftModel":
    """New adapters in `model`, whose own weights are frozen; `base` is what a checkpoint of them will name."""
    peft = _peft()
    for target in lora.targets:
        found = [one for name, one in model.named_modules() if re.fullmatch(_pattern([target]), name)]
        if not found or not all(isinstance(one, nn.Linear) for one in found):
            raise UsageError(f"no linear layer is called {target!r}", where="model.lora_targets")
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=_pattern(lora.targets),
        lora_dropout=0.0,
        bias="none",
    )
    adapter = _inject(model, config, base)
    _initialise(model, lora.seed)
    return adapter


def is_adapter(folder: str | Path) -> bool:
    return (Path(folder) / CONFIG).is_file()


def base_of(folder: str | Path) -> str:
    """The folder or Hub id of the model that the adapter in `folder` belongs to."""
    path = Path(folder) / CONFIG
    try:
        return json.loads(path.read_text("utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError("the adapter names no base model", where=path) from error


def read(model: nn.Module, folder: str | Path) -> "PeftModel":
    """The adapter that `write` left in `folder`, in `model`; CheckpointError unless every tensor fits."""
    peft = _peft()
    try:
        stored = load_file(Path(folder) / WEIGHTS)
        config = peft.LoraConfig.from_pretrained(str(folder), inference_mode=False)
        adapter = _inject(model, config, config.base_model_name_or_path)
        result = peft.set_peft_model_state_dict(adapter, stored)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"adapter cannot be loaded: {str(error).splitlines()[0]}", where=folder) from error
    lacking = [name for name in result.missing_keys if "lora_" in name]
    if lacking or result.unexpected_keys:
        raise CheckpointError(f"weights of the adapter are missing or unknown: {lacking[:3]}", where=folder)
    return adapter


def write(adapter: "PeftModel", folder: str | Path) -> None:
    """peft's two files, without its model card: making that asks the Hub."""
    tensors = _peft().get_peft_model_state_dict(adapter, save_embedding_layers=False)
    Path(folder).mkdir(parents=True, exist_ok=True)
    config: LoraConfig = adapter.peft_config["default"]
    config.save_pretrained(str(folder))
    held = {name: tensors[name].detach().contiguous().cpu() for name in sorted(tensors)}
    save_file(held, Path(folder) / WEIGHTS, metadata={"format": "pt"})


def _inject(model: nn.Module, config: "LoraConfig", base: str) -> "PeftModel":
    """peft draws its own start from the global generator, which is left as it was, and calls the base as it likes."""
    config.base_model_name_or_path = None
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by names that will go
        adapter = _peft().get_peft_model(model, config, autocast_adapter_dtype=True)
    adapter.peft_config["default"].base_model_name_or_path = base
    return adapter


@torch.no_grad()
def _initialise(model: nn.Module, seed: int) -> None:
    """A uniform in ±1/√in, peft's rule, drawn by the layer's name on the CPU: the same bytes everywhere."""
    for name, weight in model.named_parameters():
        if ".lora_A." in name:
            generator = torch.Generator().manual_seed(digest_int("lora", seed, name) >> 1)
            bound = weight.shape[1] ** -0.5
            weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=generator))
        elif ".lora_B." in name:
            weight.zero_()


def _pattern(targets: tuple[str, ...] | list[str]) -> str:
    """One regular expression over the model's module names, as peft matches it (whole names)."""
    decoder = [re.escape(one) for one in targets if not one.startswith(TOWER)]
    tower = [re.escape(one.removeprefix(TOWER)) for one in targets if one.startswith(TOWER)]
    places = (r"model\.language_model\.layers", decoder), (r"model\.visual\.blocks", tower)
    return "|".join(rf"{place}\.\d+\.\w+\.({'|'.join(names)})" for place, names in places if names)


def _peft():
    try:
        import peft
    except ImportError as error:
        raise UsageError("adapters need peft", where="model.lora_rank", fix="pip install 'fovea[lora]'") from error
    return peft
