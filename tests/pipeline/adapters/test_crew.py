import threading
import weakref

import pytest

from pipeline.adapters.crew import Crew, Once, in_order


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


def test_callers_share_the_threads_and_take_turns():
    crew, begun, results = Crew(1), [], {}
    go, both_wait = threading.Event(), threading.Event()

    def work(item: str) -> str:
        begun.append(item)
        if item == "a0":
            go.set()
            assert both_wait.wait(10)
        return item

    def call(name: str, n: int) -> None:
        results[name] = crew.in_order(work, [f"{name}{number}" for number in range(n)])

    first = threading.Thread(target=call, args=("a", 4))
    first.start()
    assert go.wait(10)
    second = threading.Thread(target=call, args=("b", 2))
    second.start()
    while len(crew._open) < 2:
        second.join(0.01)
    both_wait.set()
    for each in (first, second):
        each.join(10)
    assert results == {"a": ["a0", "a1", "a2", "a3"], "b": ["b0", "b1"]}
    assert begun.index("b1") < begun.index("a3")


def test_a_stop_is_an_error_of_every_caller_at_once():
    crew, hanging, raised = Crew(2), threading.Event(), []
    together = threading.Barrier(3)

    def work(_: int) -> None:
        together.wait(10)
        hanging.wait(10)

    def call() -> None:
        try:
            crew.in_order(work, [1, 2])
        except LookupError as error:
            raised.append(error)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for each in callers:
        each.start()
    together.wait(10)  # both threads of the crew are at work
    while len(crew._open) < 2:
        callers[0].join(0.01)
    crew.stop(LookupError("over"))
    for each in callers:
        each.join(10)
    assert len(raised) == 2
    assert not hanging.is_set()
    hanging.set()


def test_threads_end_with_the_work_and_begin_again_with_more():
    crew = Crew(3)
    assert crew.in_order(str, range(7)) == list("0123456")
    while crew._n_working:
        threading.Event().wait(0.001)
    assert crew.in_order(str, range(2)) == ["0", "1"]


def test_an_error_of_what_is_wanted_by_many_is_everybodys_and_it_is_tried_once():
    tried = []

    def make() -> int:
        tried.append(1)
        raise KeyError("no")

    value = Once(make)
    for _ in range(3):
        with pytest.raises(KeyError, match="no"):
            value()
    assert len(tried) == 1


def test_a_value_for_so_many_is_kept_until_the_last_has_it():
    class Picture: ...

    value = Once(Picture, 2)
    kept = weakref.ref(value())
    assert kept() is not None
    value()
    assert kept() is None
