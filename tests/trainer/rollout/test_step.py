import pytest
import torch

from tests.trainer.conftest import build
from trainer.rollout.pasts import LivePast
from trainer.rollout.step import decode_one

IDS, POSITIONS = torch.tensor([30, 41, 52, 30]), torch.tensor([9, 40, 7, 300])


def live_past(policy):
    """Four rows of unequal length after two prompts."""
    text = policy.language_model.config
    width = text.hidden_size // text.num_attention_heads
    past, noise = LivePast(text.num_attention_heads), torch.Generator().manual_seed(0)
    for held, lengths in ((past.prompts, (9, 6)), (past.own, (0, 3, 5, 3))):
        for number, n in enumerate(lengths):
            shape = policy.n_layers, 2, text.num_key_value_heads, n, width
            held.add(number, torch.randn(shape, generator=noise).to(policy.head_weight.dtype), 1)
    past.arrange([0, 1, 0, 0])
    past.advance()
    return past


@torch.no_grad()
def both(policy):
    """Hidden states of the stock layers and of the short way, and what each left in its past."""
    stock, short = live_past(policy), live_past(policy)
    places = POSITIONS[:, None].expand(3, -1, 1)
    expected = policy.decode_hidden(policy.embed(IDS[:, None]), places, stock)[:, 0]
    return expected, decode_one(policy, IDS, POSITIONS, short), stock.own.held, short.own.held


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.0)])
def test_a_step_is_that_of_the_stock_layers_in_every_dtype(dtype, tolerance):
    """In bfloat16 bit for bit: another order of rounding would be seen in the third digit."""
    policy = build(dtype)
    for layer in policy.language_model.layers:  # of ones, a norm's weight could be anywhere
        layer.input_layernorm.weight.data.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(1))
    expected, hidden, *kept = both(policy)
    assert hidden.dtype == dtype
    torch.testing.assert_close(hidden, expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(*kept, rtol=0, atol=tolerance)


@pytest.mark.parametrize("part", ["", "self_attn", "mlp"])
def test_a_watched_layer_is_run_as_it_is(policy, part):
    seen = []
    watched = policy.language_model.layers[1].get_submodule(part)
    watching = watched.register_forward_hook(lambda *_: seen.append(1))
    try:
        expected, hidden, *_ = both(policy)
    finally:
        watching.remove()
    assert seen == [1, 1]
    assert torch.equal(expected, hidden)
