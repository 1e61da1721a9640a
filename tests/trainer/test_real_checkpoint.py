"""Folders in the layout in which Qwen2.5-VL-Instruct is published, smaller: old config fields, names, shards, index."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.checkpoints import trained_parameters
from trainer.policy import Policy
from trainer.rollout.local import LocalRollout
from trainer.sequences import TokenRow
from trainer.tree_update import tree_backward

HIDDEN, MLP, KV, TOWER, TOWER_MLP = 64, 96, 32, 48, 64
PREPROCESSOR = {
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "Qwen2_5_VLProcessor",
}


def config(tokenizer, n_rows, *, is_tied):
    """Word for word the published fields; widths, ids and layers are this test's."""
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in tokenizer_names()}
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "attention_dropout": 0.0,
        "bos_token_id": ids["endoftext"],
        "eos_token_id": ids["im_end"],
        "vision_start_token_id": ids["vision_start"],
        "vision_end_token_id": ids["vision_end"],
        "vision_token_id": ids["vision_pad"],
        "image_token_id": ids["image_pad"],
        "video_token_id": ids["video_pad"],
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": MLP,
        "max_position_embeddings": 128000,
        "max_window_layers": 2,
        "model_type": "qwen2_5_vl",
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "tie_word_embeddings": is_tied,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.41.2",
        "use_cache": True,
        "use_sliding_window": False,
        "vision_config": {
            "depth": 2,
            "hidden_act": "silu",
            "hidden_size": TOWER,
            "intermediate_size": TOWER_MLP,
            "num_heads": 2,
            "in_chans": 3,
            "out_hidden_size": HIDDEN,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": [1],
            "tokens_per_second": 2,
            "temporal_patch_size": 2,
        },
        "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
        "vocab_size": n_rows,
    }


def tokenizer_names():
    return "endoftext im_end vision_start vision_end vision_pad image_pad video_pad".split()


def shapes(n_rows, *, is_tied):
    """Published name → shape of every weight."""
    found = {"model.embed_tokens.weight": (n_rows, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in (f"model.layers.{number}" for number in range(2)):
        for name, out in (("q", HIDDEN), ("k", KV), ("v", KV)):
            found |= {
                f"{layer}.self_attn.{name}_proj.weight": (out, HIDDEN),
                f"{layer}.self_attn.{name}_proj.bias": (out,),
            }
        found |= {f"{layer}.self_attn.o_proj.weight": (HIDDEN, HIDDEN), f"{layer}.mlp.down_proj.weight": (HIDDEN, MLP)}
        found |= {f"{layer}.mlp.{name}_proj.weight": (MLP, HIDDEN) for name in ("gate", "up")}
        found |= {f"{layer}.{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
    found |= {"visual.patch_embed.proj.weight": (TOWER, 3, 2, 14, 14)}
    for block in (f"visual.blocks.{number}" for number in range(2)):
        linear = {"attn.qkv": (3 * TOWER, TOWER), "attn.proj": (TOWER, TOWER), "mlp.down_proj": (TOWER, TOWER_MLP)}
        linear |= {f"mlp.{name}_proj": (TOWER_MLP, TOWER) for name in ("gate", "up")}
        found |= {f"{block}.{name}.weight": shape for name, shape in linear.items()}
        found |= {f"{block}.{name}.bias": shape[:1] for name, shape in linear.items()}
        found |= {f"{block}.norm{number}.weight": (TOWER,) for number in (1, 2)}
    merged = 4 * TOWER
    found |= {"visual.merger.ln_q.weight": (TOWER,), "visual.merger.mlp.0.weight": (merged, merged)}
    found |= {"visual.merger.mlp.0.bias": (merged,), "visual.merger.mlp.2.weight": (HIDDEN, merged)}
    found |= {"visual.merger.mlp.2.bias": (HIDDEN,)}
    return found if is_tied else found | {"lm_head.weight": (n_rows, HIDDEN)}


@pytest.fixture(scope="module", params=[True, False], ids=["tied as 3B", "untied as 7B"])
def published(request, policy, tmp_path_factory):
    """(folder, weights by published name, whether the head is tied)."""
    folder, n_rows = tmp_path_factory.mktemp("published"), len(policy.tokenizer) + 40
    policy.tokenizer.save_pretrained(folder)
    template = folder / "chat_template.jinja"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}))
    template.unlink()
    draw = torch.Generator().manual_seed(0)
    weights = {
        name: (torch.randn(shape, generator=draw) * 0.2 + ("norm" in name or "ln_q" in name)).bfloat16()
        for name, shape in shapes(n_rows, is_tied=request.param).items()
    }
    names, index = sorted(weights), {}
    for number, some in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in some}, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(some, file)
    size = sum(one.numel() * 2 for one in weights.values())
    generation = {"bos_token_id": 0, "pad_token_id": 0, "do_sample": True, "eos_token_id": [policy.stop_id, 0]}
    generation |= {"repetition_penalty": 1.05, "temperature": 0.000001, "transformers_version": "4.37.0"}
    plain = {
        "config.json": config(policy.tokenizer, n_rows, is_tied=request.param),
        "preprocessor_config.json": PREPROCESSOR,
        "generation_config.json": generation,
        "model.safetensors.index.json": {"metadata": {"total_size": size}, "weight_map": index},
    }
    for name, content in plain.items():
        (folder / name).write_text(json.dumps(content, indent=2))
    return folder, weights, request.param


def test_every_weight_is_where_it_belongs(published):
    folder, weights, is_tied = published
    loaded = Policy.load(folder, torch.bfloat16)
    held = loaded.model.state_dict()
    places = (("visual.", "model.visual."), ("model.", "model.language_model."), ("lm_head.", "lm_head."))
    for name, weight in weights.items():
        old, new = next(place for place in places if name.startswith(place[0]))
        assert torch.equal(held[new + name.removeprefix(old)], weight), name
    assert (loaded.head_weight is loaded.language_model.embed_tokens.weight) is is_tied
    assert loaded.language_model.config.rope_parameters["mrope_section"] == [4, 6, 6]
    assert loaded.language_model.config.rope_parameters["rope_theta"] == 1e6


def test_rows_beyond_the_tokenizer_are_never_written(published):
    loaded = Policy.load(published[0])
    n_rows = len(loaded.head_weight)
    assert n_rows == len(loaded.tokenizer) + 40
    assert set(range(len(loaded.tokenizer), n_rows)) <= loaded.banned_ids


def test_it_writes_learns_and_goes_back_under_its_published_names(published, image_of, shown, tmp_path):
    folder, weights, is_tied = published
    loaded = Policy.load(folder)
    image = image_of(1)
    prompt = TokenRow.prompt([*range(300, 305), *shown(image), *range(305, 309)], [image])
    engine = LocalRollout(loaded)
    handles = engine.prefill([prompt, prompt])
    engine.write(handles, [(0,), (1,)], 12)
    while engine.finished():
        pass
    rows = [engine.row(handle) for handle in handles]
    assert all(sum(row.is_written) > 0 for row in rows)
    tree_backward(loaded, rows, lambda _, logprobs, __: logprobs.mean())
    reached = {name for name, weight in trained_parameters(loaded).items() if weight.grad is not None}
    assert ("lm_head.weight" in reached) is not is_tied
    assert reached == trained_parameters(loaded).keys()
    loaded.save(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == weights.keys()
    assert all(torch.equal(saved[name], weight.float()) for name, weight in weights.items())
    assert Policy.load(tmp_path).banned_ids == loaded.banned_ids
