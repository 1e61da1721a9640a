"""What a run would take, from its recipe and the model's config.json alone: no weight is read, no data are opened.

`estimate_of` is told before a model is loaded, and all that `fovea train --dry-run` does. Only on a GPU is a run
refused for it: there the free memory is known, and nothing is lent by other programs' caches.
"""

import json as jsonlib
import os
from collections.abc import Iterable

import torch
import typer
from transformers import AutoConfig, Qwen2_5_VLConfig

from schemas.errors import CheckpointError, UsageError
from trainer.memory import Estimate, Plan, Work, estimate
from trainer.recipe import Recipe, load_recipe
from trainer.sizes import Sizes
from trainer.tiny import make_tokenizer, model_config

TOKEN_AREA_PX = 28 * 28
CHARACTERS_PER_TOKEN, QUESTION_TOKENS, FEEDBACK_TOKENS = 3, 128, 48  # of English text; markers included


def dry_run(recipe_name: str, overrides: Iterable[str], device: str, *, json: bool) -> None:
    """What `fovea train --dry-run` prints: of one process of WORLD_SIZE, on a device that need not be there."""
    recipe, world_size = load_recipe(recipe_name, overrides), int(os.environ.get("WORLD_SIZE", "1"))
    found = estimate_of(recipe, device, world_size)
    if json:
        about = {"model": recipe.model.base, "device": device, "world_size": world_size}
        print(jsonlib.dumps(about | {"sharding": recipe.run.sharding} | found.plain()))
    else:
        typer.echo("\n".join(told(found)))


def estimate_of(recipe: Recipe, device: str = "cpu", world_size: int = 1) -> Estimate:
    """Of one process of `world_size`."""
    return estimate(Sizes.of(config_of(recipe)), plan_of(recipe, device, world_size), work_of(recipe, world_size))


def config_of(recipe: Recipe) -> Qwen2_5_VLConfig:
    """The configuration of the recipe's base: a folder's, a Hub id's, or the tiny one's."""
    if recipe.model.base == "tiny":
        return model_config(recipe.tiny, make_tokenizer((), recipe.tiny.vocab_size - recipe.tiny.spare_ids))
    try:
        config = AutoConfig.from_pretrained(recipe.model.base)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"no configuration: {str(error).splitlines()[0]}", where=recipe.model.base) from error
    if config.model_type != "qwen2_5_vl":
        raise CheckpointError(f"a model of type {config.model_type}, not qwen2_5_vl", where=recipe.model.base)
    return config


def plan_of(recipe: Recipe, device: str = "cpu", world_size: int = 1) -> Plan:
    model = recipe.model
    return Plan(
        width=getattr(torch, model.dtype).itemsize,
        freezes_vision=model.freeze_vision,
        recomputes=model.recompute,
        has_reference=recipe.loss.kl > 0,
        lora_rank=model.lora_rank,
        lora_targets=model.lora_targets if model.lora_rank else (),
        world_size=world_size,
        sharding=recipe.run.sharding,
        is_on_cpu=device == "cpu",
    )


def work_of(recipe: Recipe, world_size: int = 1) -> Work:
    """A step at its largest: one image per question, as many looks as are allowed, every turn written to its end."""
    run, view, dialogue = recipe.run, recipe.view, recipe.dialogue
    image, crop = view.image_max_pixels // TOKEN_AREA_PX, view.crop_max_pixels // TOKEN_AREA_PX
    prompt = image + len(dialogue.system) // CHARACTERS_PER_TOKEN + QUESTION_TOKENS
    written = (dialogue.looks_max + 1) * dialogue.turn_tokens_max
    row = written + dialogue.looks_max * (crop + FEEDBACK_TOKENS)
    rows = run.n_policy + recipe.data.n_experts
    warm = 0 if recipe.warm.kind == "none" else recipe.warm.batch
    return Work(
        prompts=-(-run.prompts_per_step // world_size),
        rows=rows,
        rollouts=run.n_policy,
        image_tokens=image,
        prompt_tokens=prompt,
        row_tokens=row,
        crop_tokens=dialogue.looks_max * crop,
        looks=dialogue.looks_max,
        written_tokens=written,
        batch_tokens=min(rows, max(1, run.max_tokens // row)) * row,
        begun_rows=2 * run.live_rows + run.n_policy,  # as many as write may wait to be shown what they asked for
        imitated_tokens=min(warm, max(1, run.max_tokens // (prompt + row))) * (prompt + row),
    )


def told(found: Estimate) -> list[str]:
    """Lines for people, in GB of 10⁹ bytes."""
    counts = found.parameters
    lines = [
        f"parameters {counts['total']:,}, trained {counts['trained']:,} (vision {counts['vision']:,}, "
        f"head {counts['head']:,}, adapters {counts['adapters']:,})"
    ]
    for name in ("resident", "rollout", "update"):
        parts: dict[str, int] = getattr(found, name)
        each = ", ".join(f"{part} {size / 1e9:.3g}" for part, size in parts.items() if size)
        lines.append(f"{name} {sum(parts.values()) / 1e9:.3g} GB: {each}")
    return [*lines, f"peak about {found.peak / 1e9:.3g} GB, every image and row at its largest"]


def refuse_too_large(found: Estimate, device: str) -> None:
    """UsageError where a GPU has less free memory than the estimate."""
    if not device.startswith("cuda"):
        return
    free, _ = torch.cuda.mem_get_info(device)
    if found.peak > free:
        raise UsageError(
            f"the run would take about {found.peak / 1e9:.3g} GB of GPU memory, {free / 1e9:.3g} GB are free",
            where=device,
            fix="lower run.max_tokens or view.*_max_pixels, set model.recompute, model.lora_rank or bfloat16",
        )
