"""A recipe: every setting of a run in one frozen record, read from TOML, refined with `--set a.b=c`.

Unknown keys are errors. The resolved recipe is hashed into `run.json`; two runs with the same hash that also agree in
all else that a resumed run must agree on (`trainer.runlog`), and in what `model.base` holds, give the same weights.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from schemas.errors import UsageError
from schemas.manifest import sha256_of
from schemas.settings import override, settings_of, toml
from trainer.core.advantages import AdvantageConfig
from trainer.core.rewards import RewardConfig
from trainer.core.schedules import ScheduleConfig
from trainer.lora import TARGETS, TOWER, Lora
from trainer.losses import LossConfig
from trainer.tiny import TinyConfig

Sharding = Literal["none", "zero2", "zero3"]  # what each of them splits: `trainer.sharding`


def _refuse_below(config: Any, least: float, *names: str) -> None:
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(config, name)}")


def _refuse_long_warmup(schedule: ScheduleConfig, steps: int) -> None:
    """A run would find it out at its first step only."""
    if 0 < steps <= schedule.warmup_steps:
        raise ValueError(f"schedule.warmup_steps ({schedule.warmup_steps}) must be less than steps ({steps})")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    base: str = "Qwen/Qwen2.5-VL-3B-Instruct"  # folder or Hub id; "tiny" makes one from [tiny] [P]
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"  # [D]
    freeze_vision: bool = True  # [D]
    recompute: bool = False  # keep layer inputs only and run layers again in the backward pass [D]
    lora_rank: int = 0  # of adapters beside the frozen weights; 0: the weights themselves are trained [D]
    lora_alpha: float = 32.0  # their sum is scaled by alpha / rank [D]
    lora_targets: tuple[str, ...] = TARGETS  # linear layers of the decoder; `visual.qkv`: of the tower [D]

    def __post_init__(self) -> None:
        _refuse_below(self, 0, "lora_rank")
        if self.lora_rank and not (self.lora_alpha > 0 and self.lora_targets):
            raise ValueError("lora_alpha must be > 0 and lora_targets name a layer")
        if self.lora_rank and not self.freeze_vision and any(one.startswith(TOWER) for one in self.lora_targets):
            raise ValueError("a tower whose layers have adapters is frozen itself: set freeze_vision")

    def lora(self, seed: int) -> Lora | None:
        """The adapters of a run with this seed, if there are any."""
        return Lora(self.lora_rank, self.lora_alpha, self.lora_targets, seed) if self.lora_rank else None


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """What the policy sees: areas in pixels, rounded to whole 28 px tokens. Ours; the papers give no crop size."""

    image_min_pixels: int = 256 * 28 * 28
    image_max_pixels: int = 1280 * 28 * 28
    crop_min_pixels: int = 256 * 28 * 28
    crop_max_pixels: int = 1024 * 28 * 28
    look_min_side_px: int = 28  # smallest side of a look, in pixels of the resized image

    def __post_init__(self) -> None:
        _refuse_below(self, 1, "image_min_pixels", "crop_min_pixels", "look_min_side_px")
        _refuse_below(self, self.image_min_pixels, "image_max_pixels")
        _refuse_below(self, self.crop_min_pixels, "crop_max_pixels")


@dataclass(frozen=True, slots=True)
class DialogueConfig:
    dialect: Literal["medeyes", "zoom"] = "medeyes"
    system: str = (
        "You answer questions about a medical image. Think inside <reasoning></reasoning>, then either look closer "
        'with <action>{"name": "Gaze", "coordinate": [x0, y0, x1, y1]}</action> (absolute pixels) or finish with '
        "<answer></answer>."
    )
    looks_max: int = 4  # T_max [P]
    reasoning_tokens_max: int = 128  # expert words kept per turn [D]
    turn_tokens_max: int = 256  # written tokens per turn [D]

    def __post_init__(self) -> None:
        _refuse_below(self, 0, "looks_max", "reasoning_tokens_max")
        _refuse_below(self, 1, "turn_tokens_max")


@dataclass(frozen=True, slots=True)
class DataConfig:
    slice: str = "trajectories/*/*"  # the one slice of expert trajectories
    n_experts: int = 6  # N_expert [P]
    experts: Literal["cvs", "grn", "scan_only", "drill_only", "random", "none"] = "cvs"  # whose trajectories; ablations

    def __post_init__(self) -> None:
        _refuse_below(self, 0, "n_experts")


@dataclass(frozen=True, slots=True)
class WarmConfig:
    """SFT before the policy gradient. Ours: it stands for the papers' instruct model where there is none.

    `format` teaches grammar and crop reading with uniformly random looks; `expert` imitates expert episodes.
    In `format`, `reading_share` of the rows look where the answer is, but their look carries no loss; in the other
    rows the look is uniform and an answer that it cannot show is drawn from the prior.
    """

    kind: Literal["none", "format", "expert"] = "none"
    slice: str = "ingest/*/*"  # questions of `format`; a seed range of its own
    steps: int = 0
    batch: int = 32
    look_weight: float = 1.0  # loss weight of tokens in look turns
    words_weight: float = 1.0  # loss weight of the reasoning before the answer
    answer_weight: float = 4.0  # loss weight of the answer: one word drowns among a dozen coordinates
    guess_weight: float = 1.0  # loss weight of an answer that the crop does not show
    reading_share: float = 0.5
    look_side_share_min: float = 0.25  # side of a random look as a share of the image side
    look_side_share_max: float = 0.4
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(lr=1e-5))

    def __post_init__(self) -> None:
        _refuse_below(self, 0, "steps", "look_weight", "words_weight", "answer_weight", "guess_weight", "reading_share")
        _refuse_below(self, 1, "batch")
        if self.reading_share > 1:
            raise ValueError(f"reading_share must be in [0, 1], got {self.reading_share}")
        if not 0 < self.look_side_share_min <= self.look_side_share_max <= 1:
            raise ValueError("0 < look_side_share_min <= look_side_share_max <= 1 does not hold")
        if self.kind != "none":
            _refuse_long_warmup(self.schedule, self.steps)


@dataclass(frozen=True, slots=True)
class RunConfig:
    steps: int = 80  # optimizer steps of dual-stream GRPO [P: 80 iterations]
    prompts_per_step: int = 7  # 98 = 7 × (8 + 6) [P, read as trajectories]
    n_policy: int = 8  # rollouts per prompt [P]
    live_rows: int = 64  # rollouts that write at a time; what they write does not depend on it [D]
    temperature: float = 1.0  # [D]; sampling and training at one temperature
    max_tokens: int = 8192  # padded tokens of a micro-batch [D]
    seed: int = 0
    save_every: int = 20
    keep: int = 2  # newest checkpoints kept beside those at the borders of a phase
    weight_decay: float = 0.0  # AdamW [D]
    grad_norm_max: float = 1.0  # [C]
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    self_check: bool = True  # one group, shared prefix against independent rows, before the first step
    sharding: Sharding = "none"  # of weights, gradients and optimizer over the ranks of a run [D]

    def __post_init__(self) -> None:
        _refuse_below(self, 0, "steps", "weight_decay", "seed")
        _refuse_below(self, 1, "prompts_per_step", "n_policy", "live_rows", "max_tokens", "save_every", "keep")
        if self.seed >= 2**63:
            raise ValueError(f"seed must be below 2**63, got {self.seed}")
        if self.temperature <= 0 or self.grad_norm_max <= 0:
            raise ValueError(f"temperature ({self.temperature}) and grad_norm_max ({self.grad_norm_max}) must be > 0")
        _refuse_long_warmup(self.schedule, self.steps)


@dataclass(frozen=True, slots=True)
class Recipe:
    model: ModelConfig = field(default_factory=ModelConfig)
    tiny: TinyConfig = field(default_factory=TinyConfig)
    view: ViewConfig = field(default_factory=ViewConfig)
    dialogue: DialogueConfig = field(default_factory=DialogueConfig)
    data: DataConfig = field(default_factory=DataConfig)
    warm: WarmConfig = field(default_factory=WarmConfig)
    run: RunConfig = field(default_factory=RunConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    advantage: AdvantageConfig = field(default_factory=AdvantageConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        if self.data.n_experts > self.advantage.experts_max:  # the surplus would be read, and then stay out unseen
            raise ValueError(
                f"data.n_experts ({self.data.n_experts}) is more than advantage.experts_max"
                f" ({self.advantage.experts_max})"
            )

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def digest(self) -> str:
        return sha256_of(self.plain())


def recipe_names() -> list[str]:
    return sorted(
        path.name.removesuffix(".toml") for path in files("trainer.recipes").iterdir() if path.name[-5:] == ".toml"
    )


def load_recipe(name_or_path: str, overrides: Iterable[str] = ()) -> Recipe:
    """A shipped recipe by name or a TOML file by path, with `section.key=value` overrides in TOML syntax."""
    if name_or_path in recipe_names():
        text, where = (files("trainer.recipes") / f"{name_or_path}.toml").read_text("utf-8"), name_or_path
    elif (path := Path(name_or_path)).suffix == ".toml" and path.is_file():
        text, where = _read(path), str(path)
    else:
        raise UsageError(f"no recipe {name_or_path!r}", fix=f"one of {', '.join(recipe_names())}, or a .toml file")
    plain = toml(text, where)
    for said in overrides:
        override(plain, said)
    return settings_of(Recipe, plain, where)


def recipe_from(plain: Mapping[str, Any]) -> Recipe:
    """The recipe that `Recipe.plain` was taken of, for example in `run.json`."""
    return settings_of(Recipe, plain, "run.json")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot be read: {error}", where=path) from error
