import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.attention import after_parts, causal, fold, joined, merge, unfold

torch.set_num_threads(1)


def drawn(seed, *shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def slow(query, keys, values, parts, scaling):
    """softmax(q·kᵀ)·v of each row, head and token by itself."""
    out = torch.zeros_like(query)
    for row in range(query.shape[0]):
        for head in range(query.shape[1]):
            kv = head // (query.shape[1] // keys.shape[1])
            before = [
                torch.cat([part[side][0, kv] for part in parts]) if parts else keys[row, kv, :0] for side in (0, 1)
            ]
            for token in range(query.shape[2]):
                seen = [
                    torch.cat([old, new[row, kv, : token + 1]]) for old, new in zip(before, (keys, values), strict=True)
                ]
                weights = torch.softmax(scaling * (seen[0] @ query[row, head, token]), 0)
                out[row, head, token] = weights @ seen[1]
    return out


@settings(max_examples=20, deadline=None)
@given(
    batch=st.integers(1, 3),
    n_kv=st.integers(1, 2),
    groups=st.integers(1, 3),
    n_new=st.integers(1, 6),
    lengths=st.lists(st.integers(1, 40), max_size=3),
    seed=st.integers(0, 99),
)
def test_attention_after_parts_and_its_gradients_equal_the_slow_reading(batch, n_kv, groups, n_new, lengths, seed):
    width, new = 8, (batch, n_kv, n_new, 8)
    shapes = [(batch, n_kv * groups, n_new, width), new, new, *((1, n_kv, n, width) for n in lengths for _ in (0, 1))]
    inputs = drawn(seed, *shapes)
    query, keys, values, *flat = inputs
    parts = list(zip(flat[::2], flat[1::2], strict=True))
    (pull,) = drawn(seed + 1, query.shape)
    wanted = slow(query, keys, values, parts, 0.3)
    wanted_grads = torch.autograd.grad((wanted * pull).sum(), inputs)
    ways = [after_parts, joined] if parts else [after_parts, lambda q, k, v, _, s: causal(q, k, v, s)]
    for way in ways:
        out = way(query, keys, values, parts, 0.3)
        torch.testing.assert_close(out, wanted, rtol=0, atol=1e-12)
        for ours, theirs in zip(torch.autograd.grad((out * pull).sum(), inputs), wanted_grads, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_coarser_types_are_as_exact_as_they_can_be(dtype, atol):
    rounded = [one.to(dtype) for one in drawn(0, (2, 4, 5, 8), (2, 2, 5, 8), (2, 2, 5, 8), *[(1, 2, 9, 8)] * 4)]
    query, keys, values, *flat = rounded
    parts = list(zip(flat[::2], flat[1::2], strict=True))
    *new, old = *(one.double() for one in (query, keys, values)), [(k.double(), v.double()) for k, v in parts]
    for way in (after_parts, joined):
        out = way(query, keys, values, parts, 0.3)
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), slow(*new, old, 0.3), rtol=0, atol=atol)
        grads = torch.autograd.grad(out.sum(), flat)
        assert [grad.dtype for grad in grads] == [dtype] * 4


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_folding_comes_back_and_keeps_each_head_with_its_keys(batch, n_kv, groups, n_new):
    shape = (batch, n_kv * groups, n_new, 2)
    heads = torch.arange(math.prod(shape)).view(shape)
    folded = fold(heads, n_kv)
    assert folded.shape == (1, n_kv, batch * groups * n_new, 2)
    assert torch.equal(unfold(folded, shape), heads)
    for head in range(n_kv * groups):
        mine = set(heads[:, head].flatten().tolist())
        assert mine <= set(folded[0, head // groups].flatten().tolist())


def test_a_part_that_is_far_less_likely_counts_for_nothing_and_makes_no_nan():
    outs = [torch.ones(1, 2), torch.full((1, 2), 7.0)]
    out, whole = merge(outs, [torch.tensor([0.0]), torch.tensor([-1e4])])
    assert torch.equal(out, outs[0])
    assert whole.item() == 0.0
