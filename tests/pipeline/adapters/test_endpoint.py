"""The client of a remote expert against a server that misbehaves: what is asked again, given up, or ends everything."""

import socket
import threading
from dataclasses import asdict

import pytest

from pipeline.adapters.endpoint import RETRY_AFTER_MAX_S, Endpoint, Limits
from schemas.errors import ExpertError
from schemas.experts import Failure
from tests.pipeline import vision_server
from tests.pipeline.vision_server import serving

KEY = "sk-secret-of-the-test"
QUICK = {"tries": 3, "wait_s": 0.001, "connect_s": 5.0, "read_s": 5.0, "breaker_at": 4}


def body(text: str = "Where is it?") -> dict:
    image = "data:image/png;base64,"
    content = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": text}]
    return {"model": "m", "messages": [{"role": "user", "content": content}]}


@pytest.fixture(autouse=True)
def _answers(monkeypatch):
    """The server needs no picture here."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(vision_server.VisionServer, "reply", lambda self, body, how: {"said": "here"})


@pytest.fixture
def endpoint():
    made = []

    def make(url: str, *, sleep=None, draw=lambda: 1.0, key=KEY, **limits) -> Endpoint:
        made.append(Endpoint(url, key, Limits(**(QUICK | limits)), sleep=sleep, draw=draw))
        return made[-1]

    yield make
    for each in made:
        each.close()


def post(endpoint: Endpoint, text: str = "Where is it?") -> dict | Failure:
    return endpoint.post("chat/completions", body(text))


def test_what_is_sent(endpoint):
    with serving() as model:
        assert post(endpoint(model.url)) == {"said": "here"}
        assert post(endpoint(model.url + "/", key=None)) == {"said": "here"}
    (first, sent), (second, _) = model.requests
    assert first["Authorization"] == f"Bearer {KEY}"
    assert "Authorization" not in second
    assert sent == body()


@pytest.mark.parametrize("how", ["429", "500", "cut", "status 503", "status 408"])
def test_what_may_pass_is_asked_again(endpoint, how):
    with serving(odd={"Where": f"{how} once"}) as model:
        assert post(endpoint(model.url)) == {"said": "here"}
    assert len(model.requests) == 2


@pytest.mark.parametrize(
    ("how", "error_class", "n_tries"),
    [
        ("500", "http_status", 3),
        ("429", "http_status", 3),
        ("cut", "cut_connection", 3),
        ("hang", "timeout", 3),
        ("drip", "timeout", 3),
        ("malformed", "malformed_json", 1),
        ("another", "malformed_json", 1),
        ("huge", "oversized", 1),
        ("too_long", "http_status", 1),
        ("status 422", "http_status", 1),
    ],
)
def test_what_does_not_pass_is_a_failure_of_this_request(endpoint, how, error_class, n_tries):
    with serving(odd={"Where": how}) as model:
        client = endpoint(model.url, read_s=0.2 if how == "hang" else 5.0, whole_s=0.2 if how == "drip" else 5.0)
        failure = post(client)
        assert isinstance(failure, Failure)
        assert (failure.error_class, len(model.requests)) == (error_class, n_tries)
        assert post(client, "And there?") == {"said": "here"}
    assert KEY not in repr(failure)
    used = asdict(client.take_usage())
    assert used.pop("seconds") > 0
    assert used == {"n_requests": 2, "n_tries": n_tries + 1, "n_failures": 1, "tokens_in": 0, "tokens_out": 0}
    assert client.take_usage().n_requests == 0


@pytest.mark.parametrize("status", [401, 403, 404, 405, 307])
def test_what_would_fail_every_request_ends_them_all_and_tells_no_key(endpoint, status):
    with serving(odd={"Where": f"status {status}"}) as model:
        client = endpoint(model.url)
        with pytest.raises(ExpertError, match=f"status {status}") as raised:
            post(client)
        with pytest.raises(ExpertError, match=f"status {status}"):
            post(client, "And there?")
        assert len(model.requests) == 1
    assert KEY not in str(raised.value) + repr(client)


def test_a_server_without_credit_is_not_asked_again(endpoint):
    with serving(odd={"Where": "broke"}) as model:
        with pytest.raises(ExpertError, match="no credit left"):
            post(endpoint(model.url))
        assert len(model.requests) == 1


def test_a_server_that_is_not_there_is_no_failure_of_a_question(endpoint):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ExpertError, match="cannot be reached, tried 3 times"):
        post(endpoint(f"http://127.0.0.1:{port}/v1"))


def test_the_circuit_breaks_after_failures_in_a_row_and_not_before(endpoint):
    with serving(odd={"bad": "500"}) as model:
        client = endpoint(model.url, tries=1, breaker_at=3)
        for text in ("bad", "bad", "good", "bad", "bad"):
            post(client, text)
        with pytest.raises(ExpertError, match="failed 3 requests in a row, the last with http_status: status 500 boom"):
            post(client, "bad")
        n_asked = len(model.requests)
        with pytest.raises(ExpertError, match="failed 3 requests in a row"):
            post(client, "good")
        assert len(model.requests) == n_asked == 6


def test_pauses_double_with_full_jitter_up_to_a_cap(endpoint):
    pauses, shares = [], iter([1.0, 0.5, 1.0, 0.0])
    with serving(odd={"Where": "500"}) as model:
        client = endpoint(
            model.url, sleep=pauses.append, draw=lambda: next(shares), tries=5, wait_s=1.0, wait_max_s=3.0
        )
        assert isinstance(post(client), Failure)
    assert pauses == [1.0, 1.0, 3.0, 0.0]  # 1 · 1, 2 · ½, min(3, 4) · 1, 3 · 0


def test_a_pause_that_the_server_asks_for_holds_for_everybody(endpoint, monkeypatch):
    monkeypatch.setitem(vision_server.STATUSES, "429", (429, {"Retry-After": "7"}, "slow down"))
    pauses = []
    with serving(odd={"Where": "429 once"}) as model:
        client = endpoint(model.url, sleep=pauses.append, draw=lambda: 0.0)
        post(client)
        post(client, "And there?")  # the clock has not moved: it waits too
    assert pauses == pytest.approx([7, 7], abs=0.5)


def test_a_server_that_wants_a_long_pause_is_left(endpoint, monkeypatch):
    monkeypatch.setitem(vision_server.STATUSES, "429", (429, {"Retry-After": f"{RETRY_AFTER_MAX_S + 1:.0f}"}, ""))
    with serving(odd={"Where": "429"}) as model:
        with pytest.raises(ExpertError, match="asks for a pause of 301 s"):
            post(endpoint(model.url))
        assert len(model.requests) == 1


def test_an_error_ends_what_is_in_flight_at_once(endpoint):
    with serving(odd={"first": "hang", "second": "status 401"}) as model:
        client = endpoint(model.url, concurrency=2, read_s=20.0)
        with pytest.raises(ExpertError, match="refuses the key"):
            client.each(lambda text: post(client, text), ["first", "second", "third"])
        assert not model.over.is_set()  # the first still hangs
        assert len(model.requests) == 2
        model.over.set()


def test_answers_come_in_the_order_of_the_items(endpoint):
    second_is_done = threading.Event()

    def work(text: str) -> str:
        if text == "first":
            assert second_is_done.wait(10)
        post(client, text)
        if text == "second":
            second_is_done.set()
        return text

    with serving() as model:
        client = endpoint(model.url, concurrency=2)
        assert client.each(work, ["first", "second", "third"]) == ["first", "second", "third"]


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"tries": 1.5}, {"read_s": 0}, {"wait_s": float("nan")}])
def test_limits_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)
