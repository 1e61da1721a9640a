import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import CheckpointError
from trainer.caches import SharedPast
from trainer.policy import Placed, Policy
from trainer.positions import position_ids
from trainer.processor import Processor
from trainer.sequences import image_spans
from trainer.tiny import TinyConfig, make_tiny


def hidden_of(policy, ids, images):
    spans = image_spans(ids, images, policy.image_id)
    features = policy.encode(images)
    placed = [Placed(0, span.start, feature) for span, feature in zip(spans, features, strict=True)]
    embedded = policy.embed(torch.tensor([ids]), placed)
    return policy.decode_hidden(embedded, position_ids(len(ids), spans)[:, None], SharedPast())


@pytest.fixture
def prompt(words, shown, image_of):
    rng, images = random.Random(4), [image_of(1, 112, 84), image_of(2, 56, 112)]
    return [*words(rng, 4), *shown(images[0]), *words(rng, 3), *shown(images[1]), *words(rng, 2)], images


@torch.no_grad()
def test_bare_modules_equal_the_stock_model_with_its_own_positions(exact, prompt):
    ids, images = prompt
    ours = hidden_of(exact, ids, images) @ exact.head_weight.T
    assert exact.model.model.rope_deltas is None
    stock = exact.model(
        input_ids=torch.tensor([ids]),
        pixel_values=torch.cat([image.pixel_values for image in images]).double(),
        image_grid_thw=torch.tensor([image.grid_thw for image in images]),
        mm_token_type_ids=torch.tensor([ids]).eq(exact.image_id).int(),
    ).logits
    exact.model.model.rope_deltas = None
    assert stock.abs().max() > 1  # not a flat model
    torch.testing.assert_close(ours, stock, rtol=0, atol=1e-9)


@torch.no_grad()
def test_images_of_one_call_do_not_see_each_other(exact, image_of):
    images = [image_of(1), image_of(2, 56, 56), image_of(3, 84, 112)]
    for image, together in zip(images, exact.encode(images), strict=True):
        assert together.shape == (image.n_tokens, exact.head_weight.shape[1])
        torch.testing.assert_close(together, exact.encode([image])[0], rtol=0, atol=1e-6)


@torch.no_grad()
def test_save_and_load_give_the_same_bits(policy, prompt, tmp_path):
    policy.save(tmp_path)
    loaded = Policy.load(tmp_path)
    assert torch.equal(hidden_of(policy, *prompt), hidden_of(loaded, *prompt))
    assert loaded.tokenizer.get_vocab() == policy.tokenizer.get_vocab()
    assert loaded.banned_ids == policy.banned_ids
    assert loaded.head_weight is loaded.language_model.embed_tokens.weight  # still tied


def test_banned_are_markers_gaze_tokens_and_rows_without_a_token(policy, lines, small):
    model, tokenizer, _ = make_tiny(small, lines, 0)
    tokenizer.add_tokens([f"<|gaze_{name}|>" for name in ("start", "0", "1", "end")], special_tokens=True)
    gazing = Policy(model, Processor(tokenizer, policy.processor.image_processor))
    names = tokenizer.get_vocab()
    for name in ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|im_start|>", "<|endoftext|>", "<|gaze_1|>"):
        assert names[name] in gazing.banned_ids
    for name in ("<|im_end|>", "</tool_call>", "a", "["):
        assert names[name] not in gazing.banned_ids
    assert set(range(len(tokenizer), len(gazing.head_weight))) <= gazing.banned_ids
    assert gazing.banned.nonzero()[:, 0].tolist() == sorted(gazing.banned_ids)


def test_a_frozen_tower_gives_features_without_graph(image_of, tmp_path, policy):
    policy.save(tmp_path)
    frozen = Policy.load(tmp_path, freeze_vision=True)
    assert not frozen.encode([image_of(1)])[0].requires_grad
    assert policy.encode([image_of(1)])[0].requires_grad
    assert not any(weight.requires_grad for weight in frozen.visual.parameters())


def test_many_images_go_through_a_frozen_tower_in_several_calls(image_of, tmp_path, policy, monkeypatch):
    policy.save(tmp_path)
    frozen = Policy.load(tmp_path, freeze_vision=True)
    images = [image_of(1), image_of(2, 56, 56), image_of(3, 84, 112), image_of(4, 56, 56)]
    together = frozen.encode(images)
    calls = []
    monkeypatch.setattr(
        frozen.visual, "forward", lambda *a, run=frozen.visual.forward, **k: calls.append(0) or run(*a, **k)
    )
    monkeypatch.setattr("trainer.policy.TOKENS_AT_ONCE", 18)  # 16 + 4 are too many, 4 + 12 are not
    for whole, part in zip(together, frozen.encode(images), strict=True):
        torch.testing.assert_close(whole, part, rtol=0, atol=1e-4)
    assert len(calls) == 3
    assert frozen.encode([]) == []


@pytest.fixture
def folder(policy, tmp_path):
    policy.save(tmp_path)
    return tmp_path


def refused(folder, match):
    with pytest.raises(CheckpointError, match=match) as error:
        Policy.load(folder)
    assert str(folder) in str(error.value)


def test_pickled_weights_are_never_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "safetensors")


def test_damaged_weights_are_refused(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    refused(folder, "cannot be loaded")


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_weights_that_do_not_fit_are_refused(folder, change):
    state = load_file(folder / "model.safetensors")
    name = sorted(state)[0]
    taken = state.pop(name)
    if change == "unknown":
        state |= {name: taken, "some.other.weight": torch.zeros(1)}
    if change == "shape":
        state[name] = torch.zeros(3, 3)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, "weights")


def test_another_architecture_is_refused(folder):
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"qwen2_5_vl"', '"qwen2_vl"'))
    refused(folder, "qwen2_vl")


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    refused(tmp_path / "nothing", "cannot be loaded")


def test_dropout_is_refused(policy, monkeypatch):
    monkeypatch.setattr(policy.model.config.text_config, "attention_dropout", 0.1)
    with pytest.raises(CheckpointError, match="dropout"):
        Policy(policy.model, policy.processor)


@pytest.mark.parametrize(("old", "new"), [('"hidden_size": 64', '"hidden_size": "64"'), ('"full_attention",', "")])
def test_a_configuration_that_the_library_refuses_is_refused_by_name(folder, old, new):
    config = folder / "config.json"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new, 1))
    refused(folder, "cannot be loaded")


def test_the_tokenizer_of_another_model_is_refused(policy, lines):
    """Its placeholder would be an ordinary word to the model, and no image would ever be seen."""
    _, tokenizer, image_processor = make_tiny(replace(TinyConfig(), vocab_size=310), lines, 0)
    with pytest.raises(CheckpointError, match="image_token_id"):
        Policy(policy.model, Processor(tokenizer, image_processor))
