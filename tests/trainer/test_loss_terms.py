"""Around the objective: diagnostics of a row, KL, entropy, imitation, and what is refused."""

import math
from dataclasses import replace

import pytest
import torch

from trainer.losses import LossConfig, Sums, imitation_loss, kl_k3, normalisers, row_diagnostics, sft_scale, token_loss

torch.set_num_threads(1)

PAPER = LossConfig()
SHAPED = LossConfig(off_ratio="shaped")


def row_loss(logprobs, old, advantage, stream, config, **terms):
    """One row by itself, unweighted."""
    return token_loss(logprobs, old, Sums.of([advantage], [1.0]), stream, config, **terms)


def logs(*probabilities, dtype=torch.float64):
    return torch.tensor([math.log(p) for p in probabilities], dtype=dtype)


def test_diagnostics_of_a_policy_row():
    old = logs(0.1, 0.1, 0.1, 0.1, 1e-12)
    new = logs(0.1, 0.05, 0.2, 0.115, 0.5)  # ratios 1, ½, 2, 1.15, e^20 after the clamp
    seen = row_diagnostics(new, old, 1.0, "policy", PAPER)
    assert (seen.n_tokens, seen.n_clamped, seen.clip_fraction) == (5, 1, 0.4)
    assert (seen.ratio_min, seen.ratio_max) == pytest.approx((0.5, math.exp(20)))
    assert seen.zero_gradient_share == pytest.approx(0.4)
    pushed_down = row_diagnostics(new, old, -1.0, "policy", PAPER)
    assert pushed_down.clip_fraction == pytest.approx(0.2)  # the ½
    assert pushed_down.zero_gradient_share == pytest.approx(0.4)  # and the clamped one
    silent = row_diagnostics(new, old, 0.0, "policy", PAPER)
    assert (silent.clip_fraction, silent.zero_gradient_share) == (0.0, 1.0)


def test_diagnostics_of_an_expert_row():
    row = logs(0.0005, 0.3, 0.95, 1e-12)
    good, bad = (row_diagnostics(row, None, a, "expert", PAPER) for a in (1.0, -1.0))
    assert (good.n_clamped, good.clip_fraction, good.zero_gradient_share) == (1, 0.0, 0.25)
    assert good.faint_gradient_share == 0.5  # p = 0.0005 teaches almost nothing, 1e-12 nothing
    assert (good.ratio_min, good.ratio_max) == pytest.approx((math.exp(-20), 0.95))
    assert (bad.clip_fraction, bad.zero_gradient_share) == (0.75, 0.75)
    unclipped = row_diagnostics(row, None, -1.0, "expert", replace(PAPER, off_negative="ratio"))
    assert unclipped.clip_fraction == 0.0
    assert row_diagnostics(row, None, 1.0, "expert", SHAPED).zero_gradient_share == 0.0


def test_diagnostics_leave_no_trace_in_the_graph():
    row = logs(0.3, 0.95).requires_grad_()
    row_diagnostics(row, None, 1.0, "expert", SHAPED)
    assert row.grad is None


@pytest.mark.parametrize(
    ("p", "q", "expected"), [(0.5, 0.5, 0.0), (0.5, 0.25, 0.5 + math.log(2) - 1), (0.2, 0.4, 2 - math.log(2) - 1)]
)
def test_k3(p, q, expected):
    assert kl_k3(logs(p), logs(q), PAPER).item() == pytest.approx(expected)


def test_k3_is_an_unbiased_estimate_of_the_divergence():
    policy, reference = logs(0.2, 0.3, 0.5), logs(0.5, 0.25, 0.25)
    exact = (policy.exp() * (policy - reference)).sum()
    assert (policy.exp() * kl_k3(policy, reference, PAPER)).sum().item() == pytest.approx(exact.item())


def test_kl_and_entropy_act_on_policy_rows_only():
    config = LossConfig(kl=0.5, entropy_bonus=0.25)
    new, reference, entropies = logs(0.5, 0.5), logs(0.25, 0.5), torch.tensor([1.0, 3.0], dtype=torch.float64)
    kwargs = {"reference_logprobs": reference, "entropies": entropies}
    plain, k3 = row_loss(new, None, 1.0, "policy", PAPER).item(), kl_k3(new, reference, config).sum().item()
    assert row_loss(new, None, 1.0, "policy", config, **kwargs).item() == pytest.approx(plain + 0.5 * k3 - 0.25 * 4.0)
    assert row_loss(new, None, 1.0, "expert", config).item() == row_loss(new, None, 1.0, "expert", PAPER).item()


def test_imitation_is_weighted_cross_entropy_over_its_own_count():
    row, weights = logs(0.5, 0.25), torch.tensor([1.0, 4.0], dtype=torch.float64)
    assert imitation_loss(row).item() == pytest.approx(3 * math.log(2))
    assert imitation_loss(row, weights).item() == pytest.approx(9 * math.log(2))
    config = LossConfig(lambda_sft=0.5)
    assert sft_scale(normalisers([2], ["expert"], sft_tokens=5.0), config) == 0.1
    assert sft_scale(normalisers([2], ["expert"], sft_tokens=0.25), config) == 2.0  # Σ of weights, no count
    assert sft_scale(normalisers([2], ["expert"]), config) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: row_loss(logs(0.5), logs(0.5), 1.0, "expert", PAPER), "replayed rollouts are policy rows"),
        (lambda: row_loss(logs(0.5), logs(0.5, 0.5), 1.0, "policy", PAPER), "old log-probs of shape"),
        (lambda: row_loss(logs(0.5, dtype=torch.bfloat16), None, 1.0, "policy", PAPER), "bfloat16"),
        (lambda: row_loss(logs(0.5), None, math.nan, "policy", PAPER), "advantage"),
        (lambda: row_loss(logs(0.5), None, 1.0, "policy", LossConfig(kl=0.1)), "reference_logprobs"),
        (lambda: row_loss(logs(0.5), None, 1.0, "policy", LossConfig(entropy_bonus=0.1)), "entropies"),
        (lambda: normalisers([1, 2], ["policy"]), "zip"),
    ],
)
def test_misuse_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_entropy_bonus_without_gradient_is_refused():
    with pytest.raises(ValueError, match="with a gradient"):
        row_loss(logs(0.5).requires_grad_(), None, 1.0, "policy", LossConfig(entropy_bonus=0.1), entropies=logs(0.5))


@pytest.mark.parametrize(
    "settings_",
    [
        {"clip": 0.0},
        {"clip": 1.0},
        {"off_ratio": "tokens"},
        {"off_negative": "none"},
        {"loss_norm": "mean"},
        {"shaping_gamma": 0.0},
        {"lambda_off": -1.0},
        {"lambda_sft": math.nan},
        {"kl": math.inf},
        {"entropy_bonus": -0.1},
        {"log_ratio_clamp": 100.0},
    ],
)
def test_nonsense_is_refused(settings_):
    with pytest.raises(ValueError, match=next(iter(settings_))):
        LossConfig(**settings_)
