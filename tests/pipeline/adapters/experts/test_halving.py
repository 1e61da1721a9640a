"""Batches that do not fit in memory."""

import gc
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.experts.halving import Halving, is_out_of_memory
from schemas.experts import Failure


class Machine:
    """Holds so much; a batch weighs what its items weigh together."""

    def __init__(self, room: float, error: type[Exception] = MemoryError) -> None:
        self.room, self.error, self.batches = room, error, []

    def work(self, batch):
        self.batches.append(list(batch))
        if sum(batch) > self.room:
            raise self.error("this batch")
        return [-item for item in batch]


def failed(result: object) -> bool:
    return isinstance(result, Failure) and result.error_class == "out_of_memory"


def test_what_fits_is_done_in_whole_batches():
    machine, halving = Machine(room=4), Halving()
    assert halving.each(machine.work, [1] * 10, 4) == [-1] * 10
    assert list(map(len, machine.batches)) == [4, 4, 2]
    assert halving.n == 0


def test_what_does_not_fit_is_halved_and_stays_small():
    machine, halving = Machine(room=2), Halving()
    assert halving.each(machine.work, [1] * 7, 8) == [-1] * 7
    assert list(map(len, machine.batches)) == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert halving.n == 2


def test_one_item_too_large_alone_is_given_up_and_the_others_start_whole_again():
    machine, halving = Machine(room=8), Halving()
    first, *rest = halving.each(machine.work, [99, *[1] * 16], 8)
    assert failed(first)
    assert rest == [-1] * 16
    assert list(map(len, machine.batches)) == [8, 4, 2, 1, 8, 8]


@settings(max_examples=60, deadline=None)
@given(items=st.lists(st.integers(1, 20), max_size=20), room=st.integers(0, 25), at_once=st.integers(1, 9))
def test_every_item_that_fits_alone_is_answered_in_its_place(items, room, at_once):
    machine, halving = Machine(room), Halving()
    results = halving.each(machine.work, items, at_once)
    assert [None if failed(each) else each for each in results] == [-item if item <= room else None for item in items]
    assert all(0 < len(batch) <= at_once for batch in machine.batches)
    tried = [sum(batch) > room for batch in machine.batches if len(batch) > 1]
    assert halving.n == sum(tried)
    again = Machine(room)
    assert halving.each(again.work, items, at_once) == results
    assert again.batches == machine.batches  # nothing is remembered


def test_what_a_failed_batch_held_is_gone_before_memory_is_freed():
    held, alive = [], []

    class Tensor:
        pass

    def work(batch):
        large = Tensor()
        held.append(weakref.ref(large))
        if len(batch) > 1:
            raise MemoryError
        return batch

    Halving(lambda: (gc.collect(), alive.append(held[-1]() is not None))).each(work, [1, 2], 2)
    assert alive == [False]


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_are_about_memory(error, is_memory):
    assert is_out_of_memory(error) is is_memory

    def work(batch):
        raise error

    if is_memory:
        assert list(map(failed, Halving().each(work, [1, 2], 2))) == [True, True]
    else:
        with pytest.raises(type(error)):
            Halving().each(work, [1, 2], 2)


def test_torch_on_a_cpu_says_so_in_these_words():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60)
    assert is_out_of_memory(raised.value)
