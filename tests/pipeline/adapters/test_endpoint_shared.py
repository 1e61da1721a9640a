"""One endpoint under several threads, as the shards of a worker share it; and under a clock that is set back."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from email.utils import formatdate

import pytest

from pipeline.adapters.endpoint import Endpoint, Limits
from schemas.errors import ExpertError
from schemas.experts import Failure
from tests.pipeline import vision_server
from tests.pipeline.vision_server import serving

QUICK = {"tries": 3, "wait_s": 0.001, "connect_s": 5.0, "read_s": 5.0, "breaker_at": 4}


@pytest.fixture(autouse=True)
def _answers(monkeypatch):
    """The server needs no picture here."""
    monkeypatch.setattr(vision_server.VisionServer, "reply", lambda self, body, how: {"said": "here"})


@pytest.fixture
def endpoint():
    made = []

    def make(url: str, *, sleep=None, draw=lambda: 1.0, **limits) -> Endpoint:
        made.append(Endpoint(url, None, Limits(**(QUICK | limits)), sleep=sleep, draw=draw))
        return made[-1]

    yield make
    for each in made:
        each.close()


def post(endpoint: Endpoint, text: str = "Where is it?") -> dict | Failure:
    return endpoint.post("chat/completions", {"messages": [{"content": [{}, {"text": text}]}]})


def test_all_threads_together_have_one_limit(endpoint):
    with serving(latency_s=0.02) as model:
        client = endpoint(model.url, concurrency=5)
        with ThreadPoolExecutor(4) as shards:
            list(shards.map(lambda _: client.each(lambda text: post(client, text), ["Where?"] * 10), range(4)))
        assert (len(model.requests), model.n_together) == (40, 5)


def test_each_thread_is_told_what_it_has_spent_itself(endpoint):
    start, told = threading.Barrier(3), {}

    def shard(n: int) -> None:
        def work(text: str) -> None:
            post(client, text)
            client.spent(10, 1)

        start.wait(10)
        client.each(work, ["bad", *["good"] * n])
        told[n] = client.take_usage(), client.take_usage()

    with serving(odd={"bad": "500"}, latency_s=0.005) as model:
        client = endpoint(model.url, concurrency=4, tries=2, breaker_at=99)
        shards = [threading.Thread(target=shard, args=(n,)) for n in (2, 5, 9)]
        for each in shards:
            each.start()
        for each in shards:
            each.join(20)
        post(client)
    for n, (used, again) in told.items():
        assert used.seconds > 0
        spent = {"n_requests": n + 1, "n_tries": n + 2, "n_failures": 1, "tokens_in": 10 * n + 10, "tokens_out": n + 1}
        assert asdict(used) | {"seconds": 0} == spent | {"seconds": 0}
        assert again.n_requests == 0
    assert client.take_usage().n_requests == 1  # of this thread alone


def test_an_answer_to_what_was_sent_before_a_failure_leaves_the_server_in_doubt(endpoint, monkeypatch):
    has_failed = threading.Event()

    def reply(self, body, how):
        if "slow" in body["messages"][0]["content"][1]["text"]:
            assert has_failed.wait(10)
        return {"said": "here"}

    monkeypatch.setattr(vision_server.VisionServer, "reply", reply)
    with serving(odd={"bad": "status 422"}) as model:
        client = endpoint(model.url)
        with ThreadPoolExecutor(1) as other:
            slow = other.submit(post, client, "slow")
            while not model.requests:
                time.sleep(0.001)
            assert isinstance(post(client, "bad"), Failure)
            has_failed.set()
            assert slow.result(10) == {"said": "here"}
        assert client.is_in_doubt
        post(client, "good")
        assert not client.is_in_doubt


@pytest.mark.parametrize("how", ["status 401", "bug"])
def test_an_error_of_one_thread_ends_the_waiting_of_all(endpoint, how):
    raised = {}

    def shard(text: str) -> None:
        def work(text: str) -> None:
            if text == "bug":
                raise KeyError("a bug")
            post(client, text)

        try:
            client.each(work, [text])
        except Exception as error:
            raised[text] = error

    with serving(odd={"hanging": "hang", "status 401": "status 401"}) as model:
        client = endpoint(model.url, read_s=20.0)
        waiting = threading.Thread(target=shard, args=("hanging",))
        waiting.start()
        while not model.requests:
            time.sleep(0.001)
        shard(how)
        waiting.join(10)
        assert not model.over.is_set()  # the first still hangs
        model.over.set()
    assert raised["hanging"] is raised[how]
    assert isinstance(raised[how], KeyError if how == "bug" else ExpertError)


def test_a_clock_that_jumps_changes_no_pause_and_no_timeout(endpoint, monkeypatch):
    jumps = iter(range(10**9, 0, -(10**6)))  # back by eleven days at every look
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    in_a_minute = {"Retry-After": formatdate(60, usegmt=True)}
    monkeypatch.setitem(vision_server.STATUSES, "429", (429, in_a_minute, "slow down"))
    monkeypatch.setattr(vision_server._Handler, "date_time_string", lambda self: formatdate(0, usegmt=True))
    pauses = []
    with serving(odd={"later": "429 once"}) as model:
        client = endpoint(model.url, sleep=pauses.append, draw=lambda: 0.0)
        assert post(client, "later") == {"said": "here"}
        assert pauses == pytest.approx([60], abs=0.5)
    pauses.clear()
    with serving(odd={"broken": "500", "slow": "drip"}) as model:
        client = endpoint(model.url, sleep=pauses.append, whole_s=0.1)
        assert post(client, "broken").error_class == "http_status"
        assert post(client, "slow").error_class == "timeout"
        assert pauses == [0.001, 0.002] * 2
        assert 0 < client.take_usage().seconds < 60
