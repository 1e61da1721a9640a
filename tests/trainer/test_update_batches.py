"""Rows of an imitation batch are grouped by length under a token budget."""

from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.updates import row_batches


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), most=st.integers(1, 120))
def test_batches_hold_every_row_once_within_the_budget(lengths, most):
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batches = row_batches(lengths, most)
    assert [index for batch in batches for index in batch] == order
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= most for batch in batches)


def test_rows_share_a_batch_while_they_fit():
    assert row_batches([2, 2, 3], 6) == [[0, 1], [2]]  # three rows would be padded to nine tokens
    assert row_batches([2, 2, 3], 9) == [[0, 1, 2]]
