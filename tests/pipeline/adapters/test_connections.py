"""What one POST brings back, and where it is sent: by way of the proxy that the environment names, or straight."""

import json

import pytest

from pipeline.adapters import connections
from pipeline.adapters.connections import Connections, NoReply
from schemas.errors import UsageError
from tests.pipeline.vision_server import serving

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
BODY = json.dumps({"messages": [{"content": [{}, {"text": "Where?"}]}]}).encode()


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server(monkeypatch):
    with serving() as model:
        monkeypatch.setattr(type(model), "reply", lambda self, body, how: {"said": "here"})
        yield model


def connected(url: str, n: int = 1) -> Connections:
    return Connections(url, {"X-Mine": "yes"}, n, connect_s=5.0, read_s=5.0)


def test_a_reply_has_its_status_its_headers_and_its_whole_body(server):
    reply = connected(server.url).post(f"{server.url}/any", BODY, 5.0)
    assert (reply.status, reply.is_success, json.loads(reply.body)) == (200, True, {"said": "here"})
    assert reply.headers["content-LENGTH"] == str(len(reply.body))
    headers, _ = server.requests[0]
    assert {headers["X-Mine"], headers["Accept-Encoding"]} == {"yes", "identity"}


def test_a_connection_is_kept_and_one_that_went_wrong_is_not_used_again(server, monkeypatch):
    made = []
    monkeypatch.setattr(
        connections.urllib3.connection.HTTPConnection,
        "connect",
        lambda self, real=connections.urllib3.connection.HTTPConnection.connect: made.append(self) or real(self),
    )
    wire = connected(server.url)
    for _ in range(3):
        wire.post(server.url, BODY, 5.0)
    assert len(made) == 1
    for how in ("huge", "cut", "drip"):
        server.odd["Where"] = f"{how} once"
        with pytest.raises(NoReply):
            wire.post(server.url, BODY, 0.1)
        assert wire.post(server.url, BODY, 5.0).is_success
    assert len(made) == 4


def test_a_refusal_is_one_even_where_its_words_are_too_many(server):
    server.odd["Where"] = "wordy once"
    wire = connected(server.url)
    reply = wire.post(server.url, BODY, 5.0)
    assert (reply.status, reply.is_success, reply.body) == (500, False, b"")
    assert wire.post(server.url, BODY, 5.0).is_success


def test_a_reply_may_come_in_chunks_and_be_cut_there_too(server):
    wire = connected(server.url)
    server.odd["Where"] = "chunks once"
    assert json.loads(wire.post(server.url, BODY, 5.0).body) == {"said": "bit by bit"}
    server.odd["Where"] = "cut chunks once"
    with pytest.raises(NoReply) as raised:
        wire.post(server.url, BODY, 5.0)
    assert (raised.value.failure.error_class, raised.value.may_pass) == ("cut_connection", True)


def test_a_compressed_reply_that_cannot_be_read_is_malformed(server):
    server.odd["Where"] = "gzip"
    with pytest.raises(NoReply) as raised:
        connected(server.url).post(server.url, BODY, 5.0)
    assert raised.value.failure.error_class == "malformed_json"


@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
def test_another_machine_is_asked_by_way_of_the_proxy(server, monkeypatch, name):
    monkeypatch.setenv(name, server.url.replace("://", "://me:secret@").removesuffix("/v1"))
    url = "http://expert.invalid/v1/chat/completions"
    assert connected(url).post(url, BODY, 5.0).is_success
    headers = {name.lower(): value for name, value in server.requests[0][0].items()}
    assert (headers["host"], headers["proxy-authorization"]) == ("expert.invalid", "Basic bWU6c2VjcmV0")


def test_this_machine_and_what_the_environment_excepts_is_asked_straight(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:1")
    assert connected(server.url).post(server.url, BODY, 5.0).is_success
    monkeypatch.setenv("NO_PROXY", "expert.invalid")
    with pytest.raises(NoReply) as raised:
        connected("http://expert.invalid/v1").post("http://expert.invalid/v1", BODY, 5.0)
    assert raised.value.failure.error_class == "no_connection"


def test_a_proxy_that_cannot_be_used_is_refused_without_being_told(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "socks5://me:secret@proxy.invalid:1")
    with pytest.raises(UsageError) as raised:
        connected("http://expert.invalid/v1")
    assert "secret" not in str(raised.value)
