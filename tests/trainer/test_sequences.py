import dataclasses

import pytest
import torch

from schemas.errors import InputError
from trainer.sequences import EncodedImage, TokenRow, distinct_images, image_spans

PAD = 7
SMALL = EncodedImage.of(torch.zeros(16, 6), (1, 4, 4))  # 2 × 2 merged tokens
WIDE = EncodedImage.of(torch.ones(16, 6), (1, 2, 8))  # 1 × 4 merged tokens


def test_a_key_is_pixels_and_grid_and_nothing_else():
    assert EncodedImage.of(torch.zeros(16, 6), torch.tensor([1, 4, 4])) == SMALL
    assert SMALL.key != EncodedImage.of(torch.zeros(16, 6), (1, 2, 8)).key
    assert WIDE.key != EncodedImage.of(torch.zeros(16, 6), (1, 2, 8)).key
    assert (SMALL.n_tokens, WIDE.n_tokens, WIDE.merged_grid) == (4, 4, (1, 4))


def test_spans_follow_the_images_even_when_runs_touch():
    spans = image_spans([1, *[PAD] * 8, 2], [SMALL, WIDE], PAD)
    assert [(span.start, span.stop, span.image) for span in spans] == [(1, 5, SMALL), (5, 9, WIDE)]


@pytest.mark.parametrize(
    ("ids", "images"),
    [
        ([1, PAD, PAD, PAD, 2], [SMALL]),  # cut short by a word
        ([1, PAD, PAD, PAD], [SMALL]),  # cut short by the end
        ([1, *[PAD] * 5], [SMALL]),  # one too many
        ([1, 2], [SMALL]),  # an image without a place
        ([1, *[PAD] * 4], []),  # a place without an image
    ],
)
def test_a_misfit_names_the_row(ids, images):
    with pytest.raises(InputError) as error:
        image_spans(ids, images, PAD, "question 12 rollout 3")
    assert error.value.where == "question 12 rollout 3"


@pytest.mark.parametrize(
    "wrong",
    [{"is_written": (False,)}, {"n_prompt": 0}, {"n_prompt": 4}, {"is_written": (False, True, True)}],
    ids=["marks", "no prompt", "long prompt", "written prompt"],
)
def test_a_row_that_cannot_be_is_refused(wrong):
    row = TokenRow((1, 2, 3), (False, False, True), (), 2, "r")
    with pytest.raises(InputError):
        dataclasses.replace(row, **wrong)


def test_a_prompt_has_nothing_written_and_images_count_once():
    prompt = TokenRow.prompt([1, 2], [SMALL])
    assert (prompt.n_prompt, prompt.written_at) == (2, [])
    assert distinct_images([prompt, TokenRow.prompt([3], [WIDE, SMALL])]) == [SMALL, WIDE]
