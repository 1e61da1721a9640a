"""The policy: Qwen2.5-VL as four bare parts – embedding, vision tower, decoder, head weight.

Callers always give embeddings and explicit positions, so the model never infers a position and
its hidden `rope_deltas` never exists. With adapters the parts are those of the base model, adapters in place.
Checkpoints are safetensors only; nothing is unpickled, no remote code runs. Sampling, loss and tokenised text live
elsewhere.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

from schemas.errors import CheckpointError, UsageError
from trainer import lora as adapters
from trainer.attention import NAME, Past
from trainer.gathering import rows_of
from trainer.processor import Processor
from trainer.sequences import MERGE, EncodedImage
from trainer.weights import load_model, load_tower, save_model

if TYPE_CHECKING:
    from peft import PeftModel

MARKERS = tuple(
    f"<|{name}|>"
    for name in "endoftext im_start vision_start vision_end vision_pad image_pad video_pad".split()  # not im_end
)
GAZE_MARKERS = ("<|gaze_", "<st>")  # prefixes of tokens that are inputs only
TOKENS_AT_ONCE = 8192  # of images in a tower without a graph: what it holds meanwhile grows with them
TOWER_WEIGHTS = "vision_tower.safetensors"  # beside an adapter, where the tower itself is trained


class Placed(NamedTuple):
    """Image features [n, hidden] that replace tokens start…start+n−1 of one row of a batch."""

    row: int
    start: int
    features: torch.Tensor


class Policy:
    """Bare modules of one checkpoint. All dropout is 0: else two forwards of a row differ by definition.

    `adapter` is peft's wrapper of `model` where there is one: then the adapters train, and the tower as a whole
    unless `freeze_vision`.
    """

    def __init__(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        processor: Processor,
        *,
        freeze_vision: bool = False,
        adapter: "PeftModel | None" = None,
    ) -> None:
        self.model, self.processor, self.adapter = model.eval(), processor, adapter
        self.visual, self.language_model = model.model.visual, model.model.language_model
        self.language_model.config._attn_implementation = NAME
        self.image_id: int = model.config.image_token_id
        if self.tokenizer.convert_tokens_to_ids("<|image_pad|>") != self.image_id:
            raise CheckpointError(f"the tokenizer's <|image_pad|> is not the model's image_token_id, {self.image_id}")
        self.stop_id: int = self.tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.banned_ids = frozenset(_banned_ids(self.tokenizer, self.head_weight.shape[0]))
        self.banned = torch.zeros(self.head_weight.shape[0], dtype=torch.bool, device=self.device)
        self.banned[sorted(self.banned_ids)] = True
        if adapter is None and freeze_vision:
            self.visual.requires_grad_(False)
        elif adapter is not None and not freeze_vision:
            self.visual.requires_grad_(True)  # peft froze all that is not its own
        self.freeze_vision = not any(one.requires_grad for one in self.visual.parameters())  # features have no graph
        _refuse_unexact(model)

    @classmethod
    def load(
        cls,
        path_or_hub_id: str | Path,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        *,
        freeze_vision: bool = False,
        lora: adapters.Lora | None = None,
        base: str | Path | None = None,
    ) -> "Policy":
        """A checkpoint folder or Hub id; CheckpointError if it is no complete Qwen2.5-VL in safetensors.

        `lora` puts new adapters in. A folder that holds an adapter alone is laid over `base`, by default the model
        that it names.
        """
        refuse_absent_device(device)
        if not adapters.is_adapter(path_or_hub_id):
            model = load_model(path_or_hub_id, dtype)
            adapter = None if lora is None else adapters.attach(model, lora, str(path_or_hub_id))
            return cls(model.to(device), Processor.load(path_or_hub_id), freeze_vision=freeze_vision, adapter=adapter)
        base = base or adapters.base_of(path_or_hub_id)
        model = load_model(base, dtype)
        adapter = adapters.read(model, path_or_hub_id)
        if (tower := Path(path_or_hub_id) / TOWER_WEIGHTS).is_file():
            load_tower(model.model.visual, tower)
        return cls(model.to(device), Processor.load(base), freeze_vision=freeze_vision, adapter=adapter)

    def save(self, folder: str | Path) -> None:
        """What `load` takes: weights, configuration, tokenizer and image processor; with adapters only what trains."""
        if self.adapter is None:
            save_model(self.model, folder)
            self.processor.save(folder)
            return
        adapters.write(self.adapter, folder)
        tower = {name: one for name, one in self.visual.state_dict().items() if ".lora_" not in name}
        if any(one.requires_grad for name, one in self.visual.named_parameters() if ".lora_" not in name):
            save_file({name: one.contiguous().cpu() for name, one in tower.items()}, Path(folder) / TOWER_WEIGHTS)

    def merge(self) -> None:
        """Adds the adapters to the weights beside them, for good: what `save` writes then is any Qwen2.5-VL folder."""
        if self.adapter is not None:
            self.adapter.merge_and_unload()
            self.adapter = None

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

    def embed(self, ids: torch.Tensor, placed: Sequence[Placed] = (), *, accumulate: bool = False) -> torch.Tensor:
        """Token embeddings of ids [B, n] with image features put in their places: [B, n, hidden].

        With `accumulate` the backward pass adds to the embedding's `.grad` where that can be (`trainer.gathering`).
        """
        batch, length = ids.shape
        tokens = self.language_model.embed_tokens
        embedded = rows_of(tokens, ids) if accumulate else tokens(ids)
        if not placed:
            return embedded
        starts = torch.tensor([place.row * length + place.start for place in placed])
        counts = torch.tensor([len(place.features) for place in placed])
        offsets = torch.arange(int(counts.sum())) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        at = (starts.repeat_interleave(counts) + offsets).to(ids.device)
        features = torch.cat([place.features for place in placed]).to(embedded.dtype)
        return embedded.flatten(0, 1).index_copy(0, at, features).view(batch, length, -1)

    def encode(self, images: Sequence[EncodedImage]) -> list[torch.Tensor]:
        """Features [n_tokens, hidden] of each image; with a graph, all go through the vision tower in one call."""
        if not self.freeze_vision:
            return self._encoded(images)
        with torch.no_grad():
            return [features for some in _runs(images) for features in self._encoded(some)]

    def _encoded(self, images: Sequence[EncodedImage]) -> list[torch.Tensor]:
        if not images:
            return []
        pixels = torch.cat([image.pixel_values for image in images]).to(self.device, self.visual.dtype)
        grids = torch.tensor([image.grid_thw for image in images], device=self.device)
        features = self.visual(pixels, grid_thw=grids).pooler_output
        return list(features.split([image.n_tokens for image in images]))

    def decode_hidden(
        self, inputs_embeds: torch.Tensor, position_ids: torch.Tensor, past: Past, *, recompute: bool = False
    ) -> torch.Tensor:
        """Last hidden states [B, n, hidden] of n new tokens at positions [3, B, n] after `past`.

        Padding on the right needs no mask: nothing earlier looks at it. `recompute` keeps only layer inputs and
        runs each layer again in the backward pass, which is exact only for a past that takes nothing up.
        """
        shared = {
            "attention_mask": None,
            "position_embeddings": self.language_model.rotary_emb(inputs_embeds, position_ids),
            "past": past,
        }
        hidden = inputs_embeds
        for layer in self.language_model.layers:
            if recompute:
                hidden = checkpoint(layer, hidden, use_reentrant=False, preserve_rng_state=False, **shared)
            else:
                hidden = layer(hidden, **shared)
        return self.language_model.norm(hidden)


def _runs(images: Sequence[EncodedImage]) -> list[list[EncodedImage]]:
    """Neighbours of at most `TOKENS_AT_ONCE` image tokens (at least one image)."""
    runs: list[list[EncodedImage]] = []
    n_tokens = 0
    for image in images:
        if not runs or n_tokens + image.n_tokens > TOKENS_AT_ONCE:
            runs.append([])
            n_tokens = 0
        runs[-1].append(image)
        n_tokens += image.n_tokens
    return runs


def refuse_absent_device(device: str | torch.device) -> None:
    """UsageError unless `device` is cpu, or a GPU that this torch can reach on this machine."""
    n_gpus = torch.cuda.device_count()
    known = ["cpu", *(["cuda"] if n_gpus else []), *(f"cuda:{number}" for number in range(n_gpus))]
    if str(device) not in known:
        raise UsageError(f"no device {str(device)!r} here", where="--device", fix=f"one of {', '.join(known)}")


def _banned_ids(tokenizer: PreTrainedTokenizerBase, n_rows: int) -> set[int]:
    """Ids no turn may contain: a sampled image placeholder, for one, breaks the next forward."""
    names = tokenizer.get_vocab()
    markers = {names[name] for name in MARKERS if name in names}
    gaze = {index for name, index in names.items() if name.startswith(GAZE_MARKERS)}
    return markers | gaze | set(range(len(tokenizer), n_rows))


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
