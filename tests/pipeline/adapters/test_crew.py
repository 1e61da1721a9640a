import threading

import pytest

from pipeline.adapters.crew import Once, in_order


def test_results_come_in_order_whatever_ends_first():
    last = threading.Event()

    def work(number: int) -> int:
        if number == 9:
            last.set()
        assert last.wait(10)  # nobody is done before the last has begun
        return number * number

    assert in_order(work, range(10), 10) == [number * number for number in range(10)]
    assert in_order(work, [], 4) == []


def test_never_more_at_once_than_asked_for():
    lock, together, most = threading.Lock(), 0, 0
    full = threading.Barrier(3)

    def work(number: int) -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        if number < 3:
            full.wait(10)  # three do run together
        with lock:
            together -= 1

    in_order(work, range(50), 3)
    assert most == 3


def test_an_error_is_raised_while_others_still_wait_and_nothing_more_begins():
    hanging, begun = threading.Event(), []

    def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise KeyError("second")
        hanging.wait(10)

    try:
        with pytest.raises(KeyError, match="second"):
            in_order(work, range(100), 2)
        assert sorted(begun)[:2] == [0, 1]
        assert len(begun) <= 3  # the thread that failed may have taken one more
    finally:
        hanging.set()


def test_a_value_wanted_by_many_is_made_once():
    made, start = [], threading.Barrier(8)
    value = Once(lambda: made.append(1) or len(made))

    def work(_: int) -> int:
        start.wait(10)
        return value()

    assert in_order(work, range(8), 8) == [1] * 8
