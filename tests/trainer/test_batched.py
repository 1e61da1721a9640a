import dataclasses
import random

import pytest
import torch

from schemas.errors import InputError
from trainer.batched import lay_out, score_rows
from trainer.sequences import TokenRow


def stock_log_probs(policy, row, temperature=1.0):
    """[n − 1, V] from the whole stock model, its own positions, banned ids removed."""
    ids = torch.tensor([row.ids])
    with torch.no_grad():
        logits = policy.model(
            input_ids=ids,
            pixel_values=torch.cat([image.pixel_values for image in row.images]).double(),
            image_grid_thw=torch.tensor([image.grid_thw for image in row.images]),
            mm_token_type_ids=ids.eq(policy.image_id).int(),
        ).logits[0]
    policy.model.model.rope_deltas = None
    return (logits / temperature).masked_fill(policy.banned, -torch.inf).log_softmax(-1)[:-1]


@pytest.mark.parametrize("temperature", [1.0, 0.8])
def test_scores_are_those_of_the_stock_model_at_the_written_tokens(exact, group, temperature):
    rows = group(3)
    for row, (logprobs, entropies) in zip(rows, score_rows(exact, rows, temperature), strict=True):
        reference = stock_log_probs(exact, row, temperature)
        at = [token - 1 for token in row.written_at]
        targets = [row.ids[token] for token in row.written_at]
        torch.testing.assert_close(logprobs, reference[at, targets], rtol=0, atol=1e-9)
        finite = reference[at][:, ~exact.banned]
        torch.testing.assert_close(entropies, -(finite.exp() * finite).sum(-1), rtol=0, atol=1e-9)


def test_only_marked_tokens_are_targets(exact, group):
    row = group(2)[1]
    rng = random.Random(0)
    thinned = dataclasses.replace(row, is_written=tuple(w and rng.random() < 0.5 for w in row.is_written))
    whole, part = (score_rows(exact, [one])[0].logprobs for one in (row, thinned))
    kept = [row.written_at.index(token) for token in thinned.written_at]
    assert 0 < len(kept) < len(whole)
    torch.testing.assert_close(part, whole[kept], rtol=0, atol=1e-12)


def test_what_follows_the_last_written_token_changes_nothing(policy, group, words, shown, image_of):
    row = group(2)[1]
    crop = image_of(77)
    tail = [*words(random.Random(1), 3), *shown(crop)]
    longer = TokenRow(
        (*row.ids, *tail), (*row.is_written, *[False] * len(tail)), (*row.images, crop), row.n_prompt, row.name
    )
    assert torch.equal(score_rows(policy, [row])[0].logprobs, score_rows(policy, [longer])[0].logprobs)


def test_gradient_leaves_from_the_predictor_of_every_written_token_and_no_other(exact, group, monkeypatch, gradients):
    rows, seen = group(3), []
    decode_hidden = exact.decode_hidden

    def watched(*args, **settings):
        seen.append(decode_hidden(*args, **settings))
        seen[0].retain_grad()
        return seen[0]

    monkeypatch.setattr(exact, "decode_hidden", watched)
    gradients(exact, lambda: sum(score.logprobs.sum() for score in score_rows(exact, rows)).backward())
    reached = seen[0].grad.any(-1).nonzero().tolist()
    assert reached == [[at, token - 1] for at, row in enumerate(rows) for token in row.written_at]


def test_a_batch_without_written_tokens_has_empty_scores(exact, group):
    unwritten = dataclasses.replace(group(1)[0], is_written=(False,) * len(group(1)[0].ids))
    assert [len(score.logprobs) for score in score_rows(exact, [unwritten])] == [0]


def test_rows_are_scored_alike_alone_and_together(exact, group):
    rows = [*group(3), *group(2, seed=5)]
    for row, together in zip(rows, score_rows(exact, rows), strict=True):
        torch.testing.assert_close(together.logprobs, score_rows(exact, [row])[0].logprobs, rtol=0, atol=1e-9)


def test_an_image_in_many_rows_is_encoded_once(exact, group, monkeypatch):
    rows = group(3)
    calls = []
    encode = exact.encode
    monkeypatch.setattr(exact, "encode", lambda images: calls.append([i.key for i in images]) or encode(images))
    score_rows(exact, rows)
    assert len(calls) == 1
    assert len(calls[0]) == len(set(calls[0])) == 3  # the prompt's and two crops


def test_recomputing_layers_changes_no_gradient(exact, group, gradients):
    rows = group(2)
    (_, kept), (_, again) = (
        gradients(exact, lambda r=r: sum(s.logprobs.sum() for s in score_rows(exact, rows, recompute=r)).backward())
        for r in (False, True)
    )
    assert kept.keys() == again.keys()
    for name, grad in kept.items():
        torch.testing.assert_close(again[name], grad, rtol=1e-9, atol=1e-12)


def test_a_prompt_may_not_end_inside_an_image(exact, group):
    row = group(1)[0]
    inside = row.ids.index(exact.image_id) + 1
    with pytest.raises(InputError, match="inside an image"):
        lay_out(dataclasses.replace(row, n_prompt=inside), exact.image_id)
