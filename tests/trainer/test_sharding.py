"""Weights in parts: what is planned is what is run, and every kind of run dies and goes on to the bit."""

from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import trainer.ranks
from schemas.errors import TrainingError, UsageError
from tests.trainer.launching import assert_same_run, die, go_on
from trainer.caches import RecordingPast, SharedPast
from trainer.checkpoints import trained_parameters
from trainer.pacing import Paced, calls_of
from trainer.ranks import ALONE, Ranks
from trainer.sharding import Shards
from trainer.tree_update import Settings, tree_backward

WHOLE = ("run.save_every=1", "run.prompts_per_step=3")
ADAPTERS = ("model.lora_rank=4", "model.freeze_vision=true")


def test_sharding_wants_company(policy):
    with pytest.raises(UsageError, match="more than one process"):
        Shards(policy, "zero2", ALONE)


@dataclass(frozen=True)
class Beside(Ranks):
    """This rank, and another whose plan is known."""

    other: tuple[int, ...] = ()

    def gather(self, one):
        return [one, list(self.other)]


class Counting:
    """A policy that notes what it is asked to run: a prefix, or a batch of so many tokens."""

    def __init__(self, policy):
        self.policy, self.seen = policy, []

    def __getattr__(self, name):
        return getattr(self.policy, name)

    def decode_hidden(self, embeds, positions, past, *, recompute=False):
        self.seen.append("prefix" if isinstance(past, RecordingPast) else embeds.shape[0] * embeds.shape[1])
        return self.policy.decode_hidden(embeds, positions, past, recompute=recompute)


def probe(_segment, logprobs, _entropies):
    return logprobs.sum()


@pytest.mark.parametrize("max_tokens", [1, 40, 60, 10**6])
def test_the_plan_is_what_the_update_runs(exact, group, max_tokens):
    rows = group(5)
    counting = Counting(exact)
    tree_backward(counting, rows, probe, Settings(max_tokens=max_tokens, is_flat=True))
    exact.model.zero_grad(set_to_none=True)
    assert counting.seen[0] == "prefix"
    assert calls_of(exact, [SimpleNamespace(row=row) for row in rows], max_tokens) == len(counting.seen) - 1


def test_a_rank_with_less_fills_in_and_its_gradients_stay(exact, group, gradients):
    """The other rank has more micro-batches in the second group, and a third group."""
    first, second = group(3), group(4, seed=1)
    flat = Settings(max_tokens=10**6, is_flat=True)
    counting = Counting(exact)

    def both(policy):
        for rows in (first, second):
            tree_backward(policy, rows, probe, flat)

    def paced():
        policy = Paced(counting, Beside(0, 2, other=(1, 3, 2)), [1, 1])
        both(policy)
        policy.finish()

    _, ours = gradients(exact, paced)
    _, theirs = gradients(exact, lambda: both(exact))
    sizes = [one if one in ("prefix", 1) else "batch" for one in counting.seen]
    assert sizes == ["prefix", "batch", "prefix", 1, 1, "batch", 1, 1, 1]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_rows_without_a_prefix_are_filled_up_at_the_end(exact):
    counting = Counting(exact)
    paced = Paced(counting, Beside(0, 2, other=(3,)), [1], has_prefixes=False)
    token, positions = torch.zeros(1, 2, exact.head_weight.shape[1]).double(), torch.zeros(3, 1, 2, dtype=torch.long)
    paced.decode_hidden(token, positions, SharedPast())
    paced.finish()
    exact.model.zero_grad(set_to_none=True)
    assert counting.seen == [2, 1, 1]


def test_a_plan_that_was_not_kept_is_no_silent_wait(exact):
    with pytest.raises(TrainingError, match="0 prefixes and 0 batches were run, 2 and 3 were planned"):
        Paced(exact, Beside(0, 2, other=(1,)), [1, 2]).finish()


def test_gradients_are_cut_as_torch_cuts_them(policy):
    weights = list(trained_parameters(policy).values())
    norms = []
    for most in (1e-3, 1e9):
        for weight in weights:
            weight.grad = torch.cos(torch.arange(weight.numel())).view_as(weight)
        expected = [one.grad.clone().requires_grad_(False) for one in weights]
        norms.append(Shards(policy, "none", ALONE).clip(most))
        doubles = [torch.nn.Parameter(torch.zeros_like(one)) for one in expected]
        for one, grad in zip(doubles, expected, strict=True):
            one.grad = grad
        assert norms[-1] == float(torch.nn.utils.clip_grad_norm_(doubles, most))
        assert all(torch.equal(one.grad, other.grad) for one, other in zip(weights, doubles, strict=True))
    assert norms[0] == norms[1] > 1
    policy.model.zero_grad(set_to_none=True)
    assert Shards(policy, "none", ALONE).clip(1.0) == 0.0


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=10))
def test_buckets_hold_all_in_order_up_to_a_size_and_one_type_each(sizes):
    tensors = [torch.zeros(n, dtype=torch.float64 if is_double else torch.float32) for n, is_double in sizes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.ranks, "BUCKET_ELEMENTS", 15)
        buckets = trainer.ranks._buckets(tensors)
    assert [id(one) for bucket in buckets for one in bucket] == [id(one) for one in tensors]
    for bucket in buckets:
        assert len({one.dtype for one in bucket}) == 1
        assert len(bucket) == 1 or sum(one.numel() for one in bucket) <= 15
    for one, after in pairwise(buckets):
        assert one[0].dtype != after[0].dtype or sum(t.numel() for t in one) + after[0].numel() > 15


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 5])
@pytest.mark.parametrize("kind", ["none", "zero2", "zero3"])
@pytest.mark.parametrize("model", [(), ADAPTERS, ("model.dtype=bfloat16",), (*ADAPTERS, "model.dtype=bfloat16")])
def test_every_kind_of_run_dies_and_goes_on(run_store, recipe_path, tmp_path, kind, model, step):
    overrides = (*WHOLE, *model, f"run.sharding={kind}")
    go_on(run_store, recipe_path, tmp_path / "whole", *overrides, how=())
    die(run_store, recipe_path, tmp_path / "run", step, *overrides)
    go_on(run_store, recipe_path, tmp_path / "run", *overrides)
    assert_same_run(tmp_path / "run", tmp_path / "whole")
