import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from trainer.losses import (
    Counts,
    LossConfig,
    Sums,
    clipped_shared,
    gradient_weights,
    normalisers,
    objective,
    row_diagnostics,
    row_weight,
    token_loss,
)

torch.set_num_threads(1)

PAPER = LossConfig()
SHAPED = LossConfig(off_ratio="shaped")
CE = LossConfig(off_ratio="ce")
SEQUENCE_MEAN = LossConfig(off_ratio="sequence_mean")
SEQUENCE = LossConfig(off_ratio="sequence", allow_sequence_ratio=True)
P = (0.001, 0.01, 0.1, 0.5, 0.9, 1.0)

ALL_OFF = st.sampled_from([PAPER, SHAPED, CE, SEQUENCE_MEAN, SEQUENCE])
LOGPROB = st.floats(-6, 0)
ADVANTAGE = st.floats(-3, 3).map(lambda a: round(a, 3))


def row_loss(logprobs, old, advantage, stream, config, **terms):
    """One row by itself, unweighted."""
    return token_loss(logprobs, old, Sums.of([advantage], [1.0]), stream, config, **terms)


def logs(*probabilities, dtype=torch.float64):
    return torch.tensor([math.log(p) for p in probabilities], dtype=dtype)


def slow_ratio(logprobs, t, config):
    """x(ℓ_t) of an expert token, in plain Python."""
    p = math.exp(logprobs[t])
    if config.off_ratio == "shaped":
        return p / (p + config.shaping_gamma)
    if config.off_ratio == "ce":
        return logprobs[t]
    if config.off_ratio == "token":
        return p
    total = sum(logprobs)
    return math.exp(max(-20.0, total / len(logprobs) if config.off_ratio == "sequence_mean" else total))


def slow_objective(logprobs, old, advantage, stream, config):
    """Σ_t min(ρA, clip(ρ)A) of one row: the equation of the method, token by token, in plain Python."""
    total = 0.0
    for t in range(len(logprobs)):
        if stream == "policy":
            ratio = math.exp(min(20.0, max(-20.0, logprobs[t] - (logprobs[t] if old is None else old[t]))))
            clipped = min(max(ratio, 1 - config.clip), 1 + config.clip)
            total += min(ratio * advantage, clipped * advantage)
        elif advantage >= 0 or config.off_negative == "ratio":
            total += slow_ratio(logprobs, t, config) * advantage
        else:
            name = config.off_ratio if config.off_ratio.startswith("sequence") else "token"
            ratio = slow_ratio(logprobs, t, replace(config, off_ratio=name))
            total += min(ratio * advantage, max(ratio, 1 - config.clip) * advantage)
    return total


@pytest.mark.parametrize(
    ("config", "advantage", "expected"),
    [
        # ∂J/∂ℓ at p = 0.001, 0.01, 0.1, 0.5, 0.9, 1
        (PAPER, 1.0, [0.001, 0.01, 0.1, 0.5, 0.9, 1.0]),  # p: least where the expert has most to teach
        (PAPER, -1.0, [0.0, 0.0, 0.0, 0.0, -0.9, -1.0]),  # exactly nothing below 1 − ε = 0.8
        (SHAPED, 1.0, [0.1 * p / (p + 0.1) ** 2 for p in P]),
        (SHAPED, 1.0, [0.009803, 0.082645, 0.25, 0.138889, 0.09, 0.082645]),
        (SHAPED, -1.0, [0.0, 0.0, 0.0, 0.0, -0.9, -1.0]),
        (CE, 1.0, [1.0] * 6),
        (CE, -1.0, [0.0, 0.0, 0.0, 0.0, -0.9, -1.0]),
        (replace(PAPER, off_negative="ratio"), -1.0, [-p for p in P]),
        (replace(SHAPED, off_negative="ratio"), -1.0, [-0.1 * p / (p + 0.1) ** 2 for p in P]),  # LUFFY
        (replace(CE, off_negative="ratio"), -1.0, [-1.0] * 6),
        (replace(SHAPED, shaping_gamma=0.5), 2.0, [2 * 0.5 * p / (p + 0.5) ** 2 for p in P]),
        (PAPER, 0.0, [0.0] * 6),
    ],
)
def test_gradient_weights_of_an_expert_token(config, advantage, expected):
    weights = gradient_weights(logs(*P), None, advantage, "expert", config)
    assert weights.tolist() == pytest.approx(expected, rel=1e-4)
    assert [w == 0 for w in weights.tolist()] == [e == 0 for e in expected]  # exactly zero, not nearly


def test_cross_entropy_teaches_what_the_policy_finds_impossible():
    hopeless = torch.tensor([-30.0, -1000.0])  # far beyond the clamp of the ratios
    assert gradient_weights(hopeless, None, 1.0, "expert", CE).tolist() == [1.0, 1.0]
    assert gradient_weights(hopeless, None, 1.0, "expert", PAPER).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "weight"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.1, 2.0, 2.2, 2.2),
        (1.5, 2.0, 2.4, 0.0),  # clipped above
        (0.5, 2.0, 1.0, 1.0),  # the minimum keeps the unclipped term
        (1.5, -2.0, -3.0, -3.0),
        (0.5, -2.0, -1.6, 0.0),  # clipped below
        (0.9, -2.0, -1.8, -1.8),
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_clipped_surrogate_of_a_policy_token(ratio, advantage, value, weight):
    old = logs(0.3)
    new = old + math.log(ratio)
    assert -row_loss(new, old, advantage, "policy", PAPER).item() == pytest.approx(value)
    assert gradient_weights(new, old, advantage, "policy", PAPER).item() == pytest.approx(weight)


@pytest.mark.parametrize("advantage", [1.5, -1.5])
def test_one_update_per_batch_needs_no_old_log_probs(advantage):
    new = logs(0.001, 0.3, 0.99)
    assert row_loss(new, None, advantage, "policy", PAPER).item() == pytest.approx(-3 * advantage)
    assert gradient_weights(new, None, advantage, "policy", PAPER).tolist() == pytest.approx([advantage] * 3)


def test_the_sequence_ratio_trains_nothing_and_must_be_said_aloud():
    with pytest.raises(UsageError, match="allow_sequence_ratio"):
        LossConfig(off_ratio="sequence")
    row = logs(*[0.7] * 200)
    assert math.exp(row.sum()) < 2e-31
    assert gradient_weights(row, None, 1.0, "expert", SEQUENCE).abs().max() == 0.0
    assert gradient_weights(row, None, 1.0, "expert", SEQUENCE_MEAN).tolist() == pytest.approx([0.7] * 200)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(ADVANTAGE, st.floats(0.001, 2)), min_size=1, max_size=8),
    st.lists(st.floats(-3, 3), min_size=1, max_size=5),
    st.floats(0.05, 0.5),
)
def test_two_scalars_per_shared_token_equal_the_sum_over_its_rows(rows, log_ratios, clip):
    logratio = torch.tensor(log_ratios, dtype=torch.float64, requires_grad=True)
    ratio = logratio.exp()
    literal = sum(w * torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a) for a, w in rows)
    positive = sum(w * max(a, 0.0) for a, w in rows)
    negative = sum(w * min(a, 0.0) for a, w in rows)
    shared = clipped_shared(logratio, positive, negative, clip)
    torch.testing.assert_close(shared, literal, rtol=1e-12, atol=1e-12)
    at_kink = ((logratio.exp() - 1).abs() - clip).abs() < 1e-9
    grads = [torch.autograd.grad(total.sum(), logratio, retain_graph=True)[0] for total in (shared, literal)]
    torch.testing.assert_close(grads[0][~at_kink], grads[1][~at_kink], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("config", [PAPER, SHAPED, CE, replace(SHAPED, off_negative="ratio")])
def test_shared_expert_tokens_equal_their_rows(config):
    tokens, rows = logs(0.02, 0.4, 0.85, 0.95), [1.5, -0.5, 0.25, -2.0]
    shared = objective(tokens, None, 1.75, -2.5, "expert", config).sum()
    assert shared.item() == pytest.approx(sum(-row_loss(tokens, None, a, "expert", config).item() for a in rows))


def test_shared_policy_tokens_take_one_pair_of_sums_each():
    tokens, old = logs(0.2, 0.4), logs(0.1, 0.5)
    shared = objective(tokens, old, torch.tensor([2.0, 0.0]), torch.tensor([-1.0, -3.0]), "policy", PAPER)
    assert shared.tolist() == pytest.approx([1.2 * 2.0 - 2.0, -3.0 * 0.8])


def test_sequence_ratios_cannot_be_shared_between_rows():
    assert [c.needs_whole_rows for c in (PAPER, SHAPED, CE, SEQUENCE_MEAN, SEQUENCE)] == [False] * 3 + [True] * 2


ROW = st.tuples(st.lists(st.tuples(LOGPROB, LOGPROB), min_size=1, max_size=6), ADVANTAGE, st.sampled_from("ope"))


@settings(max_examples=120, deadline=None)
@given(
    st.lists(ROW, min_size=1, max_size=6),
    ALL_OFF,
    st.sampled_from(["token_mean", "trajectory_mean"]),
    st.sampled_from(["clip", "ratio"]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_the_step_loss_is_the_objective_of_the_method(rows, off, norm, negative, lambda_off):
    config = replace(off, loss_norm=norm, off_negative=negative, lambda_off=lambda_off)
    streams = ["expert" if kind == "e" else "policy" for _, _, kind in rows]
    lengths = [len(tokens) for tokens, _, _ in rows]
    counts = normalisers(lengths, streams)
    loss, slow = 0.0, 0.0
    n_of = {s: max(1, sum(n for n, other in zip(lengths, streams, strict=True) if other == s)) for s in set(streams)}
    for (tokens, advantage, kind), stream, n in zip(rows, streams, lengths, strict=True):
        new, old = [t[0] for t in tokens], [t[1] for t in tokens] if kind == "p" else None
        tensors = [None if x is None else torch.tensor(x, dtype=torch.float64) for x in (new, old)]
        loss += row_weight(n, stream, counts, config) * row_loss(*tensors, advantage, stream, config).item()
        share = lambda_off if stream == "expert" else 1.0
        per = n_of[stream] if norm == "token_mean" else len(rows) * n
        slow -= share * slow_objective(new, old, advantage, stream, config) / per
    assert loss == pytest.approx(slow, rel=1e-9, abs=1e-12)


def test_counts_are_global_and_an_empty_stream_contributes_zero():
    here, there = normalisers([3, 5, 2], ["policy", "expert", "policy"]), normalisers([7], ["policy"], sft_tokens=1.5)
    both = Counts(*map(sum, zip(here, there, strict=True)))
    assert both == Counts(policy_tokens=12, expert_tokens=5, trajectories=4, sft_tokens=1.5)
    assert row_weight(5, "expert", both, replace(PAPER, lambda_off=0.5)) == 0.1
    assert row_weight(2, "policy", both, PAPER) == 1 / 12
    literal = replace(PAPER, loss_norm="trajectory_mean")
    assert row_weight(2, "policy", both, literal) == 1 / 8
    assert row_weight(4, "expert", both, replace(literal, lambda_off=2.0)) == 1 / 8
    nothing = normalisers([], [])
    assert [row_weight(0, s, nothing, c) for s in ("policy", "expert") for c in (PAPER, literal)] == [1.0] * 4
    assert row_loss(torch.zeros(0), None, 1.0, "policy", PAPER).item() == 0.0


@pytest.mark.parametrize("config", [PAPER, SHAPED, CE, SEQUENCE_MEAN, SEQUENCE])
def test_a_row_without_tokens_is_zero_and_stays_in_the_graph(config):
    empty = torch.zeros(0, requires_grad=True)
    loss = row_loss(empty, None, 1.0, "expert", config)
    loss.backward()
    assert loss.item() == 0.0
    seen = row_diagnostics(empty, None, 1.0, "expert", config)
    assert (seen.n_tokens, seen.n_clamped) == (0, 0)
    assert seen.clip_fraction == seen.zero_gradient_share == seen.faint_gradient_share == 0.0
    assert math.isnan(seen.ratio_min)
    assert math.isnan(seen.ratio_max)


@pytest.mark.parametrize("config", [PAPER, SHAPED, CE, SEQUENCE_MEAN, SEQUENCE, replace(SHAPED, off_negative="ratio")])
@pytest.mark.parametrize("advantage", [1.3, -0.7])
@pytest.mark.parametrize("stream", ["policy", "expert"])
def test_gradient_against_finite_differences(config, advantage, stream):
    new = logs(0.02, 0.33, 0.86, 0.97, 0.6).requires_grad_()
    old = logs(0.03, 0.32, 0.60, 0.99, 0.9) if stream == "policy" else None  # ratios 0.67, 1.03, 1.43, 0.98, 0.67
    assert torch.autograd.gradcheck(lambda x: row_loss(x, old, advantage, stream, config), (new,), eps=1e-6, atol=1e-7)


def test_gradient_of_all_policy_terms_against_finite_differences():
    config = LossConfig(kl=0.1, entropy_bonus=0.01)
    old, reference = logs(0.03, 0.32), logs(0.05, 0.2)

    def loss(logprobs, entropies):
        kwargs = {"reference_logprobs": reference, "entropies": entropies}
        return row_loss(logprobs, old, 0.8, "policy", config, **kwargs)

    inputs = logs(0.04, 0.3).requires_grad_(), torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("stream", ["policy", "expert"])
@pytest.mark.parametrize("config", [PAPER, SHAPED, CE, SEQUENCE_MEAN])
def test_gradient_reaches_every_written_token_and_no_other(stream, config):
    logprobs = torch.full((2, 4), -0.1, requires_grad=True)
    is_written = torch.tensor([[1, 1, 0, 1], [0, 1, 0, 0]], dtype=torch.bool)
    for row, mask, advantage in zip(logprobs, is_written, (1.0, -1.0), strict=True):
        row_loss(row[mask], None, advantage, stream, config).backward()
    assert (logprobs.grad != 0).equal(is_written)
    assert logprobs.grad[0, 0] < 0 < logprobs.grad[1, 1]  # descent raises what was good, lowers what was bad


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1e4, 0), st.floats(-1e4, 0)), min_size=1, max_size=5),
    st.floats(-1e3, 1e3),
    st.sampled_from(["policy", "expert"]),
    ALL_OFF,
    st.sampled_from([torch.float32, torch.float64]),
)
def test_loss_gradient_and_diagnostics_are_finite_for_any_log_probs(tokens, advantage, stream, config, dtype):
    new, old = (torch.tensor(column, dtype=dtype) for column in zip(*tokens, strict=True))
    old = old if stream == "policy" else None
    assert row_loss(new, old, advantage, stream, config).isfinite()
    assert gradient_weights(new, old, advantage, stream, config).isfinite().all()
    seen = row_diagnostics(new, old, advantage, stream, config)
    assert 0 <= seen.clip_fraction <= seen.zero_gradient_share <= seen.faint_gradient_share <= 1
    assert 0 <= seen.ratio_min <= seen.ratio_max < math.inf
