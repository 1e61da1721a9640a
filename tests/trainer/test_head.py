import math

import pytest
import torch

from schemas.errors import TrainingError
from trainer.head import token_scores

BANNED = torch.tensor([False, True, False, False, True, False, False])


def inputs(dtype=torch.float64, n=5, width=4):
    rng = torch.Generator().manual_seed(1)
    hidden = torch.randn(n, width, generator=rng, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(len(BANNED), width, generator=rng, dtype=torch.float64).to(dtype).requires_grad_()
    return hidden, weight, torch.tensor([0, 2, 3, 6, 0])[:n]


def plain(hidden, weight, targets, temperature):
    """The same in one piece, by definition: softmax over the ids that are left."""
    left = (~BANNED).nonzero()[:, 0]
    log_probs = (hidden @ weight[left].T / temperature).log_softmax(-1)
    column = torch.searchsorted(left, targets)
    return log_probs.gather(1, column[:, None])[:, 0], -(log_probs.exp() * log_probs).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
@pytest.mark.parametrize("chunk", [None, 2, 1])
def test_scores_are_those_of_the_ids_that_are_left(temperature, chunk):
    scores = token_scores(*inputs(), BANNED, temperature, chunk=chunk)
    for ours, theirs in zip(scores, plain(*inputs(), temperature), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [None, 2])
def test_gradients_by_finite_differences(temperature, chunk):
    hidden, weight, targets = inputs()

    def both(hidden, weight):
        return token_scores(hidden, weight, targets, BANNED, temperature, entropy_has_grad=True, chunk=chunk)

    assert torch.autograd.gradcheck(both, (hidden, weight))


def test_a_banned_row_of_the_head_gets_no_gradient_and_entropy_is_detached():
    hidden, weight, targets = inputs()
    logprobs, entropies = token_scores(hidden, weight, targets, BANNED)
    logprobs.sum().backward()
    assert not entropies.requires_grad
    assert torch.equal(weight.grad.any(1), ~BANNED)


def test_a_strong_pull_on_the_entropy_makes_no_nan_of_what_is_banned():
    hidden, weight, targets = inputs(torch.float32)
    (3.0 * token_scores(hidden, weight, targets, BANNED, entropy_has_grad=True)[1]).sum().backward()
    assert hidden.grad.isfinite().all()
    assert torch.equal(weight.grad.any(1), ~BANNED)


@pytest.mark.parametrize(("frozen", "moving"), [(0, 1), (1, 0)])
def test_a_frozen_side_costs_and_gets_nothing(frozen, moving):
    both = inputs()
    both[frozen].requires_grad_(False)
    token_scores(*both, BANNED)[0].sum().backward()
    assert both[frozen].grad is None
    assert both[moving].grad.any()


def test_bfloat16_weights_are_scored_in_float32(monkeypatch):
    monkeypatch.setattr("trainer.head._ROWS_AT_ONCE", 3)
    hidden, weight, targets = inputs(torch.bfloat16)
    logprobs, entropies = token_scores(hidden, weight, targets, BANNED, 0.7, entropy_has_grad=True)
    (logprobs.sum() + entropies.sum()).backward()
    exact = [side.detach().float().requires_grad_() for side in (hidden, weight)]
    reference, reference_entropies = plain(*exact, targets, 0.7)
    (reference.sum() + reference_entropies.sum()).backward()
    torch.testing.assert_close(logprobs, reference, rtol=1e-6, atol=1e-6)
    for ours, theirs in zip((hidden, weight), exact, strict=True):
        assert ours.grad.dtype == torch.bfloat16
        torch.testing.assert_close(ours.grad, theirs.grad.bfloat16(), rtol=0.01, atol=1e-6)


def test_one_id_left_is_certain():
    banned = torch.ones(len(BANNED), dtype=torch.bool).index_fill(0, torch.tensor([2]), False)
    hidden, weight, _ = inputs()
    logprobs, entropies = token_scores(hidden, weight, torch.full((5,), 2), banned)
    assert logprobs.tolist() == [0.0] * 5
    assert entropies.tolist() == [0.0] * 5


def test_uniform_logits_have_the_entropy_of_what_is_left():
    _, entropies = token_scores(torch.zeros(1, 4), inputs(torch.float32)[1], torch.tensor([0]), BANNED)
    assert float(entropies) == pytest.approx(math.log(5))


def test_a_banned_target_is_refused_by_id():
    with pytest.raises(TrainingError, match=r"\[4\]"):
        token_scores(*inputs()[:2], torch.tensor([0, 4, 0, 4, 0]), BANNED)


def test_no_loss_tokens_make_an_empty_score():
    hidden, weight, targets = inputs(n=0)
    logprobs, entropies = token_scores(hidden, weight, targets, BANNED)
    assert logprobs.shape == entropies.shape == (0,)
