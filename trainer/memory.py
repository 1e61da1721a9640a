"""How much memory a run takes: arithmetic over a model's sizes and a step's work; nothing is loaded or measured here.

What a graph keeps per token was counted on the layers of Qwen2.5-VL in transformers 5.23. Left out are the losses of
allocators, libraries and the data set. `Work` is a step at its largest, so most real steps need less.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from trainer.sizes import PATCH_NUMBERS, Sizes

Sharding = Literal["none", "zero2", "zero3"]
PATCHES_PER_TOKEN = 4
SHORT_LIVED = 1.15  # peaks measured on the CPU were 1.04 to 1.30 times the sum of what is counted here
TOWER_TOKENS = 8192  # of `trainer.policy`: image tokens at a time in a tower without a graph
CHUNK_LOGITS, LOGIT_COPIES = 1 << 24, 2  # of `trainer.head`: logits at a time; p too where the entropy pulls


@dataclass(frozen=True, slots=True)
class Plan:
    """What is trained, how and where: `width` is bytes per weight; `lora_targets` is empty without adapters."""

    width: int
    freezes_vision: bool
    recomputes: bool = False
    has_reference: bool = False
    lora_rank: int = 0
    lora_targets: tuple[str, ...] = ()
    world_size: int = 1
    sharding: Sharding = "none"
    is_on_cpu: bool = True

    @property
    def exact(self) -> int:
        """Bytes per number of gradients, moments, adapters, norms and logits: at least float32."""
        return max(4, self.width)

    @property
    def has_adapters(self) -> bool:
        return self.lora_rank > 0

    @property
    def runs_tower_through(self) -> bool:
        """Whether gradients go through the tower, so that it keeps a graph."""
        return not self.freezes_vision or any(target.startswith("visual.") for target in self.lora_targets)

    def share(self, n: int) -> int:
        """What one rank holds of `n` bytes that `sharding` splits."""
        return n if self.sharding == "none" else -(-n // self.world_size)


@dataclass(frozen=True, slots=True)
class Work:
    """A step of one process: `prompts` groups of `rows` rows, `rollouts` of them sampled, tokens at their most.

    A row is a prompt, of which `image_tokens` show its image, and `row_tokens`, of which `written_tokens` carry loss
    and `crop_tokens` show the crops of `looks` looks. `batch_tokens` are run at once in an update, `imitated_tokens`
    in a warm start; at most `begun_rows` rollouts are under way at a time.
    """

    prompts: int
    rows: int
    rollouts: int
    image_tokens: int
    prompt_tokens: int
    row_tokens: int
    crop_tokens: int
    looks: int
    written_tokens: int
    batch_tokens: int
    imitated_tokens: int = 0
    begun_rows: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes by what they are for; what stays through a run, and what only a rollout or only an update holds."""

    parameters: dict[str, int]
    resident: dict[str, int]
    rollout: dict[str, int]
    update: dict[str, int]

    @property
    def peak(self) -> int:
        passing = max(sum(self.rollout.values()), sum(self.update.values()))
        return sum(self.resident.values()) + int(passing * SHORT_LIVED)

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "peak": self.peak}


def estimate(sizes: Sizes, plan: Plan, work: Work) -> Estimate:
    parameters = count_parameters(sizes, plan)
    return Estimate(
        parameters,
        resident_bytes(sizes, plan, work, parameters),
        rollout_bytes(sizes, plan, work),
        update_bytes(sizes, plan, work, parameters),
    )


def count_parameters(sizes: Sizes, plan: Plan) -> dict[str, int]:
    """All, those that are trained, those of the tower, of the head (also when it is the embedding), of adapters."""
    shapes = [sizes.linear(target) for target in plan.lora_targets]
    adapters = sum(layers * plan.lora_rank * (inputs + outputs) for layers, inputs, outputs in shapes)
    tower = 0 if plan.freezes_vision else sizes.n_vision
    trained = tower + (adapters if plan.has_adapters else sizes.n_weights - sizes.n_vision)
    counted = {"total": sizes.n_weights + adapters, "trained": trained, "vision": sizes.n_vision}
    return counted | {"head": sizes.n_embedding, "adapters": adapters}


def resident_bytes(sizes: Sizes, plan: Plan, work: Work, parameters: dict[str, int]) -> dict[str, int]:
    """Two moments per trained number, a float32 master of each trained weight of two bytes; pixels are the host's."""
    split, rest = _split(sizes, plan), sizes.n_weights - _split(sizes, plan)
    beside = plan.exact if plan.width < plan.exact else 0
    own = parameters["trained"] - parameters["adapters"]  # weights of the base that are trained
    in_parts = min(split, own)
    optimizer = 2 * plan.exact * parameters["adapters"] + (2 * plan.exact + beside) * (own - in_parts)
    pictures = work.prompts * (work.image_tokens + work.rows * work.crop_tokens)
    return {
        "weights": plan.width * rest + plan.share(plan.width * split),
        "adapters": plan.exact * parameters["adapters"],
        "optimizer": optimizer + plan.share((2 * plan.exact + beside) * in_parts),
        "reference": plan.width * sizes.n_weights if plan.has_reference else 0,
        "pixels": 4 * PATCHES_PER_TOKEN * PATCH_NUMBERS * pictures if plan.is_on_cpu else 0,
    }


def rollout_bytes(sizes: Sizes, plan: Plan, work: Work) -> dict[str, int]:
    """Keys and values of a prompt once, of each row's own tokens once; logits with their cumulative sums in float64."""
    live = min(work.prompts * work.rollouts, work.begun_rows)
    begun = -(-live // work.rollouts)  # prompts
    slot = sizes.layers * 2 * sizes.kv * plan.width
    first, later = work.prompts * work.image_tokens, work.prompts * work.rollouts * work.crop_tokens
    at_once = max(first, live * work.crop_tokens // max(1, work.looks))
    tower = at_once if plan.runs_tower_through else TOWER_TOKENS
    return {
        "gathered weights": 0 if plan.sharding == "none" else plan.width * _split(sizes, plan),
        "prompt caches": slot * begun * work.prompt_tokens,
        "row caches": slot * live * work.row_tokens,
        "vision features": (first + later) * sizes.hidden * plan.width,
        "tower or prefill": max(
            tower_bytes(sizes, plan) * min(at_once, tower), layer_bytes(sizes, plan) * begun * work.prompt_tokens
        ),
        "logits": live * sizes.vocabulary * (plan.exact * LOGIT_COPIES + 8),
    }


def update_bytes(sizes: Sizes, plan: Plan, work: Work, parameters: dict[str, int]) -> dict[str, int]:
    """One group at a time: the images, the prompt's graph, then micro-batches that leave only gradients of leaves.

    A tower without a graph is done before the prompt begins; the head's logits and a layer's backward take turns.
    """
    token, has_graph = decoder_graph_bytes(sizes, plan), plan.runs_tower_through
    kept = sizes.layers * (sizes.hidden * plan.width if plan.recomputes else token)
    leaves = 2 * plan.exact * sizes.layers * 2 * sizes.kv * work.prompt_tokens  # values and gradients
    pictures = work.image_tokens + work.rows * work.crop_tokens
    group = sizes.layers * token * work.prompt_tokens + leaves + kept * work.batch_tokens
    running = max(work.batch_tokens, work.imitated_tokens)
    scored = min(work.written_tokens * work.batch_tokens // max(1, work.row_tokens), CHUNK_LOGITS // sizes.vocabulary)
    head = plan.exact * sizes.vocabulary * scored * LOGIT_COPIES
    own = parameters["trained"] - parameters["adapters"]
    in_parts = min(_split(sizes, plan), own) if plan.sharding == "zero3" else 0
    return {
        "gathered weights": _gathered(sizes, plan),
        "gradients": plan.exact * (parameters["trained"] - in_parts) + plan.share(plan.exact * in_parts),
        "vision features": pictures * sizes.hidden * (plan.width + plan.exact * (2 if has_graph else 1)),
        "vision graph": pictures * PATCHES_PER_TOKEN * vision_graph_bytes(sizes, plan) if has_graph else 0,
        "token graphs": max(
            group,
            kept * work.imitated_tokens,
            0 if has_graph else tower_bytes(sizes, plan) * min(pictures, TOWER_TOKENS),
        ),
        "copied pasts": _copied_pasts(sizes, plan, work),
        "head or layer": max(head, 2 * token * running if plan.recomputes else 0),
    }


def decoder_graph_bytes(sizes: Sizes, plan: Plan) -> int:
    """Kept for the backward pass of one layer, per token.

    Both norms keep their input in float32; attention keeps query, keys, values and output; the MLP gate, its
    activation, up and, trained, their product. A trained linear layer keeps its input (two norms' outputs are inputs
    of several), a trained norm its normalised one; an adapter over two-byte weights its own float32 copy of it.
    """
    h, m, width = sizes.hidden, sizes.mlp, plan.width
    always = plan.exact * (2 * h + sizes.heads + 2) + width * (2 * h + 2 * sizes.kv + 3 * m)
    if not plan.has_adapters:
        return always + width * (4 * h + m)
    inputs = {name: (sizes.linear(name)[1]) for name in plan.lora_targets if not name.startswith("visual.")}
    if width == plan.exact:  # the same tensor for all that read it; the output of attention is kept already
        groups = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("down_proj",))
        copies = sum(max((inputs.get(name, 0) for name in group), default=0) for group in groups)
    else:
        copies = sum(inputs.values())
    return always + plan.exact * (copies + plan.lora_rank * len(inputs))


def vision_graph_bytes(sizes: Sizes, plan: Plan) -> int:
    """Kept per patch of 14 px by all blocks, the patch embedding and the merger, when the tower is trained."""
    wide, width = sizes.vision_hidden, plan.width
    block = plan.exact * (2 * wide + sizes.vision_heads + 2) + width * (11 * wide + 4 * sizes.vision_mlp)
    return sizes.vision_layers * block + width * (PATCH_NUMBERS + 6 * wide)


def tower_bytes(sizes: Sizes, plan: Plan) -> int:
    """Held at once per image token while the tower runs without a graph: pixels, states, one block."""
    block = 4 * plan.exact * sizes.vision_hidden + plan.width * max(6 * sizes.vision_hidden, 3 * sizes.vision_mlp)
    return PATCHES_PER_TOKEN * (block + (4 + plan.width) * PATCH_NUMBERS)


def layer_bytes(sizes: Sizes, plan: Plan) -> int:
    """Held at once per token by a decoder layer that runs without a graph."""
    return 2 * plan.exact * sizes.hidden + plan.width * (3 * sizes.hidden + 3 * sizes.mlp)


def _split(sizes: Sizes, plan: Plan) -> int:
    """Weights that are in parts between steps: decoder layers, and a tower that is trained."""
    return sizes.n_decoder - sizes.hidden + (0 if plan.freezes_vision else sizes.n_vision)


def _gathered(sizes: Sizes, plan: Plan) -> int:
    """What is whole beside the parts: everything under zero2; under zero3 the tower and one decoder layer at a time."""
    layers = sizes.n_decoder - sizes.hidden
    whole = {"none": 0, "zero2": _split(sizes, plan), "zero3": _split(sizes, plan) - layers + layers // sizes.layers}
    return plan.width * whole[plan.sharding]


def _copied_pasts(sizes: Sizes, plan: Plan, work: Work) -> int:
    """Keys and values of all heads, prompt included, for each row of a micro-batch: `trainer.attention.joined`."""
    rows = work.batch_tokens // max(1, work.row_tokens)
    layer = 2 * sizes.hidden * plan.width * rows * (work.prompt_tokens + work.row_tokens)
    return 0 if plan.is_on_cpu else layer * (1 if plan.recomputes else sizes.layers)
