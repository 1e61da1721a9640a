"""A prompt with three images and a crop of the second: positions, shared prefix and rollouts against the plain way."""

import pytest
import torch

from schemas.grammar import Answer, Look
from trainer.batched import score_rows
from trainer.positions import position_ids
from trainer.rollout.local import LocalRollout
from trainer.rollouts import roll_out
from trainer.self_check import self_check
from trainer.sequences import image_spans
from trainer.tree_update import Settings, tree_backward, tree_scores

T = 0.8
SECOND, THIRD = Look("there", (36, 14, 72, 42), image=2), Look("", (0, 0, 40, 60), image=3)
ASKED = {"question": "Is <image 2> brighter than <image 3>, or <image 2> than <image 1>?"}  # image 1 comes last
ANSWER = Answer("so", "yes")


@pytest.fixture(scope="module", params=[{}, ASKED], ids=["images first", "images named"])
def rows(request, scene_of_three, played):
    """Four episodes of one question: a crop of image 2, crops of 2 and 3, none, and one that was refused."""
    scene = scene_of_three(**request.param)
    turns = ((SECOND, ANSWER), (THIRD, SECOND, ANSWER), (ANSWER,), (Look("", (0, 0, 20, 20)), SECOND, ANSWER))
    return [played(scene, *each).row for each in turns]


def test_the_rows_are_what_they_are_called(rows):
    assert [len(row.images) for row in rows] == [4, 5, 3, 4]
    assert rows[0].image_keys[3] == rows[1].image_keys[4] == rows[3].image_keys[3]
    assert len({row.ids[: row.n_prompt] for row in rows}) == len({row.image_keys[:3] for row in rows}) == 1


def test_positions_are_those_of_transformers(exact, rows):
    for row in rows:
        ids = torch.tensor([row.ids])
        grids = torch.tensor([image.grid_thw for image in row.images])
        theirs, _ = exact.model.model.get_rope_index(ids, ids.eq(exact.image_id).int(), image_grid_thw=grids)
        spans = image_spans(row.ids, row.images, exact.image_id)
        assert len(spans) == len(row.images)
        assert torch.equal(position_ids(len(row.ids), spans), theirs[:, 0])


def test_log_probabilities_are_those_of_transformers(exact, rows):
    """One row, nothing of ours but the ids: the model's own forward with its own positions."""
    row = rows[0]
    ids = torch.tensor([row.ids])
    with torch.no_grad():
        logits = exact.model(
            input_ids=ids,
            pixel_values=torch.cat([image.pixel_values for image in row.images]).double(),
            image_grid_thw=torch.tensor([image.grid_thw for image in row.images]),
            mm_token_type_ids=ids.eq(exact.image_id).int(),
        ).logits[0]
    at = torch.tensor(row.written_at)
    wanted = (logits / T).masked_fill(exact.banned, -torch.inf).log_softmax(-1)[at - 1, ids[0, at]]
    (ours,) = score_rows(exact, [row], T)
    torch.testing.assert_close(ours.logprobs.detach(), wanted, rtol=0, atol=1e-9)


def test_a_shared_prompt_of_three_images_equals_independent_rows(exact, rows, gradients):
    shared = tree_scores(exact, rows, Settings(T, 200))
    for row, ours in zip(rows, shared, strict=True):
        (alone,) = score_rows(exact, [row], T)
        torch.testing.assert_close(ours.logprobs, alone.logprobs.detach(), rtol=0, atol=1e-9)
        torch.testing.assert_close(ours.entropies, alone.entropies.detach(), rtol=0, atol=1e-9)
    assert self_check(exact, rows, T, 1e-6) <= 1e-6  # gradients too

    def total(segment, logprobs, _entropies):
        return len(segment.rows) * logprobs.sum()

    _, grads = gradients(exact, lambda: tree_backward(exact, rows, total, Settings(T)))
    assert any("visual" in name and grad.any() for name, grad in grads.items())


def test_rollouts_with_three_images_equal_a_full_forward(exact, environment, scene_of_three, dictated):
    scenes = [scene_of_three(seed=seed, question_id=f"q{seed}", **asked) for seed, asked in ((1, {}), (2, ASKED))]
    written = dictated(SECOND, Look("", (0, 0, 20, 20)), Look("", (50, 50, 90, 90), image=1), ANSWER)
    for one in (one for group in roll_out(environment, LocalRollout(exact, T), scenes, 2, ("test",)) for one in group):
        episode = one.episode
        assert ([image for image, _ in episode.placed_looks], episode.problems) == ([1, 0], ["image"])
        assert (episode.answer, len(episode.images)) == ("yes", 5)
        assert [token for token, own in zip(episode.ids, episode.is_written, strict=True) if own] == written
        (score,) = score_rows(exact, [episode.row], T)
        torch.testing.assert_close(torch.tensor(one.logprobs).double(), score.logprobs.detach(), rtol=0, atol=1e-6)
