import pytest
import torch

from trainer.rollout.pasts import LivePast, PackedPast, partial, plain

N_HEADS, N_KV, WIDTH, SCALING = 6, 2, 8, 0.3


def softmax_attention(query, keys, values):
    """[H, D] to keys and values [H_kv, n, D], in one softmax."""
    keys, values = (one.repeat_interleave(N_HEADS // N_KV, dim=0) for one in (keys, values))
    weights = (torch.einsum("hd,hnd->hn", query, keys) * SCALING).softmax(-1)
    return torch.einsum("hn,hnd->hd", weights, values)


def some(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kernel", [partial, plain])
@pytest.mark.parametrize("lengths", [(5,), (5, 5), (70, 3, 9)])
def test_a_live_row_sees_its_prompt_its_own_tokens_and_nothing_else(kernel, lengths, monkeypatch):
    """Rows of several prompts in any order, of unequal length, one prompt without a row."""
    monkeypatch.setattr("trainer.rollout.pasts.partial", kernel)
    past = LivePast(N_HEADS)
    prompts = [some(2, 2, N_KV, n, WIDTH, seed=n + at) for at, n in enumerate((*lengths, 7))]
    for number, one in enumerate(prompts):
        past.prompts.add(number, one)
    places = [row % len(lengths) for row in range(5)]
    rows = [some(2, 2, N_KV, n, WIDTH, seed=100 + n) for n in (0, 3, 63, 64, 1)]
    for number, one in enumerate(rows):
        past.own.add(number, one)
    past.arrange(places)
    for step in range(3):
        past.advance()
        for layer in range(2):
            query, keys, values = (some(5, n, 1, WIDTH, seed=step * 9 + n + layer) for n in (N_HEADS, N_KV, N_KV))
            out = past.attend(layer, query, keys, values, SCALING)
            for row, place in enumerate(places):
                rows[row] = torch.cat([rows[row], rows[row].new_zeros(2, 2, N_KV, layer == 0, WIDTH)], dim=3)
                rows[row][layer, :, :, -1] = torch.stack([keys[row, :, 0], values[row, :, 0]])
                seen = torch.cat([prompts[place][layer], rows[row][layer]], dim=2)
                torch.testing.assert_close(out[row, :, 0], softmax_attention(query[row, :, 0], *seen))
    for number, one in enumerate(rows):
        assert torch.equal(past.own.of(number), one)


def test_packed_tokens_see_what_came_before_them_in_their_own_piece():
    counts, layers = [3, 1, 4], 2
    parts = [
        [],
        [some(layers, 2, N_KV, 5, WIDTH)],
        [some(layers, 2, N_KV, 2, WIDTH, seed=1), some(layers, 2, N_KV, 6, WIDTH)],
    ]
    past = PackedPast(counts, parts)
    new = [[some(1, n, sum(counts), WIDTH, seed=layer + n) for n in (N_HEADS, N_KV, N_KV)] for layer in range(layers)]
    outs = [past.attend(layer, *new[layer], SCALING) for layer in range(layers)]
    for layer, (query, keys, values) in enumerate(new):
        for piece, (begin, n) in enumerate(((0, 3), (3, 1), (4, 4))):
            own = torch.stack([keys[0, :, begin : begin + n], values[0, :, begin : begin + n]])
            assert torch.equal(past.pieces()[piece][layer], own)
            for token in range(n):
                seen = torch.cat([*(part[layer] for part in parts[piece]), own[:, :, : token + 1]], dim=2)
                expected = softmax_attention(query[0, :, begin + token], *seen)
                torch.testing.assert_close(outs[layer][0, :, begin + token], expected)


def test_plain_attention_is_the_kernels_in_bfloat16_too():
    query, keys, values = (some(2, N_KV, n, WIDTH).bfloat16() for n in (4, 9, 9))
    mask = torch.zeros(2, 1, 1, 9, dtype=torch.bfloat16)
    mask[1, :, :, 6:] = -torch.inf
    for ours, theirs in zip(
        plain(query, keys, values, mask, SCALING), partial(query, keys, values, mask, SCALING), strict=True
    ):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)
