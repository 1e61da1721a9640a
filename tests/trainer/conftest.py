import random

import numpy as np
import pytest
import torch
from PIL import Image

import trainer.rollout.live
from schemas.grammar import render
from tests.doubles import question
from tests.trainer.small_runs import RECIPE, phantom_store, train
from trainer.dialogue import Dialogue
from trainer.environment import Environment
from trainer.policy import Policy
from trainer.processor import Processor
from trainer.recipe import DialogueConfig, ViewConfig, load_recipe
from trainer.rollout.sampling import Drawn
from trainer.sequences import TokenRow
from trainer.tiny import TinyConfig, make_tiny

torch.set_num_threads(1)

LINES = ('where is the lesion? left right <action>{"name": "Gaze", "coordinate": [0, 1, 2, 3]}</action> <answer>',) * 9
SMALL = TinyConfig(
    vocab_size=360,
    text_hidden=64,
    text_mlp=96,
    text_layers=2,
    vision_hidden=48,
    vision_mlp=64,
    vision_window_px=56,  # so that images of 112 px have several windows
)


def build(dtype, config=SMALL):
    """Matrices doubled: untrained logits are almost flat, and a flat model forgives every mistake."""
    model, tokenizer, image_processor = make_tiny(config, LINES, seed=0)
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.mul_(3.0)
    return Policy(model.to(dtype), Processor(tokenizer, image_processor))


@pytest.fixture(scope="session")
def lines():
    return LINES


@pytest.fixture(scope="session")
def small():
    return SMALL


@pytest.fixture(scope="session")
def policy():
    return build(torch.float32)


@pytest.fixture(scope="session")
def exact():
    return build(torch.float64)


@pytest.fixture(scope="session")
def image_of(policy):
    """A random image of some size, encoded; the same for the same seed."""

    def encode(seed, width=112, height=112):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return policy.processor.encode_image(Image.fromarray(pixels), 4 * 784, 112 * 112)

    return encode


@pytest.fixture(scope="session")
def words(policy):
    """Random ordinary token ids."""
    ordinary = [index for index in range(len(policy.tokenizer)) if index not in policy.banned_ids]
    return lambda rng, n: [rng.choice(ordinary) for _ in range(n)]


@pytest.fixture(scope="session")
def shown(policy):
    """The ids of one image between its markers."""
    start, end = (policy.tokenizer.convert_tokens_to_ids(f"<|vision_{edge}|>") for edge in ("start", "end"))
    return lambda image: [start, *[policy.image_id] * image.n_tokens, end]


@pytest.fixture(scope="session")
def group(words, shown, image_of):
    """Rows with one prompt (text, image, text) and ragged continuations: turn, crop, turn; row 0 has no crop."""

    def rows(n, seed=0, sizes=((112, 112), (84, 112), (56, 56))):
        rng = random.Random(seed)
        image = image_of(seed, 112, 84)
        prompt = [*words(rng, 5), *shown(image), *words(rng, 4)]
        made = []
        for number in range(n):
            ids, written, images = list(prompt), [False] * len(prompt), [image]
            for turn in range(2 if number else 1):
                if turn:
                    crop = image_of(seed * 100 + number, *sizes[number % len(sizes)])
                    seen = [*words(rng, 1), *shown(crop), *words(rng, 2)]
                    ids, written, images = ids + seen, written + [False] * len(seen), [*images, crop]
                text = words(rng, rng.randint(3, 9))
                ids, written = ids + text, written + [True] * len(text)
            made.append(TokenRow(tuple(ids), tuple(written), tuple(images), len(prompt), f"row {number}"))
        return made

    return rows


@pytest.fixture
def gradients():
    """Gradients of a policy's parameters left by `backward`, starting from none and leaving none."""

    def of(policy, backward):
        policy.model.zero_grad(set_to_none=True)
        result = backward()
        grads = {name: w.grad.clone() for name, w in policy.model.named_parameters() if w.grad is not None}
        policy.model.zero_grad(set_to_none=True)
        return result, grads

    return of


def noise(width, height, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    return Image.fromarray(pixels)


VIEW = ViewConfig(4 * 784, 112 * 112, 4 * 784, 4 * 784, look_min_side_px=4)
SPOKEN = DialogueConfig(system="Look.", looks_max=3, reasoning_tokens_max=16, turn_tokens_max=80)


@pytest.fixture(scope="session")
def environment(policy):
    """Images of up to 112 × 112 px for the policy, crops of 56 × 56, three looks."""
    return Environment(Dialogue(policy.processor, SPOKEN), VIEW)


@pytest.fixture(scope="session")
def scene_of(environment):
    """A question about a random image of some size."""

    def make(width=448, height=448, seed=0, **asked):
        return environment.scene(question(**asked), [noise(width, height, seed)])

    return make


@pytest.fixture(scope="session")
def scene_of_three(environment):
    """A question about three random images, each of another size: seen at 112 × 112, 140 × 56 and 84 × 112."""

    def make(seed=0, **asked):
        images = [noise(*size, seed * 10 + number) for number, size in enumerate(((448, 448), (448, 224), (224, 336)))]
        return environment.scene(question(**{"image_ids": ("image0", "image1", "image2")} | asked), images)

    return make


@pytest.fixture(scope="session")
def run_store(tmp_path_factory):
    """Look, but do not touch."""
    return phantom_store(tmp_path_factory.mktemp("runs") / "store")


@pytest.fixture(scope="session")
def recipe_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def small_recipe(recipe_path):
    return load_recipe(str(recipe_path))


@pytest.fixture(scope="session")
def whole_run(run_store, recipe_path, tmp_path_factory):
    """Three steps of lessons and three of dual-stream GRPO, never interrupted."""
    return train(run_store, tmp_path_factory.mktemp("whole") / "run", recipe_path)


@pytest.fixture(scope="session")
def played(environment):
    """An episode with exactly these turns, whoever wrote them."""

    def play(scene, *turns, stream="policy"):
        episode = environment.start(scene, stream, f"{stream} {len(turns)}")
        for turn in turns:
            text = turn if isinstance(turn, str) else render(turn, environment.dialogue.dialect)
            environment.take(episode, environment.dialogue.written(text))
        return episode

    return play


@pytest.fixture
def dictated(monkeypatch, environment):
    """All rows write the same turns, token by token; log-probabilities stay the model's own."""

    def dictate(*turns):
        ids = [
            token
            for turn in turns
            for token in environment.dialogue.written(render(turn, environment.dialogue.dialect))
        ]
        waiting = iter(ids)
        draw = trainer.rollout.live.draw

        def forced(hidden, weight, banned, temperature, noise):
            token = torch.full((len(hidden),), next(waiting))
            logits = (hidden @ weight.T / temperature).masked_fill(banned, -torch.inf)
            scores = logits.log_softmax(-1).gather(1, token[:, None])[:, 0]
            return Drawn(token, scores, draw(hidden, weight, banned, temperature, noise).entropies)

        monkeypatch.setattr(trainer.rollout.live, "draw", forced)
        return ids

    return dictate
