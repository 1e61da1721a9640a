"""The HTTP of the reference server: who is heard, and what becomes of clients that mean ill or are slow."""

import http.client
import json
import socket
import time
from contextlib import closing, suppress
from urllib.parse import urlsplit

import pytest

from pipeline.adapters.experts import medplib_server
from pipeline.adapters.experts.medplib_service import Service
from tests.pipeline.medplib_servers import StandIn, serving

KEY = "sk-k"
ASK = {"image_b64": "AA==", "question": "What?"}


@pytest.fixture
def server():
    with serving(Service(StandIn()), key=KEY) as service:
        yield service


@pytest.fixture
def send(server):
    def told(method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        known = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        with closing(http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)) as connection:
            connection.request(method, path, body, {**known, **headers})
            reply = connection.getresponse()
            return reply.status, reply.read()

    return told


def raw(server) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=10)


def test_paths_methods_and_keys(send):
    asked = json.dumps(ASK).encode()
    assert send("GET", "/v1/health") == send("POST", "/v1/health", b"{}")
    assert send("POST", "/v1/answer", asked)[0] == 422  # it is heard: the picture is none
    for path in ("/answer", "/v1/", "/v1/answer?x=1", "/v1/../v1/answer", "/etc/passwd"):
        assert send("POST", path, asked)[0] == 404
    assert send("GET", "/v1/answer")[0] == 405
    for key in ("", "Bearer sk-x", KEY):
        assert send("GET", "/v1/health", Authorization=key)[0] == 401
        assert send("POST", "/v1/answer", asked, Authorization=key)[0] == 401


def test_a_form_of_a_web_page_is_not_heard(send):
    body = json.dumps(ASK).encode()
    assert send("POST", "/v1/answer", body, **{"Content-Type": "text/plain"})[0] == 415
    assert send("POST", "/v1/answer", body, **{"Content-Type": "application/json; charset=utf-8"})[0] == 422


def test_nothing_is_waited_for_from_who_has_no_key(server):
    with raw(server) as client:
        client.sendall(b"POST /v1/scan HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n")
        assert b" 401 " in client.recv(1000)


def test_who_sends_too_much_hears_why(send, monkeypatch):
    monkeypatch.setattr(medplib_server, "REQUEST_BYTES_MAX", 10)
    status, data = send("POST", "/v1/scan", bytes(16 << 20))
    assert (status, b"larger than 10 bytes" in data) == (413, True)


@pytest.mark.parametrize("length", ["", "Content-Length: -1\r\n", "Content-Length: x\r\n", "Content-Length: 2\r\n"])
def test_a_request_tells_its_length_and_no_other(server, length):
    head = f"POST /v1/health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n{length}"
    with raw(server) as client:
        client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        assert b" 411 " in client.recv(1000)


@pytest.mark.parametrize(
    "head", ["", f"POST /v1/scan HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9999\r\n"]
)
def test_who_sends_a_byte_now_and_then_is_left(server, monkeypatch, head):
    monkeypatch.setattr(medplib_server, "REQUEST_S", 0.2)
    with raw(server) as client:
        client.settimeout(0.02)
        client.sendall(head.encode() + (b"Content-Type: application/json\r\n\r\n" if head else b"X"))
        ends_s = time.monotonic() + 10
        while time.monotonic() < ends_s:
            with suppress(TimeoutError):
                client.sendall(b"y")
                if client.recv(1000) == b"":
                    return
    pytest.fail("it still waits")


def test_an_error_of_ours_is_told_and_a_client_that_hangs_up_is_not(server, send, capfd):
    def respond(name: str, content: bytes) -> tuple[int, bytes]:
        raise ConnectionResetError if b"gone" in content else LookupError("of a question that is private")

    server.respond = respond
    for body in (b"gone", b"broken"):
        with pytest.raises((ConnectionError, http.client.BadStatusLine)):
            send("POST", "/v1/scan", body)
    assert capfd.readouterr().err == "a request ended with LookupError\n"
