import json
import sys
import warnings
from copy import deepcopy

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import CheckpointError, UsageError
from tests.trainer.test_tree_update import assert_same_gradients, independent, weighted
from trainer.batched import score_rows
from trainer.checkpoints import trained_parameters
from trainer.lora import TARGETS, Lora, attach
from trainer.policy import TOWER_WEIGHTS, Policy
from trainer.tree_update import Settings, tree_backward

RULE = Lora(rank=3, alpha=6.0, targets=TARGETS, seed=5)


def adapted(policy, rule=RULE, *, freeze_vision=True):
    """A policy of this test's own, with adapters that do something."""
    model = deepcopy(policy.model)
    mine = Policy(model, policy.processor, freeze_vision=freeze_vision, adapter=attach(model, rule, "base"))
    draw = torch.Generator().manual_seed(1)
    for name, weight in trained_parameters(mine).items():
        if "lora_B" in name:
            weight.data.copy_(torch.randn(weight.shape, generator=draw) * 0.3)
    return mine


@pytest.fixture(scope="module")
def base(policy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora") / "base"
    policy.save(folder)
    return folder


@pytest.mark.parametrize("targets", [TARGETS, ("q_proj", "v_proj"), ("down_proj",), ("o_proj", "visual.qkv")])
@pytest.mark.parametrize("recompute", [False, True])
def test_shared_equals_independent_rows_with_adapters(exact, group, gradients, targets, recompute):
    """With q and v alone the first layer's keys have no gradient, with down_proj neither keys nor values."""
    mine, rows = adapted(exact, Lora(3, 6.0, targets, 0)), group(4)
    _, theirs = gradients(mine, lambda: independent(mine, rows, weighted))
    settings = Settings(max_tokens=60, recompute=recompute)
    _, ours = gradients(mine, lambda: tree_backward(mine, rows, weighted, settings))
    assert theirs.keys() == trained_parameters(mine).keys()
    assert_same_gradients(ours, theirs, 1e-6)


def test_new_adapters_change_nothing_and_depend_on_the_seed_alone(base, policy, group):
    state = torch.random.get_rng_state()
    first, again, other = (
        Policy.load(base, lora=Lora(3, 6.0, TARGETS, seed), freeze_vision=True) for seed in (1, 1, 2)
    )
    assert torch.equal(state, torch.random.get_rng_state())
    with torch.no_grad():
        scores, plain = (score_rows(one, group(2)) for one in (first, policy))
    assert all(torch.equal(a.logprobs, b.logprobs) for a, b in zip(scores, plain, strict=True))
    weights, same, others = (trained_parameters(one) for one in (first, again, other))
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    for name, weight in weights.items():
        if "lora_A" in name:
            assert not torch.equal(weight, others[name])
            assert 0.5 * weight.shape[1] ** -0.5 < weight.abs().max() <= weight.shape[1] ** -0.5
    drawn = [weight for name, weight in weights.items() if "lora_A" in name and weight.shape == (3, 64)]
    assert len({weight.sum().item() for weight in drawn}) == len(drawn)  # each layer has numbers of its own


def test_adapters_alone_are_trained_and_are_float32_over_any_base(base):
    halves = Policy.load(base, torch.bfloat16, lora=RULE, freeze_vision=True)
    trained = trained_parameters(halves)
    assert len(trained) == 2 * len(TARGETS) * halves.n_layers
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    assert all(".lora_" in name and ".language_model." in name for name in trained)
    assert halves.head_weight.dtype == torch.bfloat16


def test_a_tower_that_is_not_frozen_trains_with_the_adapters_and_is_kept_with_them(base, image_of, tmp_path):
    mine = Policy.load(base, lora=RULE, freeze_vision=False)
    mine.encode([image_of(1)])[0].square().sum().backward()
    reached = {name for name, weight in mine.visual.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert {"merger.mlp.2.weight", "patch_embed.proj.weight"} <= reached
    mine.visual.merger.mlp[2].weight.data += 1
    mine.save(tmp_path)
    back = Policy.load(tmp_path, base=base)
    held = back.visual.state_dict()
    assert all(torch.equal(weight, held[name]) for name, weight in mine.visual.state_dict().items())
    path = tmp_path / TOWER_WEIGHTS
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="vision tower"):
        Policy.load(tmp_path, base=base)


def test_a_frozen_tower_may_have_adapters(base, image_of):
    mine = Policy.load(base, lora=Lora(2, 2.0, ("visual.qkv",), 0), freeze_vision=True)
    assert not mine.freeze_vision  # what it makes has a graph, and is no other step's
    mine.encode([image_of(1)])[0].square().sum().backward()
    assert all(".attn.qkv.lora_" in name for name in trained_parameters(mine))
    assert any(weight.grad.any() for name, weight in trained_parameters(mine).items() if "lora_B" in name)


def test_a_checkpoint_holds_the_adapter_alone_and_comes_back_to_the_bit(base, policy, group, tmp_path):
    mine = Policy.load(base, lora=RULE, freeze_vision=True)
    for weight in trained_parameters(mine).values():
        weight.data += 0.1
    mine.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    told = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (told["base_model_name_or_path"], told["r"], told["lora_alpha"]) == (str(base), 3, 6.0)
    back = Policy.load(tmp_path, freeze_vision=True)
    held = trained_parameters(back)
    assert all(torch.equal(weight, held[name]) for name, weight in trained_parameters(mine).items())
    assert {weight.requires_grad for weight in held.values()} == {True}
    with torch.no_grad():
        for ours, theirs in zip(score_rows(mine, group(2)), score_rows(back, group(2)), strict=True):
            assert torch.equal(ours.logprobs, theirs.logprobs)


def test_peft_itself_reads_what_we_write(base, policy, group, tmp_path):
    from peft import PeftModel

    mine = adapted(policy)
    mine.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft has a good many
        theirs = PeftModel.from_pretrained(deepcopy(policy.model), str(tmp_path))
    held = dict(theirs.get_base_model().named_parameters())
    assert all(torch.equal(weight, held[name]) for name, weight in trained_parameters(mine).items())


def test_a_base_that_has_moved_can_be_named(base, tmp_path):
    Policy.load(base, lora=RULE).save(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(base), str(tmp_path / "gone")))
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        Policy.load(tmp_path / "adapter")
    assert Policy.load(tmp_path / "adapter", base=base).adapter is not None
    config.write_text("{}")
    with pytest.raises(CheckpointError, match="names no base"):
        Policy.load(tmp_path / "adapter")


@pytest.mark.parametrize("change", ["missing", "unknown", "shape", "torn", "pickled"])
def test_an_adapter_that_does_not_fit_is_refused(base, tmp_path, change):
    Policy.load(base, lora=RULE).save(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    stored = load_file(path)
    name = sorted(stored)[0]
    taken = stored.pop(name)
    if change == "unknown":
        stored |= {name: taken, name.replace("down_proj", "side_proj"): taken.clone()}
    if change == "shape":
        stored[name] = taken[:, :5].contiguous()
    save_file(stored, path)
    if change == "torn":
        path.write_bytes(path.read_bytes()[:-9])
    if change == "pickled":
        path.rename(tmp_path / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="adapter") as error:
        Policy.load(tmp_path)
    assert error.value.where == str(tmp_path)


def test_merged_adapters_make_a_plain_checkpoint_that_says_the_same(exact, group, tmp_path):
    mine, rows = adapted(exact), group(3)
    with torch.no_grad():
        before = score_rows(mine, rows)
        plain = score_rows(exact, rows)
        mine.merge()
        after = score_rows(mine, rows)
    mine.save(tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()
    loaded = Policy.load(tmp_path, torch.float64)
    with torch.no_grad():
        read = score_rows(loaded, rows)
    for was, now, again, base in zip(before, after, read, plain, strict=True):
        torch.testing.assert_close(was.logprobs, now.logprobs, rtol=0, atol=1e-9)
        assert torch.equal(now.logprobs, again.logprobs)
        assert (was.logprobs - base.logprobs).abs().max() > 1e-3


@pytest.mark.parametrize("target", ["q_prj", "self_attn", "input_layernorm", "act_fn", "visual.merger", "lm_head"])
def test_a_target_that_is_no_linear_layer_is_wrong_usage(policy, target):
    with pytest.raises(UsageError, match=target):
        attach(deepcopy(policy.model), Lora(2, 2.0, ("q_proj", target), 0), "base")


def test_without_peft_the_extra_is_named(policy, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError, match="need peft") as error:
        attach(deepcopy(policy.model), RULE, "base")
    assert "fovea[lora]" in error.value.fix


def test_dropout_is_refused(policy):
    mine = adapted(policy)
    layer = mine.language_model.layers[0].self_attn.q_proj
    layer.lora_dropout["default"] = torch.nn.Dropout(0.1)
    with pytest.raises(CheckpointError, match="dropout"):
        Policy(mine.model, mine.processor, adapter=mine.adapter)
