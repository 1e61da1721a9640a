"""MedPLIB itself behind the shape that `medplib_service` serves; it is imported in MedPLIB's environment alone.

NOT RUN WITH REAL WEIGHTS. Written from ShawnHuang497/MedPLIB at commit 5ab54bc (its `evaluate`, its gradio worker);
tests drive it with a stand-in for the network and check what is put in and what is made of what comes out. Before
its answers are used, look at some of them: `fovea audit --expert`, or the masks in `expert_calls`.

What that code makes necessary: a region is inserted only where <region> and </region> stand side by side; a small box
can vanish on the 24 x 24 grid that regions are pooled on, so the cell of its centre is then set; DeepSpeed's top-1
gate and the pooling of large regions draw random numbers, so every request is seeded; predicted IoUs are thrown away
by `evaluate`, so a hook keeps them.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.adapters.experts.medplib_service import Drawn, Spoken

IMAGE, REGION = -200, -300  # indices that stand for what is no word
CLIP_PX, SAM_PX, GRID = 336, 256, 24
CLIP_MEAN = (122, 116, 104)  # its padding, before the processor normalises
SAM_MEAN, SAM_DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SCAN_TOKENS, DRILL_TOKENS = 256, 64
SPELLINGS = {"yes": ("Yes", "yes", "YES"), "no": ("No", "no", "NO")}


def load(weights: Path, sam: Path) -> "Medplib":
    """The model on the first GPU, in bfloat16: about 23 GB. `mm_vision_tower` in its config.json has to exist here."""
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "63999"}
    for name, value in alone.items():
        os.environ.setdefault(name, value)
    import deepspeed

    deepspeed.init_distributed(dist_backend="nccl")
    from model.medplib.conversation import conv_templates
    from model.medplib.mm_utils import tokenizer_image_token
    from model.medplib.model.builder import load_pretrained_model

    tokenizer, model, processor, _ = load_pretrained_model(
        str(weights), None, "medplib", device_map="cuda", vision_pretrained=str(sam)
    )
    model.eval()

    def ids(text: str) -> list[int]:
        talk = conv_templates["v1"].copy()
        talk.append_message(talk.roles[0], f"<im_start><image><im_end>\n{text}")
        talk.append_message(talk.roles[1], None)
        return list(tokenizer_image_token(talk.get_prompt(), tokenizer, IMAGE, return_tensors=None))

    return Medplib(tokenizer, model, processor, ids, model.get_model().visual_model.mask_decoder)


@dataclass
class Medplib:
    """`ids`: a text as the tokens of a conversation, with IMAGE in them. `decoder`: gives (masks, predicted IoUs)."""

    tokenizer: Any
    model: Any
    processor: Any
    ids: Callable[[str], list[int]]
    decoder: Any
    device: str = "cuda"
    name: str = "MedPLIB"
    settings: dict[str, Any] = field(
        default_factory=lambda: {"precision": "bf16", "tokens": [SCAN_TOKENS, DRILL_TOKENS], "glue": 1}
    )

    def __post_init__(self) -> None:
        self._ious: list[float] = []
        self.decoder.register_forward_hook(lambda _, __, out: self._ious.append(float(out[1].flatten()[0])))

    def draw(self, image: Image.Image, text: str) -> Drawn:
        import torch

        with _seeded():
            ids = self._input(text)
            small = _shrunk(image, SAM_PX)
            self._ious.clear()
            out, masks = self.model.evaluate(
                self._clip(image),
                self._sam(small),
                ids,
                [list(small.shape[:2])],
                [torch.ones(image.height, image.width)],
                max_new_tokens=SCAN_TOKENS,
                tokenizer=self.tokenizer,
                attention_mask=ids.ne(self.tokenizer.pad_token_id),
                inference_demo=True,  # else it draws even where it wrote no <SEG>
            )
            words = self._words(out, ids)
            if not masks:
                return Drawn(words)
            return Drawn(words, torch.sigmoid(masks[0][0].float()).cpu().numpy(), self._ious[0])

    def speak(self, image: Image.Image, text: str, region: np.ndarray | None) -> Spoken:
        import torch

        with _seeded():
            ids = self._input(text)
            has_region = region is not None
            out = self.model.generate(
                images=self._clip(image),
                input_ids=ids,
                region_masks=torch.from_numpy(grid_of(region))[None, None].to(self.device) if has_region else [],
                valid_region_masks_bool=[[torch.ones(1).bool()]] if has_region else [],
                attention_mask=ids.ne(self.tokenizer.pad_token_id),
                max_new_tokens=DRILL_TOKENS,
                do_sample=False,
                num_beams=1,
                use_cache=True,
                output_scores=True,
                return_dict_in_generate=True,
            )
            shares = torch.softmax(out.scores[0][0].float(), dim=-1)
            # a sum of shares may be above 1 by its rounding, which would be no probability
            p_yes, p_no = (min(1.0, float(sum(shares[i] for i in self._spelled(word)))) for word in SPELLINGS)
            return Spoken(self._words(out.sequences, ids), p_yes, p_no)

    def _input(self, text: str) -> Any:
        import torch

        opening, closing = (self.tokenizer.convert_tokens_to_ids(each) for each in ("<region>", "</region>"))
        return torch.tensor([with_regions(self.ids(text), opening, closing)], device=self.device)

    def _words(self, out: Any, ids: Any) -> str:
        return str(self.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)[0]).strip()

    def _spelled(self, word: str) -> list[int]:
        """Tokens that are the word, with or without the mark of a leading space."""
        spelled = [mark + each for each in SPELLINGS[word] for mark in ("▁", "")]
        found = {self.tokenizer.convert_tokens_to_ids(each) for each in spelled}
        return sorted(found - {self.tokenizer.unk_token_id, None})

    def _clip(self, image: Image.Image) -> Any:
        import torch

        pixels = _padded(_shrunk(image, CLIP_PX), CLIP_PX, CLIP_MEAN)
        chosen = self.processor.preprocess(torch.from_numpy(pixels).permute(2, 0, 1), return_tensors="pt")
        return chosen["pixel_values"][0][None].to(self.device, torch.bfloat16)

    def _sam(self, small: np.ndarray) -> Any:
        import torch

        normal = (small.astype(np.float32) - np.float32(SAM_MEAN)) / np.float32(SAM_DEVIATION)
        pixels = torch.from_numpy(_padded(normal, SAM_PX, (0, 0, 0))).permute(2, 0, 1)
        return pixels[None].to(self.device, torch.bfloat16)


def with_regions(ids: list[int], opening: int, closing: int) -> list[int]:
    """REGION between each two adjacent tokens <region> and </region>."""
    found = list(ids[:1])
    for before, token in pairwise(ids):
        found += [REGION, token] if (before, token) == (opening, closing) else [token]
    return found


def grid_of(region: np.ndarray) -> np.ndarray:
    """uint8 [24, 24]: the mask at a longest side of 336, centred, every 14th pixel; never empty."""
    small = np.asarray(_resized(Image.fromarray(region.astype(np.uint8)), CLIP_PX))
    grid = _padded(small, CLIP_PX, 0)[:: CLIP_PX // GRID, :: CLIP_PX // GRID].copy()
    if not grid.any():
        ys, xs = np.nonzero(region)
        scale, margins = CLIP_PX / max(region.shape), [(CLIP_PX - side) // 2 for side in small.shape]
        middle = ((each.min() + each.max() + 1) / 2 for each in (ys, xs))
        y, x = (int((at * scale + margin) * GRID / CLIP_PX) for at, margin in zip(middle, margins, strict=True))
        grid[min(y, GRID - 1), min(x, GRID - 1)] = 1
    return grid


def _shrunk(image: Image.Image, side_px: int) -> np.ndarray:
    return np.asarray(_resized(image, side_px))


def _resized(image: Image.Image, side_px: int) -> Image.Image:
    """Longest side `side_px`, as SAM's ResizeLongestSide does it."""
    scale = side_px / max(image.size)
    width, height = (int(side * scale + 0.5) for side in image.size)
    return image.resize((max(1, width), max(1, height)), Image.BILINEAR)


def _padded(pixels: np.ndarray, side_px: int, value: Any) -> np.ndarray:
    """Centred in a square; the odd line goes to the bottom or the right."""
    top, left = ((side_px - side) // 2 for side in pixels.shape[:2])
    square = np.empty((side_px, side_px, *pixels.shape[2:]), pixels.dtype)
    square[:] = value
    square[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return square


def _seeded() -> Any:
    """Random numbers from one seed, and no gradients."""
    import torch

    torch.manual_seed(0)
    return torch.inference_mode()
