"""A loaded vision-language model of the Qwen families that looks at pictures and writes, in batches, greedily.

What it is told is one user turn: a picture and a prompt, in the words of the model's own chat template. A prompt is
text: markers of the model in it are spelt out, so that no question can forge a turn or a picture. Padding is on the
left and masked. Nothing is sampled, no remote code runs, nothing is unpickled; a weight that is missing is an error,
since the library would draw it at random.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers.decoders import DecodeStream
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeForConditionalGeneration,
)
from transformers.utils import logging as transformers_logging

from pipeline.adapters.experts.halving import is_out_of_memory
from pipeline.adapters.experts.hf_checkpoint import Checkpoint
from pipeline.adapters.experts.token_odds import Said, Token, spoken
from schemas.errors import ExpertError

CLASSES: dict[str, type[PreTrainedModel]] = {
    "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration,
    "qwen3_vl": Qwen3VLForConditionalGeneration,
    "qwen3_vl_moe": Qwen3VLMoeForConditionalGeneration,
}
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
TURN_ENDS = ("<|im_end|>", "<|endoftext|>")
PROMPT_HERE = "\ue000"  # private use: no template has it
YES_OR_NO = re.compile("[^a-z]*(yes|no)[^a-z]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    """`said` has the log-probability of every token written, and with `wants_top` those of yes and no at each place."""

    said: Said
    n_in: int  # tokens
    n_out: int


class LocalModel:
    """Weights, tokenizer and image processor that fit together."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        images: Qwen2VLImageProcessorPil,
        merge: int,
    ) -> None:
        self.model, self.tokenizer, self.images, self.merge = model.eval(), tokenizer, images, merge
        self.image_id: int = model.config.image_token_id
        self.ends = [index for name in TURN_ENDS if (index := tokenizer.get_vocab().get(name)) is not None]
        self.before, self.after = self._turn()
        ids = (index for token, index in tokenizer.get_vocab().items() if YES_OR_NO.fullmatch(token))
        self.answers = {index: tokenizer.decode([index]) for index in sorted(ids)}
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.ends[0]
        # in place of the checkpoint's: its temperature, penalties and lengths are for chats
        ending = {"eos_token_id": self.ends, "pad_token_id": self.pad_id}
        model.generation_config = GenerationConfig(do_sample=False, **ending)

    @classmethod
    def load(cls, checkpoint: Checkpoint, dtype: str, device: str) -> "LocalModel":
        """ExpertError where the folder's files do not make a model, or the device does not hold it."""
        where = _device(device)
        with checkpoint.alone() as folder:
            try:
                model = _load(folder, checkpoint.model_type, getattr(torch, dtype)).to(where)
                tokenizer = AutoTokenizer.from_pretrained(str(folder), **LOCAL)
                images = Qwen2VLImageProcessorPil.from_pretrained(str(folder), local_files_only=True)
                vision = model.config.vision_config
                if (images.patch_size, images.merge_size) != (vision.patch_size, vision.spatial_merge_size):
                    raise ValueError("the image processor cuts patches of another size than the model takes")
                return cls(model, tokenizer, images, vision.spatial_merge_size)
            except Exception as error:  # whatever broken files lead to
                why, fix = str(error).partition("\n")[0] or type(error).__name__, "download the model again"
                if is_out_of_memory(error):
                    why, fix = "it does not fit in memory", "take dtype=bfloat16, another device or a smaller model"
                why = f"the model cannot be loaded: {why}".replace(str(folder), str(checkpoint.folder))
                raise ExpertError(why, where=checkpoint.folder, fix=fix) from error

    @torch.inference_mode()
    def say(self, shown: Sequence[tuple[Image.Image, str]], max_tokens: int, *, wants_top: bool) -> list[Reply]:
        """What the model writes about each (picture, prompt), at most `max_tokens`; with 1 a single forward pass.

        Sides of the pictures are multiples of merged patches: they are shown as they are.
        """
        pictures = [picture.convert("RGB") for picture, _ in shown]
        seen = self.images(images=pictures, do_resize=False, return_tensors="pt").to(self.model.device)
        counts = (seen["image_grid_thw"].prod(-1) // self.merge**2).tolist()
        prompts = [self._ids(prompt, count) for (_, prompt), count in zip(shown, counts, strict=True)]
        longest = max(map(len, prompts))
        ids = torch.tensor([[self.pad_id] * (longest - len(each)) + each for each in prompts])
        mask = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in prompts])
        recorder = _Recorder(list(self.answers) if wants_top else [])
        written = self.model.generate(
            input_ids=ids.to(self.model.device),
            attention_mask=mask.to(self.model.device),
            mm_token_type_ids=(ids == self.image_id).int().to(self.model.device),
            pixel_values=seen["pixel_values"],
            image_grid_thw=seen["image_grid_thw"],
            max_new_tokens=max_tokens,
            logits_processor=LogitsProcessorList([recorder]),
        )
        rows = zip(prompts, written[:, longest:].tolist(), recorder.rows(), strict=True)
        return [self._reply(len(prompt), tokens, logprobs) for prompt, tokens, logprobs in rows]

    def _turn(self) -> tuple[list[int], list[int]]:
        """Ids before and after the prompt; the picture is one id in either, repeated later."""
        content = [{"type": "image"}, {"type": "text", "text": PROMPT_HERE}]
        message = [{"role": "user", "content": content}]
        turn = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        parts = [self.tokenizer.encode(part, add_special_tokens=False) for part in turn.split(PROMPT_HERE)]
        if len(parts) != 2 or sum(part.count(self.image_id) for part in parts) != 1 or not self.ends:
            raise ValueError("its chat template does not show one picture and one text")
        return parts[0], parts[1]

    def _ids(self, prompt: str, n_image_tokens: int) -> list[int]:
        told = self.tokenizer.encode(prompt, add_special_tokens=False, split_special_tokens=True)
        ids = [*self.before, *told, *self.after]
        at = ids.index(self.image_id)
        return [*ids[:at], *[self.image_id] * n_image_tokens, *ids[at + 1 :]]

    def _reply(self, n_in: int, ids: Sequence[int], logprobs: Sequence[Sequence[float]]) -> Reply:
        ends = [place for place, index in enumerate(ids) if index in self.ends]
        stop = ends[0] if ends else len(ids)
        stream = DecodeStream(skip_special_tokens=True)
        tokens = []
        for index, (own, *others) in zip(ids[:stop], logprobs, strict=False):
            top = tuple(zip(self.answers.values(), others, strict=True)) if others else ()
            tokens.append(Token(stream.step(self.tokenizer.backend_tokenizer, index) or "", own, top))
        text = "".join(token.text for token in tokens)
        return Reply(Said(spoken(text), tuple(tokens), not ends), n_in, stop + bool(ends))


class _Recorder(LogitsProcessor):
    """Keeps, at every step, log-probabilities of the likeliest token, which is the one written, and of `ids`."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids, self.steps = list(ids), list[torch.Tensor]()

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        likeliest = scores.max(-1, keepdim=True).values
        self.steps.append(torch.cat([likeliest, scores[:, self.ids]], -1) - scores.logsumexp(-1, keepdim=True))
        return scores

    def rows(self) -> list[list[list[float]]]:
        """[row][step][the token, then ids]."""
        return torch.stack(self.steps, 1).tolist()


def _load(folder: Path, model_type: str, dtype: torch.dtype) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(str(folder), **LOCAL)
    with _no_progress_bars():
        model, report = CLASSES[model_type].from_pretrained(
            str(folder),
            config=config,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            output_loading_info=True,
            **LOCAL,
        )
    if wrong := sorted({*report["missing_keys"], *map(str, report["mismatched_keys"])}):
        raise ValueError(f"{len(wrong)} weights are missing or of another shape: {wrong[:3]}")
    return model


def _device(name: str) -> torch.device:
    n_gpus = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda" if n_gpus else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        raise ExpertError(f"no device {name!r} here", fix="device=auto takes what there is")
    return device


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
