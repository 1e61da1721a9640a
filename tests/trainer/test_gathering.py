"""One gradient [V, h] in all: what is added to it in place is what autograd would have added."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.gathering import gathers, rows_of
from trainer.head import token_scores

V, H, PAD = 40, 6, 3
IDS = torch.tensor([[5, 7, 5, PAD], [7, 7, 39, 0]])
TARGETS = torch.tensor([1, 5, 39, 0, 2, 2, 7, 9])
BANNED = torch.zeros(V, dtype=torch.bool).index_fill(0, torch.tensor([PAD, 11]), True)


class Made(TorchDispatchMode):
    """Storages of tensors [V, H] that operations return."""

    def __init__(self):
        super().__init__()
        self.storages = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.shape == (V, H):
            self.storages.add(result.untyped_storage().data_ptr())
        return result


def matrix(dtype=torch.float64, seed=0):
    drawn = torch.randn(V, H, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return nn.Embedding(V, H, padding_idx=PAD, _weight=drawn.to(dtype))


def backward(embedding, weight, *, accumulate=True, entropy_has_grad=False):
    embedded = rows_of(embedding, IDS) if accumulate else embedding(IDS)
    scores = token_scores(
        embedded.flatten(0, 1).tanh(),
        weight,
        TARGETS,
        BANNED,
        0.7,
        entropy_has_grad=entropy_has_grad,
        accumulate=accumulate,
        chunk=3,
    )
    (scores[0].cos().sum() + scores[1].sum()).backward()


@pytest.fixture(autouse=True)
def deterministic():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("entropy_has_grad", [False, True])
@pytest.mark.parametrize("is_tied", [False, True])
def test_the_sum_is_autograds_over_several_passes(is_tied, entropy_has_grad):
    sides = []
    for accumulate in (True, False):
        embedding = matrix()
        weight = embedding.weight if is_tied else matrix(seed=1).weight
        for _ in range(3):
            backward(embedding, weight, accumulate=accumulate, entropy_has_grad=entropy_has_grad)
        sides.append((embedding.weight.grad, weight.grad))
    for ours, theirs in zip(*sides, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        assert theirs.any()
    if not is_tied:
        assert torch.equal(sides[0][0].any(1).nonzero()[:, 0], torch.tensor([0, 5, 7, 39]))  # no row of padding


def test_a_backward_pass_makes_no_second_matrix():
    embedding, untied = matrix(torch.float32), matrix(torch.float32, 1).weight
    backward(embedding, untied)
    with Made() as made:
        backward(embedding, untied)
    held = (embedding.weight, embedding.weight.grad, untied, untied.grad)
    assert made.storages <= {one.untyped_storage().data_ptr() for one in held}
    with Made() as made:
        backward(embedding, untied, accumulate=False)
    assert not made.storages <= {one.untyped_storage().data_ptr() for one in held}  # the watch sees what it should


def test_halves_add_up_in_float32_where_their_gradient_is_float32():
    """1 + 2⁻¹⁰ is 1 in bfloat16."""
    embedding = matrix(torch.bfloat16)
    embedding.weight.grad_dtype = torch.float32
    for share in (1.0, 2.0**-10, 2.0**-10):
        (share * rows_of(embedding, torch.tensor([[5]])).sum()).backward()
    assert embedding.weight.grad.dtype == torch.float32
    assert (embedding.weight.grad[5] == 1 + 2.0**-9).all()


def test_what_may_not_be_added_to_is_left_to_autograd():
    frozen, half, leaf = matrix(), matrix(torch.bfloat16), matrix()
    frozen.weight.requires_grad_(False)
    assert [gathers(one.weight) for one in (frozen, half, leaf)] == [False, False, True]
    assert not gathers(2 * leaf.weight)
    with torch.no_grad():
        assert not gathers(leaf.weight)
    backward(leaf, frozen.weight)
    backward(half, half.weight)
    backward(leaf, 2 * leaf.weight)
    assert frozen.weight.grad is None
    assert half.weight.grad.dtype == torch.bfloat16
    assert half.weight.grad.any()


def test_a_gradient_that_was_put_aside_stays_as_it_was():
    embedding = matrix()
    backward(embedding, embedding.weight)
    aside, embedding.weight.grad = embedding.weight.grad, None
    kept = aside.clone()
    backward(embedding, embedding.weight)
    assert torch.equal(aside, kept)
    assert torch.equal(embedding.weight.grad, kept)
