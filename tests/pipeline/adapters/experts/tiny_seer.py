"""A tiny Qwen2.5-VL that has learnt, within half a minute on one thread, to point at the large findings of a phantom.

It is asked as the `hf` expert asks, in shorter words, and answers in JSON; on crops it says yes or no. It also knows
the drawing of the coordinate check by heart. It is written as a checkpoint folder like any other.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import torch
from PIL import Image

from pipeline.adapters.experts.coordinate_check import MARK, SIZE, drawing
from pipeline.adapters.experts.views import drill_view, scan_view
from pipeline.adapters.experts.wording import Wording
from pipeline.core.phantom import VOCABULARY_LINES, Phantom, PhantomRegion, phantom
from pipeline.core.phantom_questions import plan
from schemas.boxes import Box, Size, grow, intersection
from schemas.seeds import uniform
from trainer.policy import Policy
from trainer.processor import Processor
from trainer.tiny import TinyConfig, make_tiny

VIEW_PX, CROP_PX, STEP_PX = 112, 56, 28
SEED, HELD_OUT = 7, 1_000_000_000
KINDS = ("effusion", "pneumothorax")
N_STEPS, ROWS, RATE, WARM_STEPS = 200, 8, 1.2e-3, 50
CONFIG = TinyConfig(text_layers=2, vision_layers=2, vision_full_attention=(0, 1))
PROMPTS = """
scan = "$question"
drill = "$label here?"
drill_stated = "$label here, in numbers?"
check = "Where is the rectangle?"
[coordinates]
absolute = "pixels"
thousand = "thousandths"
unit = "fractions"
"""
TURN = "<|im_start|>user\n<|vision_start|>{}<|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True, slots=True)
class Lesson:
    picture: Image.Image
    prompt: str
    reply: str


def phantoms(first: int) -> Iterator[tuple[int, Phantom]]:
    """(index, image) of those with a large finding, from an index on."""
    for index in count(first):
        findings = plan(SEED, index, "L1").findings
        if findings and findings[0].kind in KINDS:
            yield index, phantom(SEED, index, "L1", VIEW_PX)


def finding(drawn: Phantom) -> PhantomRegion:
    (found,) = (region for region in drawn.regions if region.provenance == "finding")
    return found


def make_seer(folder: Path, n_steps: int = N_STEPS) -> Path:
    """The trained checkpoint in `folder`, and its prompts in `folder`/prompts.toml."""
    folder.mkdir()
    (folder / "prompts.toml").write_text(PROMPTS, encoding="utf-8")
    wording = Wording.read(folder / "prompts.toml")
    drawn, school = _drawn(wording), _lessons(wording)
    seen = (lesson for pair in (drawn, *islice(_lessons(wording), 100)) for lesson in pair)
    lines = [line for lesson in seen for line in (lesson.prompt, lesson.reply)]
    model, tokenizer, images = make_tiny(CONFIG, [*lines, *VOCABULARY_LINES], seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, n_steps))
    model.train()
    for step in range(n_steps):
        pairs = [*islice(school, ROWS - 1), drawn if step % 2 == 0 else next(school)]
        for lessons in zip(*pairs, strict=True):  # scans, then drills
            _loss(model, tokenizer, images, lessons).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
    Policy(model, Processor(tokenizer, images)).save(folder)
    return folder


def _share(step: int, n_steps: int) -> float:
    """Of the learning rate: up, then down a cosine."""
    return min(1.0, (step + 1) / WARM_STEPS) * max(0.05, 0.5 + 0.5 * math.cos(math.pi * step / n_steps))


def _lessons(wording: Wording) -> Iterator[tuple[Lesson, Lesson]]:
    """A scan and a drill of each training image; every other drill looks where no finding is."""
    for index, drawn in phantoms(0):
        image, found = Image.fromarray(drawn.pixels), finding(drawn)
        scan = wording.scan(drawn.questions[0].text, "absolute", image.size, 8)
        is_there = uniform("seer", index, "there") < 0.5
        box = found.box_xyxy_px if is_there else _elsewhere(found.box_xyxy_px, index)
        crop = drill_view(image, grow(box, 0.5), CROP_PX, STEP_PX)
        drill = Lesson(crop, wording.drill("", found.label, stated=False), "yes" if is_there else "no")
        yield Lesson(image, scan, written(found.box_xyxy_px, found.label)), drill


def _elsewhere(box: Box, index: int) -> Box:
    """A box of the same size that does not touch it."""
    for attempt in count():
        x, y = ((VIEW_PX - box[2 + i] + box[i]) * uniform("seer", index, attempt, i) for i in (0, 1))
        moved = (x, y, x + box[2] - box[0], y + box[3] - box[1])
        if not intersection(moved, box):
            return moved
    raise AssertionError


def written(box: Box, label: str) -> str:
    return json.dumps([{"bbox_2d": [round(edge) for edge in box], "label": label}])


def _drawn(wording: Wording) -> tuple[Lesson, Lesson]:
    """What the coordinate check asks."""
    view = scan_view(drawing(), VIEW_PX, STEP_PX)
    box = tuple(edge * view.size[i % 2] / SIZE[i % 2] for i, edge in enumerate(MARK))
    crop = drill_view(drawing(), grow(MARK, 0.5), CROP_PX, STEP_PX)
    scan = Lesson(view, wording.check("absolute", view.size), written(box, "rectangle"))
    return scan, Lesson(crop, wording.drill("", "bright rectangle", stated=False), "yes")


def _loss(model, tokenizer, images, lessons: Sequence[Lesson]) -> torch.Tensor:
    """Cross-entropy of the replies; rows padded on the right."""
    pairs = [(_prompt_ids(tokenizer, each), _ids(tokenizer, f"{each.reply}<|im_end|>")) for each in lessons]
    longest = max(len(told) + len(reply) for told, reply in pairs)
    ids = torch.full((len(pairs), longest), tokenizer.pad_token_id)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (told, reply) in enumerate(pairs):
        n = len(told) + len(reply)
        ids[row, :n], mask[row, :n] = torch.tensor(told + reply), 1
        labels[row, len(told) : n] = torch.tensor(reply)
    pictures = [each.picture.convert("RGB") for each in lessons]
    seen = images(images=pictures, do_resize=False, return_tensors="pt")
    kinds = (ids == model.config.image_token_id).int()
    return model(input_ids=ids, attention_mask=mask, labels=labels, mm_token_type_ids=kinds, **seen).loss


def _prompt_ids(tokenizer, lesson: Lesson) -> list[int]:
    return _ids(tokenizer, TURN.format("<|image_pad|>" * n_tokens(lesson.picture.size), lesson.prompt))


def _ids(tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def n_tokens(size: Size) -> int:
    return (size[0] // STEP_PX) * (size[1] // STEP_PX)
