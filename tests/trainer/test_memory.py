"""The formulas against what torch itself counts: numbers of weights, and the tensors that a graph keeps."""

from dataclasses import replace

import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

import trainer.head
import trainer.policy
from trainer.attention import NAME
from trainer.caches import RecordingPast
from trainer.checkpoints import trained_parameters
from trainer.lora import TARGETS, Lora, attach
from trainer.memory import (
    CHUNK_LOGITS,
    TOWER_TOKENS,
    Plan,
    Work,
    count_parameters,
    decoder_graph_bytes,
    estimate,
    vision_graph_bytes,
)
from trainer.policy import Policy
from trainer.sizes import Sizes

BIG = Sizes(151_936, 2048, 11_008, 36, 16, 256, 1280, 3420, 32, 16, is_tied=True)
WORK = Work(7, 14, 8, 1280, 1500, 5500, 4096, 4, 1280, 5500 * 2)
N = 40  # tokens of a forward


def stock(layers, depth, dtype=torch.float32, *, is_tied=True):
    text = {"vocab_size": 200_000, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": layers}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": is_tied}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}}
    vision = {"depth": depth, "hidden_size": 48, "intermediate_size": 80, "num_heads": 2, "out_hidden_size": 64}
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision | {"fullatt_block_indexes": [0]}, tie_word_embeddings=is_tied
    )
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        return Qwen2_5_VLForConditionalGeneration(config).to(dtype).eval()


def kept_bytes(weights, forward):
    """Bytes of distinct storages that autograd keeps of a forward, weights aside."""
    own = {one.untyped_storage().data_ptr() for one in weights}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes(), tensor  # alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    return sum(size for size, _ in found.values()), result


def kept_by_decoder(model, dtype):
    decoder = model.model.language_model
    decoder.config._attn_implementation = NAME
    decoder.rotary_emb.forward = lambda *_: [torch.zeros(1, N, 16, dtype=dtype)] * 2
    bare = type("Bare", (), {"language_model": decoder})
    embedded = torch.zeros(1, N, 64, dtype=dtype, requires_grad=True)
    positions = torch.arange(N).expand(3, 1, N)
    past = RecordingPast()
    return kept_bytes(list(model.parameters()), lambda: Policy.decode_hidden(bare, embedded, positions, past))[0]


@pytest.mark.parametrize("is_tied", [True, False])
def test_weights_are_counted_exactly(is_tied):
    model = stock(3, 2, is_tied=is_tied)
    sizes = Sizes.of(model.config)
    weights = dict(model.named_parameters())
    assert sizes.n_weights == sum(one.numel() for one in weights.values())
    tower = {name: one for name, one in weights.items() if ".visual." in name}
    assert sizes.n_vision == sum(one.numel() for one in tower.values())
    frozen = count_parameters(sizes, Plan(4, freezes_vision=True))
    assert frozen["trained"] == sizes.n_weights - sizes.n_vision
    assert frozen["head"] == 200_000 * 64


def test_the_published_models_have_their_published_sizes():
    """total_size of model.safetensors.index.json, bfloat16: 7,509,245,952 and 16,584,333,312 bytes."""
    assert 2 * BIG.n_weights == 7_509_245_952
    seven = Sizes(152_064, 3584, 18_944, 28, 28, 512, 1280, 3420, 32, 16, is_tied=False)
    assert 2 * seven.n_weights == 16_584_333_312


@pytest.mark.parametrize("targets", [TARGETS, ("q_proj", "v_proj"), ("visual.qkv", "visual.proj", "visual.down_proj")])
def test_adapters_are_counted_exactly(small, lines, policy, targets):
    from trainer.tiny import make_tiny

    model, *_ = make_tiny(small, lines, 0)
    adapter = attach(model, Lora(3, 1.0, targets, 0), "base")
    mine = Policy(model, policy.processor, freeze_vision=True, adapter=adapter)
    plan = Plan(4, freezes_vision=True, lora_rank=3, lora_targets=targets)
    counted = count_parameters(Sizes.of(model.config), plan)
    assert counted["trained"] == counted["adapters"] == sum(one.numel() for one in trained_parameters(mine).values())
    assert plan.runs_tower_through is (not mine.freeze_vision)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("targets", [(), TARGETS, ("q_proj", "v_proj"), ("up_proj",), ("k_proj", "down_proj")])
def test_a_decoder_layer_keeps_what_the_formula_says(dtype, targets):
    """The difference between three layers and two, per token; some kernels add a number or two per head."""
    models = [stock(layers, 1).to_empty(device="cpu").to(dtype) for layers in (2, 3)]
    for model in models if targets else ():
        attach(model, Lora(4, 1.0, targets, 0), "base")
    two, three = (kept_by_decoder(model, dtype) for model in models)
    told = decoder_graph_bytes(
        Sizes.of(models[0].config),
        Plan(dtype.itemsize, freezes_vision=True, lora_rank=4 if targets else 0, lora_targets=targets),
    )
    assert (three - two) / N == pytest.approx(told, rel=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_trained_tower_keeps_what_the_formula_says(dtype):
    model = stock(1, 3).to_empty(device="cpu").to(dtype)
    tower, n_patches = model.model.visual, 64
    pixels, grid = torch.zeros(n_patches, 1176, dtype=dtype), torch.tensor([[1, 8, 8]])
    kept, _ = kept_bytes(list(model.parameters()), lambda: tower(pixels, grid_thw=grid).pooler_output)
    told = vision_graph_bytes(Sizes.of(model.config), Plan(dtype.itemsize, freezes_vision=False))
    assert kept / n_patches == pytest.approx(told, rel=0.1)


def test_what_lowers_memory_lowers_the_estimate():
    plain = Plan(2, freezes_vision=True)
    peak = estimate(BIG, plain, WORK).peak
    assert estimate(BIG, replace(plain, recomputes=True), WORK).peak < peak
    assert estimate(BIG, replace(plain, lora_rank=64, lora_targets=TARGETS), WORK).peak < peak
    assert estimate(BIG, plain, replace(WORK, batch_tokens=5500)).peak < peak
    assert estimate(BIG, plain, replace(WORK, begun_rows=16)).rollout["row caches"] * 56 == (
        estimate(BIG, plain, WORK).rollout["row caches"] * 16
    )
    for more in (
        replace(plain, width=4),
        replace(plain, has_reference=True),
        replace(plain, freezes_vision=False),
    ):
        assert estimate(BIG, more, WORK).peak > peak
    on_gpu = estimate(BIG, replace(plain, is_on_cpu=False), WORK)
    assert on_gpu.resident["pixels"] == 0 < on_gpu.update["copied pasts"]


def test_optimizer_and_masters():
    """8 bytes of moments per trained weight, 4 more for the master of a bfloat16 one, 4 of gradient in the update."""
    n = BIG.n_weights - BIG.n_vision
    whole, half = (estimate(BIG, Plan(width, freezes_vision=True), WORK) for width in (4, 2))
    assert (whole.resident["optimizer"], half.resident["optimizer"]) == (8 * n, 12 * n)
    assert whole.update["gradients"] == half.update["gradients"] == 4 * n
    assert (whole.resident["weights"], half.resident["weights"]) == (4 * BIG.n_weights, 2 * BIG.n_weights)


def test_sharding_divides_what_it_splits_and_gathers_it_where_it_runs():
    alone = estimate(BIG, Plan(2, freezes_vision=True), WORK)
    zero2, zero3 = (
        estimate(BIG, Plan(2, freezes_vision=True, world_size=8, sharding=kind), WORK) for kind in ("zero2", "zero3")
    )
    layers = BIG.n_decoder - BIG.hidden
    rest = 12 * (BIG.n_weights - BIG.n_vision - layers)
    assert zero2.resident["optimizer"] == zero3.resident["optimizer"] == rest + 12 * layers // 8
    assert zero2.update["gathered weights"] == zero2.rollout["gathered weights"] == 2 * layers
    assert zero3.update["gathered weights"] == 2 * (layers // 36)
    assert zero3.update["gradients"] < zero2.update["gradients"] == alone.update["gradients"]
    assert zero3.peak < zero2.peak < alone.peak


def test_constants_are_those_of_the_code():
    assert trainer.head._CHUNK_ELEMENTS == CHUNK_LOGITS
    assert trainer.policy.TOKENS_AT_ONCE == TOWER_TOKENS
