"""Whole runs as small as they get: a drawn and searched store, the least recipe that trains on it, one run of it."""

import json
from pathlib import Path

from pipeline.core.cvs import SamplerConfig
from pipeline.core.grn import NavigatorConfig
from pipeline.core.hunt import SearchConfig
from pipeline.stages.build_trajectories import BuildTrajectories, build_trajectories
from pipeline.stages.ingest import ingest
from pipeline.stages.phantom_source import PhantomSource
from schemas.reader import Store
from trainer.running import start

SLICE = "trajectories/phantom/annotations"
SIDE_PX = 112
RECIPE = """
[model]
base = "tiny"
freeze_vision = false

[tiny]
vocab_size = 400
text_hidden = 32
text_layers = 2
text_heads = 2
text_kv_heads = 1
text_mlp = 48
vision_hidden = 32
vision_layers = 1
vision_heads = 2
vision_mlp = 48
vision_full_attention = [0]

[view]
image_min_pixels = 3136
image_max_pixels = 3136
crop_min_pixels = 3136
crop_max_pixels = 3136
look_min_side_px = 2

[dialogue]
system = "Look."
looks_max = 2
reasoning_tokens_max = 6
turn_tokens_max = 12

[data]
slice = "trajectories/phantom/annotations"
n_experts = 3

[warm]
kind = "format"
slice = "ingest/phantom/warm"
steps = 3
batch = 4
schedule = { lr = 1e-3 }

[run]
steps = 3
prompts_per_step = 2
n_policy = 3
save_every = 2
schedule = { lr = 1e-3 }

[loss]
kl = 0.1
entropy_bonus = 0.01
"""


def phantom_store(root: Path) -> Store:
    """Six images to train on and five to test, searched with up to three looks; eight others for lessons."""
    store = Store(root)
    ingest(store, PhantomSource(n_train=6, n_test=5, side_px=SIDE_PX))
    ingest(store, PhantomSource(n_train=8, side_px=SIDE_PX, offset=1000), name="warm")
    rule = SearchConfig(NavigatorConfig(looks_max=3), SamplerConfig(variants=3), ("random",))
    version = store.head().version
    build_trajectories(store, BuildTrajectories(root, version, "ingest/phantom/default", "annotations", (), rule, 0))
    return store


def train(
    store: Store, out: Path, recipe: Path, *overrides: str, resume: bool = False, stop: int | None = None
) -> Path:
    """`fovea train` in this process."""
    how = {"is_resumed": resume, "stop_after": stop, "version": None, "device": "cpu", "threads": 1, "json": False}
    start(store.root, out, str(recipe), list(overrides), **how)
    return out


def steps_of(run: Path) -> list[dict]:
    """The log of a run without what a clock said."""
    lines = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("seconds")} for line in lines]


def weights_of(run: Path, step: int) -> dict[str, bytes]:
    """Every byte of weights and optimizer of a checkpoint, by file."""
    folder = run / "checkpoints" / f"step-{step:06d}"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}
