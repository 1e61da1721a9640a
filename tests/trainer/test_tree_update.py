import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import trainer.shared_prefix
from schemas.errors import InputError, TrainingError
from trainer.batched import score_rows
from trainer.sequences import Scores, TokenRow
from trainer.shared_prefix import group_backward, group_scores, micro_batches, self_check

MOST = [8192, 60, 1]  # tokens per micro-batch: the whole group, two or three parts, row by row


def weighted(_row, logprobs, _entropies):
    return (torch.cos(torch.arange(len(logprobs))) * logprobs).sum()


def independent(policy, rows, loss_of, temperature=1.0):
    """Each row by itself: nothing is shared but the weights."""
    for number, row in enumerate(rows):
        score = score_rows(policy, [row], temperature)[0]
        if len(score.logprobs):
            loss_of(number, *score).backward()


def assert_same_gradients(ours, theirs, relative):
    assert ours.keys() == theirs.keys()
    for name, grad in theirs.items():
        assert (ours[name] - grad).norm() <= relative * grad.norm() + 1e-12, name


@pytest.mark.parametrize("max_tokens", MOST)
def test_shared_equals_independent_rows(exact, group, gradients, max_tokens):
    rows = group(4)
    _, theirs = gradients(exact, lambda: independent(exact, rows, weighted, 0.8))
    scores, ours = gradients(exact, lambda: group_backward(exact, rows, weighted, 0.8, max_tokens))
    assert any(name.startswith("model.visual") for name in ours)
    assert_same_gradients(ours, theirs, 1e-6)
    for row, score in zip(rows, scores, strict=True):
        alone = score_rows(exact, [row], 0.8)[0]
        torch.testing.assert_close(score.logprobs, alone.logprobs.detach(), rtol=0, atol=1e-9)
        torch.testing.assert_close(score.entropies, alone.entropies, rtol=0, atol=1e-9)


def test_single_precision_agrees_to_its_own_accuracy(policy, group):
    assert self_check(policy, group(4), 1e-4) <= 1e-4


@pytest.mark.parametrize("recompute", [False, True])
def test_layers_may_be_run_twice(exact, group, gradients, recompute):
    rows = group(3)
    _, theirs = gradients(exact, lambda: independent(exact, rows, weighted))
    _, ours = gradients(exact, lambda: group_backward(exact, rows, weighted, recompute=recompute))
    assert_same_gradients(ours, theirs, 1e-6)


def test_entropy_carries_gradient_when_asked(exact, group, gradients):
    rows = group(2)

    def bonus(_row, logprobs, entropies):
        return logprobs.sum() + entropies.square().sum()

    def alone():
        for row in rows:
            bonus(0, *score_rows(exact, [row], entropy_has_grad=True)[0]).backward()

    _, theirs = gradients(exact, alone)
    _, ours = gradients(exact, lambda: group_backward(exact, rows, bonus, entropy_has_grad=True))
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
        _, ours = gradients(exact, lambda: group_backward(exact, rows, weighted, max_tokens=60))
    finally:
        for weight in weights.values():
            weight.requires_grad_(True)
    assert theirs
    assert_same_gradients(ours, theirs, 1e-6)


def test_a_frozen_tower_gets_no_gradient(exact, group, gradients, monkeypatch):
    rows = group(3)
    monkeypatch.setattr(exact, "freeze_vision", True)
    _, theirs = gradients(exact, lambda: independent(exact, rows, weighted))
    _, ours = gradients(exact, lambda: group_backward(exact, rows, weighted))
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
    _, ours = gradients(exact, lambda: group_backward(exact, rows, weighted, max_tokens=60))
    assert encoded == [2]
    _, theirs = gradients(exact, lambda: independent(exact, rows, weighted))
    assert_same_gradients(ours, theirs, 1e-6)


def test_rows_that_wrote_nothing_or_count_for_nothing_do_no_harm(exact, group, gradients):
    rows = group(3)
    silent = TokenRow(rows[0].ids[: rows[0].n_prompt], (False,) * rows[0].n_prompt, rows[0].images, rows[0].n_prompt)

    def first_only(row, logprobs, entropies):
        return weighted(row, logprobs, entropies) if row == 1 else torch.zeros(())

    scores, ours = gradients(exact, lambda: group_backward(exact, [silent, *rows], first_only, max_tokens=1))
    _, theirs = gradients(exact, lambda: independent(exact, rows[:1], weighted))
    assert scores[0].logprobs.shape == (0,)
    assert {name for name, grad in ours.items() if grad.any()} <= theirs.keys()
    for name, grad in theirs.items():
        assert (ours[name] - grad).norm() <= 1e-6 * grad.norm() + 1e-12, name


def test_scores_without_graph_leave_no_gradient(exact, group, gradients):
    rows = group(3)
    scores, grads = gradients(exact, lambda: group_scores(exact, rows, max_tokens=60))
    assert not grads
    for row, score in zip(rows, scores, strict=True):
        reference = score_rows(exact, [row])[0].logprobs.detach()
        torch.testing.assert_close(score.logprobs, reference, rtol=0, atol=1e-9)


def test_another_prompt_is_named(exact, group):
    stranger = dataclasses.replace(group(1, seed=9)[0], name="stranger")
    with pytest.raises(InputError) as error:
        group_backward(exact, [*group(2), stranger], weighted)
    assert error.value.where == "stranger"


def test_the_self_check_refuses_what_is_not_equal(exact, group, monkeypatch):
    rows = group(3)
    weight = exact.language_model.norm.weight
    weight.grad = torch.ones_like(weight)
    assert self_check(exact, rows, 1e-6) <= 1e-6
    assert torch.equal(weight.grad, torch.ones_like(weight))  # what was there comes back
    weight.grad = None
    collate = group_backward.__globals__["collate"]

    def one_off(*args):
        batch = collate(*args)
        return dataclasses.replace(batch, positions=batch.positions + 1)

    monkeypatch.setattr("trainer.shared_prefix.collate", one_off)
    with pytest.raises(TrainingError, match="differ"):
        self_check(exact, rows, 1e-6)


@pytest.mark.parametrize("spoilt", ["a log-probability", "a gradient", "one gradient too many"])
def test_the_self_check_takes_no_number_for_granted(exact, group, monkeypatch, spoilt):
    """NaN is neither above nor below the tolerance, and a plain maximum loses it behind another number."""
    rows, probed, ways = group(3), trainer.shared_prefix._probe, []

    def probe(trained, backward):
        scores, grads = probed(trained, backward)
        ways.append(grads)
        last = list(grads)[-1]
        if spoilt == "a log-probability":
            return [*scores[:-1], Scores(scores[-1].logprobs * math.nan, scores[-1].entropies)], grads
        if spoilt == "a gradient":
            return scores, grads | {last: grads[last] * math.nan}
        return scores, grads | ({"extra": grads[last]} if len(ways) == 2 else {})

    monkeypatch.setattr(trainer.shared_prefix, "_probe", probe)
    with pytest.raises(TrainingError, match="differ by nan" if "many" not in spoilt else "differ"):
        self_check(exact, rows, 1e-6)


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12), most=st.integers(1, 120))
def test_micro_batches_keep_every_row_once_within_the_budget(lengths, most):
    rows = [TokenRow((1,) * (2 + n), (False,) * (2 + n), (), 2) for n in lengths]
    runs = micro_batches(rows, most)
    assert sorted(i for run in runs for i in run) == list(range(len(rows)))
    assert all(len(run) == 1 or len(run) * max(1, *(lengths[i] for i in run)) <= most for run in runs)
