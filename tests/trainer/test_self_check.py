import dataclasses
import math

import pytest
import torch

import trainer.self_check
import trainer.tree_update
from schemas.errors import TrainingError
from trainer.self_check import self_check
from trainer.sequences import Scores


def test_single_precision_agrees_to_its_own_accuracy(policy, group):
    assert self_check(policy, group(4), tolerance=1e-4) <= 1e-4


def test_the_self_check_refuses_what_is_not_equal(exact, group, monkeypatch):
    rows = group(3)
    weight = exact.language_model.norm.weight
    weight.grad = torch.ones_like(weight)
    assert self_check(exact, rows, tolerance=1e-6) <= 1e-6
    assert torch.equal(weight.grad, torch.ones_like(weight))  # what was there comes back
    weight.grad = None
    collate = trainer.tree_update.collate

    def one_off(*args):
        batch = collate(*args)
        return dataclasses.replace(batch, positions=batch.positions + 1)

    monkeypatch.setattr("trainer.tree_update.collate", one_off)
    with pytest.raises(TrainingError, match="differ"):
        self_check(exact, rows, tolerance=1e-6)


@pytest.mark.parametrize("spoilt", ["a log-probability", "a gradient", "one gradient too many"])
def test_the_self_check_takes_no_number_for_granted(exact, group, monkeypatch, spoilt):
    """NaN is neither above nor below the tolerance, and a plain maximum loses it behind another number."""
    rows, probed, ways = group(3), trainer.self_check._probe, []

    def probe(trained, backward):
        scores, grads = probed(trained, backward)
        ways.append(grads)
        last = list(grads)[-1]
        if spoilt == "a log-probability":
            return [*scores[:-1], Scores(scores[-1].logprobs * math.nan, scores[-1].entropies)], grads
        if spoilt == "a gradient":
            return scores, grads | {last: grads[last] * math.nan}
        return scores, grads | ({"extra": grads[last]} if len(ways) == 2 else {})

    monkeypatch.setattr(trainer.self_check, "_probe", probe)
    with pytest.raises(TrainingError, match="differ by nan" if "many" not in spoilt else "differ") as error:
        self_check(exact, rows, tolerance=1e-6)
    if "many" not in spoilt:
        assert (error.value.where == "log-probabilities") == (spoilt == "a log-probability")
