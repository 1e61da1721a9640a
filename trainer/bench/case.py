"""What all sides are given alike: weights, pixels, prompts, recorded rollouts, and how long a turn is.

The weights are random and never write an action, so the environment is scripted: every turn has a fixed number of
tokens, and a fixed number of turns is answered with a crop of noise.
"""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace as Case

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

from schemas.records import Question
from trainer import lora
from trainer.dialogue import Dialogue, Ids
from trainer.environment import Environment, Episode, Scene
from trainer.policy import Policy
from trainer.processor import TOKEN_PX, Processor
from trainer.recipe import DialogueConfig, ViewConfig
from trainer.sequences import MERGE, EncodedImage, TokenRow
from trainer.tiny import TinyConfig, make_tokenizer, model_config

ASKED = "Where is the lesion, left or right?"
LINES = (f"{ASKED} system user assistant <feedback> </feedback>",) * 9


def make_policy(case: Case) -> Policy:
    """Random weights, the same in every process."""
    sizes = TinyConfig(**case.sizes)
    tokenizer = make_tokenizer(LINES, sizes.vocab_size - sizes.spare_ids)
    torch.manual_seed(0)
    with torch.device(case.device):
        model = Qwen2_5_VLForConditionalGeneration(model_config(sizes, tokenizer)).to(getattr(torch, case.dtype))
    adapter = lora.attach(model, lora.Lora(64, 128.0, lora.TARGETS, 0), "") if case.trained == "lora" else None
    area = {"shortest_edge": sizes.min_pixels, "longest_edge": sizes.max_pixels}
    processor = Processor(tokenizer, Qwen2VLImageProcessorPil(size=area, patch_size=14, merge_size=MERGE))
    policy = Policy(model, processor, freeze_vision=case.trained != "all", adapter=adapter)
    policy.banned[policy.stop_id] = True  # a turn ends with its last token
    return policy


def markers(policy: Policy) -> list[int]:
    """Ids that no side may sample: a placeholder without an image breaks the next forward."""
    return sorted(one for one in policy.banned_ids if one < len(policy.tokenizer))


def noise(tokens: int, number: int, kind: int = 0) -> Image.Image:
    side = math.isqrt(tokens) * TOKEN_PX
    return Image.fromarray(np.random.default_rng((kind, number)).integers(0, 256, (side, side, 3), dtype=np.uint8))


def crop(case: Case, number: int) -> Image.Image:
    """Never one of the prompts' images."""
    return noise(case.crop_tokens, number, kind=1)


@dataclass(frozen=True)
class Scripted(Environment):
    case: Case
    looks: Iterator[int]  # which noise is seen next

    def take(self, episode: Episode, ids: tuple[int, ...], *, is_whole: bool = True) -> Ids | None:
        episode.write(ids, "")
        if len(episode.turns) > self.case.crops:
            episode.is_over = True
            return None
        seen = self.dialogue.observation("", self.encoded(crop(self.case, next(self.looks))))
        episode.observe(seen)
        return seen

    def encoded(self, image: Image.Image) -> EncodedImage:
        """Without a resize, as all sizes are whole tokens."""
        made = self.processor.image_processor(images=[image], do_resize=False, return_tensors="pt")
        return EncodedImage.of(made["pixel_values"], made["image_grid_thw"][0].tolist())

    def scenes(self, images: dict[int, Image.Image]) -> list[Scene]:
        asked = [Question(f"{one}", "bench", "train", ("image",), ASKED, "left", "closed") for one in images]
        return [Scene(one, (image,), (self.encoded(image),)) for one, image in zip(asked, images.values(), strict=True)]


def make_environment(case: Case, policy: Policy, looks: Iterator[int] | None = None) -> Scripted:
    spoken = DialogueConfig(system="", looks_max=case.crops, turn_tokens_max=case.turn_tokens)
    return Scripted(Dialogue(policy.processor, spoken), ViewConfig(), case, looks or itertools.count())


def pictures(case: Case) -> list[dict[int, Image.Image]]:
    """The prompts' images of every run, by number; no run repeats another's unless the case says so."""
    starts = [0 if case.is_repeated else run * case.prompts for run in range(case.warmup + case.repeats)]
    return [{number: noise(case.image_tokens, number) for number in range(at, at + case.prompts)} for at in starts]


def recorded(case: Case, policy: Policy) -> list[TokenRow]:
    """One group's rollouts as if sampled: ordinary ids; rows with the same first look share first turn and crop."""
    n_rows, n_looks = case.group, case.first_looks or case.group
    looks = [row % n_looks if turn == 0 else turn * n_rows + row for row in range(n_rows) for turn in range(case.crops)]
    environment = make_environment(case, policy, iter(looks))
    (scene,) = environment.scenes({0: noise(case.image_tokens, 0)})
    ordinary = [one for one in range(len(policy.tokenizer)) if not policy.banned[one]]
    episodes = [environment.start(scene, "policy", f"rollout {row}") for row in range(n_rows)]
    for row, episode in enumerate(episodes):
        for turn in range(case.crops + 1):
            rng = random.Random(f"{turn} {row % n_looks if turn == 0 else row}")
            environment.take(episode, tuple(rng.choices(ordinary, k=case.turn_tokens)))
    return [episode.row for episode in episodes]


def advantages(n: int) -> list[float]:
    """Not centred, so that the loss is not 0."""
    return [random.Random(f"advantage {row}").gauss(0.2, 1.0) for row in range(n)]
