import dataclasses
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import trainer.batched
from schemas.errors import InputError
from trainer.batched import score_rows
from trainer.lora import Lora, attach
from trainer.policy import Policy
from trainer.processor import Processor
from trainer.sequences import TokenRow
from trainer.tiny import make_tiny
from trainer.tree_update import Boundary, Segment, Settings, micro_batches, tree_backward, tree_scores

MOST = [8192, 60, 1]  # tokens per micro-batch: the whole group, two or three parts, row by row


def weighted(segment, logprobs, _entropies):
    weights = torch.cos(torch.arange(segment.begin, segment.end))
    return sum(((weights + row % 3) * logprobs).sum() for row in segment.rows)


def independent(policy, rows, loss_of, temperature=1.0):
    """Each row by itself: nothing is shared but the weights."""
    for number, row in enumerate(rows):
        score = score_rows(policy, [row], temperature)[0]
        if len(score.logprobs):
            loss_of(Segment((number,), 0, len(score.logprobs)), *score).backward()


def assert_same_gradients(ours, theirs, relative):
    assert ours.keys() == theirs.keys()
    for name, grad in theirs.items():
        assert (ours[name] - grad).norm() <= relative * grad.norm() + 1e-12, name


@pytest.mark.parametrize("max_tokens", MOST)
def test_shared_equals_independent_rows(exact, group, gradients, max_tokens):
    rows = group(4)
    _, theirs = gradients(exact, lambda: independent(exact, rows, weighted, 0.8))
    scores, ours = gradients(exact, lambda: tree_backward(exact, rows, weighted, Settings(0.8, max_tokens)))
    assert any(name.startswith("model.visual") for name in ours)
    assert_same_gradients(ours, theirs, 1e-6)
    for row, score in zip(rows, scores, strict=True):
        alone = score_rows(exact, [row], 0.8)[0]
        torch.testing.assert_close(score.logprobs, alone.logprobs.detach(), rtol=0, atol=1e-9)
        torch.testing.assert_close(score.entropies, alone.entropies, rtol=0, atol=1e-9)


@pytest.mark.parametrize("recompute", [False, True])
def test_layers_may_be_run_twice(exact, group, gradients, recompute):
    rows = group(3)
    _, theirs = gradients(exact, lambda: independent(exact, rows, weighted))
    _, ours = gradients(exact, lambda: tree_backward(exact, rows, weighted, Settings(recompute=recompute)))
    assert_same_gradients(ours, theirs, 1e-6)


def test_entropy_carries_gradient_when_asked(exact, group, gradients):
    rows = group(2)

    def bonus(_row, logprobs, entropies):
        return logprobs.sum() + entropies.square().sum()

    def alone():
        for row in rows:
            bonus(0, *score_rows(exact, [row], entropy_has_grad=True)[0]).backward()

    _, theirs = gradients(exact, alone)
    _, ours = gradients(exact, lambda: tree_backward(exact, rows, bonus, Settings(entropy_has_grad=True)))
    assert_same_gradients(ours, theirs, 1e-6)


@pytest.mark.parametrize(
    "trained", ["layers.1.self_attn.q_proj", "layers.0", "visual.merger", "language_model", "embed_tokens"]
)
def test_any_part_may_be_all_that_is_trained(exact, group, gradients, trained):
    rows = group(3)
    weights = dict(exact.model.named_parameters())
    try:
        for name, weight in weights.items():
            weight.requires_grad_(trained in name)
        _, theirs = gradients(exact, lambda: independent(exact, rows, weighted))
        _, ours = gradients(exact, lambda: tree_backward(exact, rows, weighted, Settings(max_tokens=60)))
    finally:
        for weight in weights.values():
            weight.requires_grad_(True)
    assert theirs
    assert_same_gradients(ours, theirs, 1e-6)


def test_a_frozen_tower_gets_no_gradient(exact, group, gradients, monkeypatch):
    rows = group(3)
    monkeypatch.setattr(exact, "freeze_vision", True)
    _, theirs = gradients(exact, lambda: independent(exact, rows, weighted))
    _, ours = gradients(exact, lambda: tree_backward(exact, rows, weighted))
    assert not any("visual" in name for name in ours)
    assert_same_gradients(ours, theirs, 1e-6)


def test_one_crop_in_several_rows_and_the_prompts_own_image_as_crop(exact, group, gradients, monkeypatch, words, shown):
    first, second, third = group(3, sizes=((112, 84),) * 3)
    image = first.images[0]
    start = second.ids.index(exact.image_id, second.n_prompt)
    same = dataclasses.replace(second, images=(image, image))  # the whole image looked at once more
    twin = dataclasses.replace(second, images=(image, third.images[1]), name="twin")
    rows = [first, same, twin, third]
    assert same.ids[start : start + image.n_tokens] == (exact.image_id,) * image.n_tokens
    encoded = []
    encode = exact.encode
    monkeypatch.setattr(exact, "encode", lambda images: encoded.append(len(images)) or encode(images))
    _, ours = gradients(exact, lambda: tree_backward(exact, rows, weighted, Settings(max_tokens=60)))
    assert sum(encoded) == 2
    _, theirs = gradients(exact, lambda: independent(exact, rows, weighted))
    assert_same_gradients(ours, theirs, 1e-6)


def test_rows_that_wrote_nothing_or_count_for_nothing_do_no_harm(exact, group, gradients):
    rows = group(3)
    silent = TokenRow(rows[0].ids[: rows[0].n_prompt], (False,) * rows[0].n_prompt, rows[0].images, rows[0].n_prompt)

    def first_only(segment, logprobs, entropies):
        one = Segment((0,), segment.begin, segment.end)
        return weighted(one, logprobs, entropies) if 1 in segment.rows else torch.zeros(())

    scores, ours = gradients(exact, lambda: tree_backward(exact, [silent, *rows], first_only, Settings(max_tokens=1)))
    _, theirs = gradients(exact, lambda: independent(exact, rows[:1], weighted))
    assert scores[0].logprobs.shape == (0,)
    assert {name for name, grad in ours.items() if grad.any()} <= theirs.keys()
    for name, grad in theirs.items():
        assert (ours[name] - grad).norm() <= 1e-6 * grad.norm() + 1e-12, name


def test_scores_without_graph_leave_no_gradient(exact, group, gradients):
    rows = group(3)
    scores, grads = gradients(exact, lambda: tree_scores(exact, rows, Settings(max_tokens=60)))
    assert not grads
    for row, score in zip(rows, scores, strict=True):
        reference = score_rows(exact, [row])[0].logprobs.detach()
        torch.testing.assert_close(score.logprobs, reference, rtol=0, atol=1e-9)


def test_another_prompt_is_named(exact, group):
    stranger = dataclasses.replace(group(1, seed=9)[0], name="stranger")
    with pytest.raises(InputError) as error:
        tree_backward(exact, [*group(2), stranger], weighted)
    assert error.value.where == "stranger"


@pytest.fixture(scope="module")
def forked(words, shown, image_of):
    """Rows of one prompt that part at several depths: common first looks, a fork within a turn, a copy, a short one."""
    rng = random.Random(8)
    image, crops = image_of(70, 112, 84), [image_of(71 + n, 84, 112) for n in range(3)]
    prompt = [*words(rng, 5), *shown(image), *words(rng, 4)]

    def row(name, *parts):
        ids, written, images = list(prompt), [False] * len(prompt), [image]
        for part in parts:
            is_crop = not isinstance(part, list)
            ids += shown(part) if is_crop else part
            written += [not is_crop] * (len(ids) - len(written))
            images += [part] if is_crop else []
        return TokenRow(tuple(ids), tuple(written), tuple(images), len(prompt), name)

    first, fork, last = words(rng, 36), words(rng, 40), words(rng, 5)
    return [
        row("a look", first, crops[0], fork, words(rng, 6)),
        row("the same look, parted after it", first, crops[0], fork, words(rng, 3)),
        row("the same look, parted in the next turn", first, crops[0], fork[:20], words(rng, 9)),
        row("the same words, another crop", first, crops[1], last),
        row("a copy", first, crops[1], last),
        row("something else", words(rng, 8), crops[2], last),
    ]


@pytest.mark.parametrize("is_flat", [False, True])
@pytest.mark.parametrize("max_tokens", MOST)
def test_a_tree_equals_independent_rows(exact, forked, gradients, max_tokens, is_flat):
    chosen = Settings(0.8, max_tokens, is_flat=is_flat)
    _, theirs = gradients(exact, lambda: independent(exact, forked, weighted, 0.8))
    scores, ours = gradients(exact, lambda: tree_backward(exact, forked, weighted, chosen))
    assert_same_gradients(ours, theirs, 1e-6)
    for row, score in zip(forked, scores, strict=True):
        alone = score_rows(exact, [row], 0.8)[0]
        torch.testing.assert_close(score.logprobs, alone.logprobs.detach(), rtol=0, atol=1e-9)


def test_each_shared_token_is_run_once(exact, forked, monkeypatch):
    ran, scored = [], []
    hidden, head = exact.decode_hidden, trainer.batched.token_scores
    monkeypatch.setattr(
        exact, "decode_hidden", lambda x, *a, **k: ran.append(x.shape[:2].numel()) or hidden(x, *a, **k)
    )
    monkeypatch.setattr(trainer.batched, "token_scores", lambda h, *a, **k: scored.append(len(h)) or head(h, *a, **k))
    tree_scores(exact, forked, Settings(max_tokens=1))
    prompt, look, crop = 23, 36 + 1, 13  # all looks go on with the token that opens an image
    alone = (20 + 6) + (20 + 3) + 9 + 2 * (crop + 5) + (8 + crop + 6)  # what is too short for a node is run again
    assert sum(ran) == prompt + look + (crop + 20) + alone - 6  # the last token of a row predicts nothing
    assert sum(scored) == 36 + 20 + alone - 3 * crop - 1
    assert sum(ran) < 0.5 * sum(len(row.ids) for row in forked)


def test_rows_of_two_streams_share_the_prompt_alone(exact, forked, gradients):
    segments = []

    def noted(segment, logprobs, entropies):
        segments.append(segment)
        return weighted(segment, logprobs, entropies)

    streams = ["policy", "expert"] * 3
    _, ours = gradients(exact, lambda: tree_backward(exact, forked, noted, Settings(), streams))
    _, theirs = gradients(exact, lambda: independent(exact, forked, weighted))
    assert_same_gradients(ours, theirs, 1e-6)
    assert any(len(segment.rows) > 1 for segment in segments)
    assert all(len({streams[row] for row in segment.rows}) == 1 for segment in segments)


@pytest.mark.parametrize("freeze_vision", [True, False])
@pytest.mark.parametrize("recompute", [False, True])
def test_a_tree_of_adapters_equals_independent_rows(small, lines, forked, gradients, freeze_vision, recompute):
    model, tokenizer, image_processor = make_tiny(small, lines, seed=0)
    model.name_or_path = "tiny"
    adapter = attach(model, Lora(4, 8.0, ("q_proj", "v_proj", "down_proj", "visual.proj"), 0), "tiny")
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            weight.data.mul_(3.0)
        if ".lora_B." in name:
            weight.data.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    tuned = Policy(model.double(), Processor(tokenizer, image_processor), freeze_vision=freeze_vision, adapter=adapter)
    _, theirs = gradients(tuned, lambda: independent(tuned, forked, weighted))
    _, ours = gradients(tuned, lambda: tree_backward(tuned, forked, weighted, Settings(1.0, 200, recompute)))
    assert any("visual" in name and ".lora_A." in name for name in ours)
    assert any("patch_embed" in name for name in ours) != freeze_vision
    assert all(".lora_" in name or "visual" in name for name in ours)
    assert_same_gradients(ours, theirs, 1e-6)


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12), most=st.integers(1, 120))
def test_micro_batches_keep_every_row_once_within_the_budget(lengths, most):
    runs = micro_batches(lengths, most)
    assert sorted(i for run in runs for i in run) == list(range(len(lengths)))
    assert all(len(run) == 1 or len(run) * max(1, *(lengths[i] for i in run)) <= most for run in runs)


def test_a_row_joins_a_micro_batch_while_it_fits_at_the_length_of_the_longest():
    assert micro_batches([2, 2, 3], 6) == [[2, 0], [1]]
    assert micro_batches([2, 2, 3], 9) == [[2, 0, 1]]


def test_gradients_of_micro_batches_add_up_in_float32_whatever_the_weights_are():
    """300 ones; in bfloat16 the sum would stay at 256."""
    weight = torch.ones(1, dtype=torch.bfloat16, requires_grad=True)
    boundary = Boundary()
    leaf = boundary.cut(weight * 1)
    for _ in range(300):
        (leaf * 1).sum().backward()
    boundary.backward()
    assert (leaf.dtype, leaf.grad.dtype, weight.grad.item()) == (torch.bfloat16, torch.float32, 300.0)
