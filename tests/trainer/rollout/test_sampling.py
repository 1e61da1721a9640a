import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.rollout.sampling import draw, inverse_cdf

NEAR_ONE = 1 - 2**-53


@pytest.mark.parametrize(
    ("noise", "index"),
    [(0.0, 1), (0.249, 1), (0.25, 3), (0.749, 3), (0.75, 4), (NEAR_ONE, 4)],
)
def test_each_id_owns_its_share_of_the_unit_interval(noise, index):
    probs = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]])
    assert inverse_cdf(probs, torch.tensor([noise], dtype=torch.float64)).tolist() == [index]


@settings(max_examples=100, deadline=None)
@given(
    logits=st.lists(st.one_of(st.just(-float("inf")), st.floats(-60, 60, width=32)), min_size=2, max_size=40),
    noise=st.floats(0, NEAR_ONE),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_an_impossible_id_is_never_drawn(logits, noise, dtype):
    logits[-1] = 1.0 if all(z == -float("inf") for z in logits) else logits[-1]
    probs = torch.tensor([logits], dtype=dtype).softmax(-1)
    drawn = inverse_cdf(probs, torch.tensor([noise], dtype=torch.float64))
    assert probs[0, drawn] > 0


def test_a_large_vocabulary_is_drawn_from_as_by_one_sum_over_all_of_it():
    rng = torch.Generator().manual_seed(0)
    probs = (torch.randn(5, 3000, generator=rng) * 3).masked_fill(torch.arange(3000) % 7 == 0, -torch.inf).softmax(-1)
    for noise in torch.rand(200, 5, generator=rng, dtype=torch.float64):
        cumulative = probs.cumsum(-1, dtype=torch.float64)
        at = noise[:, None] * cumulative[:, -1:]
        drawn = inverse_cdf(probs, noise)[:, None]
        before = torch.where(drawn > 0, cumulative.gather(1, (drawn - 1).clamp(min=0)), 0.0)
        assert (before <= at + 1e-6).all()
        assert (at < cumulative.gather(1, drawn) + 1e-6).all()
        assert (probs.gather(1, drawn) > 0).all()


def test_the_borders_between_blocks_are_exact():
    probs = torch.zeros(1, 1500)
    probs[0, [511, 512, 1499]] = torch.tensor([0.25, 0.5, 0.25])
    drawn = [
        inverse_cdf(probs, torch.tensor([noise]).double()).item() for noise in (0.0, 0.2499, 0.25, 0.7499, 0.75, 0.9999)
    ]
    assert drawn == [511, 511, 512, 512, 1499, 1499]
    assert inverse_cdf(probs, torch.tensor([NEAR_ONE], dtype=torch.float64)).item() == 1499


def test_rows_are_drawn_alike_whatever_is_worked_on_at_once(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(9, 8, generator=rng), torch.randn(30, 8, generator=rng)
    banned, noise = torch.arange(30) > 20, torch.rand(9, generator=rng, dtype=torch.float64)
    whole = [draw(hidden, weight, banned, 0.7, one) for one in (noise, None)]
    monkeypatch.setattr("trainer.rollout.sampling.CHUNK_ELEMENTS", 70)  # two rows
    for one, expected in zip((noise, None), whole, strict=True):
        for part, same in zip(draw(hidden, weight, banned, 0.7, one), expected, strict=True):
            torch.testing.assert_close(part, same)


def test_a_draw_reports_the_distribution_it_came_from():
    rng = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(64, 8, generator=rng), torch.randn(30, 8, generator=rng)
    banned = torch.arange(30) % 3 == 0
    noise = torch.rand(64, generator=rng, dtype=torch.float64)
    drawn = draw(hidden, weight, banned, 0.5, noise)
    log_probs = (hidden @ weight.T / 0.5).masked_fill(banned, -torch.inf).log_softmax(-1)
    assert not banned[drawn.ids].any()
    torch.testing.assert_close(drawn.logprobs, log_probs.gather(1, drawn.ids[:, None])[:, 0])
    torch.testing.assert_close(drawn.entropies, torch.distributions.Categorical(logits=log_probs).entropy())
    likeliest = draw(hidden, weight, banned, 0.5, None)
    assert torch.equal(likeliest.ids, log_probs.argmax(-1))


def test_frequencies_are_the_probabilities():
    probs = torch.tensor([0.5, 0.2, 0.2, 0.1])
    even = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000  # each thousandth of the interval once
    drawn = inverse_cdf(probs.expand(1000, -1), even)
    assert drawn.bincount().tolist() == [500, 200, 200, 100]
