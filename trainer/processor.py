"""Tokenizer and image processor of a Qwen2.5-VL checkpoint, the same pixels on every machine.

The PIL backend is pinned: torchvision resizes a little differently, so its presence would change
the policy's input. The stock `Qwen2_5_VLProcessor` is not used, because its video half cannot be
built without torchvision. Videos are not known here.
"""

import importlib
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

from PIL import Image
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2VLImageProcessorPil

from schemas.boxes import Size
from schemas.errors import CheckpointError, InputError
from trainer.sequences import MERGE, EncodedImage

TOKEN_PX = 14 * MERGE  # side of one merged token
NEEDED_FILES = "the folder needs tokenizer.json, tokenizer_config.json and preprocessor_config.json"
SPELT = "Look: 12, yes"
NEEDED = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>")


@dataclass(frozen=True, slots=True)
class Processor:
    tokenizer: PreTrainedTokenizerBase
    image_processor: Qwen2VLImageProcessorPil

    @classmethod
    def load(cls, path_or_hub_id: str | Path) -> "Processor":
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(path_or_hub_id))
            image_processor = Qwen2VLImageProcessorPil.from_pretrained(str(path_or_hub_id))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:  # whatever a broken JSON leads to
            what = f"tokenizer or image processor cannot be loaded: {str(error).partition(chr(10))[0]}"
            raise CheckpointError(what, where=path_or_hub_id, fix=NEEDED_FILES) from error
        if tokenizer.decode(tokenizer.encode(SPELT)) != SPELT:  # without tokenizer.json the library makes an empty one
            raise CheckpointError("the tokenizer cannot spell plain text", where=path_or_hub_id, fix=NEEDED_FILES)
        if lacking := [name for name in NEEDED if name not in tokenizer.get_vocab()]:
            raise CheckpointError(f"the tokenizer has no {', '.join(lacking)}", where=path_or_hub_id)
        return cls(tokenizer, image_processor)

    def save(self, folder: str | Path) -> None:
        self.tokenizer.save_pretrained(str(folder))
        self.image_processor.save_pretrained(str(folder))

    def encode_image(self, image: Image.Image, min_pixels: int, max_pixels: int) -> EncodedImage:
        """`image` bicubically resized to whole tokens (28 px) within the two areas, normalised, cut into patches."""
        resized = _to_rgb(image)
        size = resized_size_px(image.size, min_pixels, max_pixels)
        if size != resized.size:
            resized = resized.resize(size, Image.Resampling.BICUBIC)
        encoded = self.image_processor(images=[resized], do_resize=False, return_tensors="pt")
        return EncodedImage.of(encoded["pixel_values"], encoded["image_grid_thw"][0].tolist())


def resized_size_px(size: Size, min_pixels: int, max_pixels: int) -> Size:
    """(width, height) of the policy's input for a stored image of `size`: the rule of `qwen_vl_utils.smart_resize`."""
    width, height = size
    smart_resize = _vision_process().smart_resize
    try:
        rows_px, columns_px = smart_resize(height, width, TOKEN_PX, min_pixels=min_pixels, max_pixels=max_pixels)
    except (ValueError, AssertionError) as error:
        raise InputError(f"an image of {width} × {height} px cannot be resized: {error}") from error
    if not (rows_px and columns_px):
        raise InputError(
            f"an image of {width} × {height} px has no room in {max_pixels} pixels", fix="raise max_pixels"
        )
    return columns_px, rows_px


def _to_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else _vision_process().to_rgb(image)  # RGBA goes on white


@cache
def _vision_process() -> ModuleType:
    """`qwen_vl_utils.vision_process`, which imports torchvision at its top but uses it for video alone."""
    try:
        import torchvision  # noqa: F401
    except Exception:  # absent, or built for another torch
        with _torchvision_stand_in():
            return importlib.import_module("qwen_vl_utils.vision_process")
    return importlib.import_module("qwen_vl_utils.vision_process")


@contextmanager
def _torchvision_stand_in():
    """Empty torchvision modules for the length of one import; whatever was there comes back."""
    names = ("torchvision", "torchvision.io", "torchvision.transforms")
    package, io, transforms = (ModuleType(name) for name in names)
    package.io, package.transforms, package.__version__ = io, transforms, "0.0.0"
    transforms.InterpolationMode = SimpleNamespace(BICUBIC="bicubic")
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(zip(names, (package, io, transforms), strict=True))
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.__setitem__(name, module)
