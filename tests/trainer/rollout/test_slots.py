import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.rollout.slots import Slots

moves = st.lists(
    st.one_of(st.tuples(st.just("add"), st.integers(0, 90)), st.tuples(st.just("remove"), st.integers(0, 99)))
)


@settings(max_examples=40, deadline=None)
@given(moves)
def test_every_owner_keeps_its_own_past_and_no_place_between_is_empty(asked):
    """Nothing is left where nobody is: attention multiplies what it masks, and a diverged row leaves NaN."""
    slots, known, number = Slots(), {}, 0
    for what, n in asked:
        if what == "add":
            number += 1
            known[number] = torch.full((2, 2, 1, n, 4), float(number))
            slots.add(number, known[number], n_later=n % 7)
        elif known:
            gone = sorted(known)[n % len(known)]
            slots.remove(gone)
            del known[gone]
        assert sorted(slots.owners) == sorted(known)
        assert len(slots) == len(known) == len(slots.lengths)
        for owner, past in known.items():
            assert torch.equal(slots.of(owner), past)
            place = slots.held[:, :, slots.owners.index(owner)]
            assert torch.equal(place[:, :, :, : past.shape[3]], past)
            assert not place[:, :, :, past.shape[3] :].any()
