"""The policy: Qwen2.5-VL as four bare parts – embedding, vision tower, decoder, head weight.

Callers always give embeddings and explicit positions, so the model never infers a position and
its hidden `rope_deltas` never exists. Checkpoints are safetensors only; nothing is unpickled, no
remote code runs. Sampling, loss and tokenised text live elsewhere.
"""

from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration
from transformers.utils import logging as transformers_logging

from schemas.errors import CheckpointError, UsageError
from trainer.processor import Processor
from trainer.sequences import MERGE, EncodedImage

MARKERS = tuple(
    f"<|{name}|>"
    for name in "endoftext im_start vision_start vision_end vision_pad image_pad video_pad".split()  # not im_end
)
GAZE_MARKERS = ("<|gaze_", "<st>")  # prefixes of tokens that are inputs only


class LayerCache(Protocol):
    """Keys and values of earlier tokens; `update` gets a layer's new ones and returns all of them."""

    n_past: int

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


class Placed(NamedTuple):
    """Image features [n, hidden] that replace tokens start…start+n−1 of one row of a batch."""

    row: int
    start: int
    features: torch.Tensor


class Policy:
    """Bare modules of one checkpoint. All dropout is 0: else two forwards of a row differ by definition."""

    def __init__(
        self, model: Qwen2_5_VLForConditionalGeneration, processor: Processor, *, freeze_vision: bool = False
    ) -> None:
        self.model, self.processor = model.eval(), processor
        self.visual, self.language_model = model.model.visual, model.model.language_model
        self.image_id: int = model.config.image_token_id
        if self.tokenizer.convert_tokens_to_ids("<|image_pad|>") != self.image_id:
            raise CheckpointError(f"the tokenizer's <|image_pad|> is not the model's image_token_id, {self.image_id}")
        self.stop_id: int = self.tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.banned_ids = frozenset(_banned_ids(self.tokenizer, self.head_weight.shape[0]))
        self.banned = torch.zeros(self.head_weight.shape[0], dtype=torch.bool, device=self.device)
        self.banned[sorted(self.banned_ids)] = True
        self.freeze_vision = freeze_vision
        if freeze_vision:
            self.visual.requires_grad_(False)
        _refuse_unexact(model)

    @classmethod
    def load(
        cls,
        path_or_hub_id: str | Path,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        *,
        freeze_vision: bool = False,
    ) -> "Policy":
        """A checkpoint folder or Hub id; CheckpointError if it is no complete Qwen2.5-VL in safetensors."""
        refuse_absent_device(device)
        model = _load_model(path_or_hub_id, dtype).to(device)
        return cls(model, Processor.load(path_or_hub_id), freeze_vision=freeze_vision)

    def save(self, folder: str | Path) -> None:
        """Weights, configuration, tokenizer and image processor, so that `load` takes the folder."""
        with _no_progress_bars():
            self.model.save_pretrained(str(folder))
        self.processor.save(folder)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.processor.tokenizer

    @property
    def head_weight(self) -> torch.Tensor:
        """[vocabulary, hidden]; the embedding itself where the checkpoint ties them."""
        return self.model.lm_head.weight

    @property
    def device(self) -> torch.device:
        return self.head_weight.device

    @property
    def n_layers(self) -> int:
        return len(self.language_model.layers)

    def embed(self, ids: torch.Tensor, placed: Sequence[Placed] = ()) -> torch.Tensor:
        """Token embeddings of ids [B, n] with image features put in their places: [B, n, hidden]."""
        batch, length = ids.shape
        embedded = self.language_model.embed_tokens(ids)
        if not placed:
            return embedded
        starts = torch.tensor([place.row * length + place.start for place in placed])
        counts = torch.tensor([len(place.features) for place in placed])
        offsets = torch.arange(int(counts.sum())) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        at = (starts.repeat_interleave(counts) + offsets).to(ids.device)
        features = torch.cat([place.features for place in placed]).to(embedded.dtype)
        return embedded.flatten(0, 1).index_copy(0, at, features).view(batch, length, -1)

    def encode(self, images: Sequence[EncodedImage]) -> list[torch.Tensor]:
        """Features [n_tokens, hidden] of each image, all through the vision tower in one call."""
        if not images:
            return []
        pixels = torch.cat([image.pixel_values for image in images]).to(self.device, self.visual.dtype)
        grids = torch.tensor([image.grid_thw for image in images], device=self.device)
        with torch.no_grad() if self.freeze_vision else nullcontext():
            features = self.visual(pixels, grid_thw=grids).pooler_output
        return list(features.split([image.n_tokens for image in images]))

    def decode_hidden(
        self,
        inputs_embeds: torch.Tensor,
        position_ids: torch.Tensor,
        cache: LayerCache | None = None,
        key_mask: torch.Tensor | None = None,
        *,
        recompute: bool = False,
    ) -> torch.Tensor:
        """Last hidden states [B, n, hidden] of n new tokens at positions [3, B, n] after `cache`.

        `key_mask` [B, n_past + n] is False where a cache slot holds no token of that row; None means
        that there is no such hole. Padding on the right needs no mask: nothing earlier looks at it.
        `recompute` keeps only layer inputs and runs each layer again in the backward pass, which is
        exact only for a cache that stores nothing in `update`.
        """
        _, n_new, _ = inputs_embeds.shape
        n_past = cache.n_past if cache is not None else 0
        shared = {
            "attention_mask": _attention_mask(n_new, n_past, key_mask, inputs_embeds.device),
            "position_embeddings": self.language_model.rotary_emb(inputs_embeds, position_ids),
            "past_key_values": cache,
        }
        hidden = inputs_embeds
        for layer in self.language_model.layers:
            if recompute:
                hidden = checkpoint(layer, hidden, use_reentrant=False, preserve_rng_state=False, **shared)
            else:
                hidden = layer(hidden, **shared)
        return self.language_model.norm(hidden)


def refuse_absent_device(device: str | torch.device) -> None:
    """UsageError unless `device` is cpu, or a GPU that this torch can reach on this machine."""
    n_gpus = torch.cuda.device_count()
    known = ["cpu", *(["cuda"] if n_gpus else []), *(f"cuda:{number}" for number in range(n_gpus))]
    if str(device) not in known:
        raise UsageError(f"no device {str(device)!r} here", where="--device", fix=f"one of {', '.join(known)}")


def _attention_mask(
    n_new: int, n_past: int, key_mask: torch.Tensor | None, device: torch.device
) -> torch.Tensor | None:
    """Who may look at whom, bool [B or 1, 1, n_new, n_past + n_new]; None leaves plain causality to the kernel."""
    if n_new == 1 or (key_mask is None and n_past == 0):
        return None if key_mask is None else key_mask[:, None, None, :]
    causal = torch.ones(n_new, n_past + n_new, dtype=torch.bool, device=device).tril(n_past)[None, None]
    return causal if key_mask is None else causal & key_mask[:, None, None, :]


def _banned_ids(tokenizer: PreTrainedTokenizerBase, n_rows: int) -> set[int]:
    """Ids no turn may contain: a sampled image placeholder, for one, breaks the next forward."""
    names = tokenizer.get_vocab()
    markers = {names[name] for name in MARKERS if name in names}
    gaze = {index for name, index in names.items() if name.startswith(GAZE_MARKERS)}
    return markers | gaze | set(range(len(tokenizer), n_rows))


def _load_model(path_or_hub_id: str | Path, dtype: torch.dtype) -> Qwen2_5_VLForConditionalGeneration:
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


def _refuse_unexact(model: nn.Module) -> None:
    """CheckpointError for what would make a cached forward differ from a whole one."""
    text, vision = model.config.text_config, model.config.vision_config
    dropping = [name for name, part in model.named_modules() if isinstance(part, nn.Dropout) and part.p > 0]
    if dropping or text.attention_dropout:
        raise CheckpointError(f"dropout is not 0: {dropping or 'attention_dropout'}", fix="set it to 0 in the config")
    if set(text.layer_types) != {"full_attention"}:
        raise CheckpointError("sliding-window attention is not supported", fix="set use_sliding_window to false")
    if vision.spatial_merge_size != MERGE:
        raise CheckpointError(f"spatial_merge_size is {vision.spatial_merge_size}, not {MERGE}")


@contextmanager
def _no_progress_bars():
    """transformers draws bars on stderr even when nobody looks."""
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()
