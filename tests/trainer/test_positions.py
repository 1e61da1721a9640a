import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.positions import next_position, position_ids
from trainer.sequences import EncodedImage, ImageSpan, image_spans

side = st.integers(1, 5)
texts = st.lists(st.integers(1, 6), min_size=1, max_size=4)
PAD = 7


def encoded(rows, columns):
    return EncodedImage("k", torch.empty(0), (1, 2 * rows, 2 * columns))


def interleaved(texts, grids):
    """text, image, text, image, …: ids and images, never two images in a row, as many as both lists give."""
    images = [encoded(*grid) for grid in grids[: len(texts)]]
    ids = []
    for number, n_text in enumerate(texts):
        ids += [1] * n_text
        ids += [PAD] * sum(image.n_tokens for image in images[number : number + 1])
    return ids, images


@settings(max_examples=30, deadline=None)
@given(texts=texts, grids=st.lists(st.tuples(side, side), min_size=1, max_size=4), data=st.data())
def test_equals_transformers_on_any_interleaving(exact, texts, grids, data):
    ids, images = interleaved(texts, grids)
    spans = image_spans(ids, images, PAD)
    ours = position_ids(len(ids), spans)
    kinds = torch.tensor([ids]).eq(PAD).int()
    grid_thw = torch.tensor([image.grid_thw for image in images])
    theirs, _ = exact.model.model.get_rope_index(torch.tensor([ids]), kinds, image_grid_thw=grid_thw)
    assert torch.equal(ours, theirs[:, 0])


@settings(max_examples=30, deadline=None)
@given(texts=texts, grids=st.lists(st.tuples(side, side), max_size=4), cut=st.integers(0, 4))
def test_the_counter_goes_on_from_any_border(texts, grids, cut):
    ids, images = interleaved(texts, grids)
    spans = image_spans(ids, images, PAD)
    whole = position_ids(len(ids), spans)
    border = ([0, *(span.stop for span in spans), len(ids)])[min(cut, len(spans) + 1)]
    later = [ImageSpan(s.start - border, s.stop - border, s.image) for s in spans if s.start >= border]
    rest = position_ids(len(ids) - border, later, next_position(whole[:, :border]))
    assert torch.equal(whole[:, border:], rest)


def test_an_image_in_the_middle_by_hand():
    spans = [ImageSpan(2, 8, encoded(2, 3))]
    assert position_ids(9, spans, start=10).tolist() == [
        [10, 11, 12, 12, 12, 12, 12, 12, 15],
        [10, 11, 12, 12, 12, 13, 13, 13, 15],
        [10, 11, 12, 13, 14, 12, 13, 14, 15],
    ]
