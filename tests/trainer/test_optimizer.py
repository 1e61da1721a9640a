from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import clip_grad_norm_

from tests.trainer.small_runs import steps_of, train, weights_of
from trainer.optimizer import MASTER, MasterAdamW

TORCHS = partial(torch.optim.AdamW, fused=True)
STEPS, LR = 200, 1e-6  # moves of 2e-4 in all; half an ulp of a bfloat16 weight of 0.02 is 6e-5


def drawn(seed, *shape, scale=1.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def weights(dtype):
    """Two matrices of weights of 0.01 and more, which both types hold exactly."""
    values = [drawn(seed, 24, 16, scale=0.02) for seed in (1, 2)]
    held = [torch.where(one.abs() < 0.01, one + 0.02 * one.sign(), one).bfloat16() for one in values]
    return [nn.Parameter(one.to(dtype)) for one in held]


def walked(kind, dtype, n=STEPS, **settings):
    """Weights and optimizer after `n` steps of gradients that bfloat16 holds exactly."""
    own = weights(dtype)
    optimizer = kind(own, lr=LR, **settings)
    for step in range(n):
        for number, one in enumerate(own):
            pull = (drawn(100 + number, *one.shape) + drawn(1000 + 2 * step + number, *one.shape)).bfloat16()
            (one * pull.to(dtype)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return own, optimizer


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_bfloat16_goes_where_float32_goes(decay):
    wanted, _ = walked(TORCHS, torch.float32, weight_decay=decay)
    own, optimizer = walked(MasterAdamW, torch.bfloat16, weight_decay=decay)
    for exact, weight, begun in zip(wanted, own, weights(torch.bfloat16), strict=True):
        state = optimizer.state[weight]
        assert torch.equal(state[MASTER], exact)
        assert torch.equal(weight, exact.bfloat16())
        assert weight.dtype == torch.bfloat16
        assert {state[kind].dtype for kind in (MASTER, "exp_avg", "exp_avg_sq")} == {torch.float32}
        assert (weight != begun).double().mean() > 0.5


def test_without_masters_not_one_weight_moves():
    own, _ = walked(TORCHS, torch.bfloat16, weight_decay=0.0)
    assert all(torch.equal(weight, begun) for weight, begun in zip(own, weights(torch.bfloat16), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_precision_is_torchs_own_to_the_bit(dtype):
    (ours, mine), (theirs, its) = (walked(kind, dtype, 20, weight_decay=0.1) for kind in (MasterAdamW, TORCHS))
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    for one, other in zip(ours, theirs, strict=True):
        assert mine.state[one].keys() == its.state[other].keys()
        assert all(torch.equal(mine.state[one][kind], its.state[other][kind]) for kind in mine.state[one])


def test_gradients_of_micro_batches_add_up_in_float32_and_are_clipped_there():
    """1 + 2⁻¹⁰ is 1 in bfloat16."""
    (weight, _) = weights(torch.bfloat16)
    MasterAdamW([weight])
    for share in (1.0, 2.0**-10, 2.0**-10):
        (weight * torch.full_like(weight, share)).sum().backward()
    assert weight.grad.dtype == torch.float32
    assert (weight.grad == 1 + 2.0**-9).all()
    norm = clip_grad_norm_([weight], 1.0)
    assert norm == pytest.approx((1 + 2.0**-9) * weight.numel() ** 0.5)
    assert weight.grad.norm() == pytest.approx(1.0, abs=1e-5)


def test_what_has_no_gradient_stays_and_what_had_one_goes_on():
    own, optimizer = walked(MasterAdamW, torch.bfloat16, 3)
    before = [one.detach().clone() for one in own]
    masters = [optimizer.state[one][MASTER].clone() for one in own]
    own[0].grad = torch.ones_like(own[0], dtype=torch.float32)
    optimizer.param_groups[0]["lr"] = 1e-3
    optimizer.step()
    assert not torch.equal(own[0], before[0])
    assert torch.equal(own[1], before[1])
    assert torch.equal(optimizer.state[own[1]][MASTER], masters[1])
    assert [optimizer.state[one]["step"].item() for one in own] == [4.0, 3.0]
    assert set(optimizer.state) == set(own)
    assert optimizer.param_groups[0]["params"] == own


def test_a_cleared_state_begins_from_the_weights_as_they_are():
    own, optimizer = walked(MasterAdamW, torch.bfloat16, 30)
    optimizer.state.clear()
    begun = own[0].detach().float()
    own[0].grad = torch.ones_like(begun)
    optimizer.step()
    assert torch.equal(optimizer.state[own[0]][MASTER], begun - LR / (1 + 1e-8))


HALF = ("model.dtype=bfloat16", "warm.schedule.lr=1e-5", "run.schedule.lr=1e-5", "run.self_check=false")


def test_a_resumed_half_precision_run_has_its_masters_back(run_store, recipe_path, tmp_path):
    """Most of what was learnt in five steps of 1e-5 is in the masters alone."""
    whole = train(run_store, tmp_path / "whole", recipe_path, *HALF)
    run = train(run_store, tmp_path / "run", recipe_path, *HALF, stop=5)
    kept = load_file(run / "checkpoints" / "step-000005" / "optimizer.safetensors")
    masters = {name.removesuffix(f".{MASTER}"): one for name, one in kept.items() if name.endswith(f".{MASTER}")}
    stored = load_file(run / "checkpoints" / "step-000005" / "model.safetensors")
    assert masters
    assert all(one.dtype == torch.float32 for one in masters.values())
    assert all(torch.equal(one.bfloat16(), stored[name]) for name, one in masters.items() if name in stored)
    assert any(not torch.equal(one, one.bfloat16().float()) for one in masters.values())
    train(run_store, run, recipe_path, *HALF, resume=True)
    assert steps_of(run) == steps_of(whole)
    assert weights_of(run, 6) == weights_of(whole, 6)
