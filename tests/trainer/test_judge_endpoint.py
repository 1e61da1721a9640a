import gzip
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from schemas.errors import ExpertError, UsageError
from tests.trainer.judge_server import said, serving
from trainer.judge_endpoint import REPLY_BYTES_MAX, TRIES, WAIT_MAX_S, Endpoint, api_key

KEY = "sk-secret-of-the-test"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def endpoint(pauses):
    return lambda url, key=KEY: Endpoint(url, "m", key, timeout_s=5, sleep=pauses.append)


def test_what_is_sent(endpoint, pauses):
    with serving(said("VERDICT: correct")) as (url, requests):
        assert endpoint(url)("Right?") == "VERDICT: correct"
        assert endpoint(f"{url}/chat/completions", None)("Right?") == "VERDICT: correct"
    (path, headers, body), (other_path, other_headers, _) = requests
    assert path == other_path == "/v1/chat/completions"
    assert body == {"model": "m", "messages": [{"role": "user", "content": "Right?"}], "temperature": 0}
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert "Authorization" not in other_headers
    assert pauses == []


def test_what_may_pass_is_asked_again(endpoint, pauses):
    replies = [
        (500, {}, "no"),
        (429, {"Retry-After": "0"}, ""),
        (503, {"Retry-After": "7"}, ""),
        (502, {}, ""),
        said("ok"),
    ]
    with serving(*replies) as (url, requests):
        assert endpoint(url)("Right?") == "ok"
    assert len(requests) == 5
    assert pauses == [1.0, 0.0, 7.0, 8.0]  # ours doubles; the server's word goes first


def test_a_pause_may_be_given_as_a_date(endpoint, pauses):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    far = "Mon, 01 Jan 99999999999999999999 00:00:00 +0000"
    replies = [(429, {"Retry-After": when}, "") for when in (soon, past, "soon", "-5", far)]
    with serving(*replies, said("ok")) as (url, _):
        endpoint(url)("Right?")
    assert 90 < pauses[0] <= 100
    assert pauses[1:] == [0.0, 4.0, 8.0, 16.0]


def test_it_gives_up(endpoint, pauses):
    with serving((500, {}, "")) as (url, requests):
        with pytest.raises(ExpertError, match=f"did not answer {TRIES} times, the last time with status 500"):
            endpoint(url)("Right?")
        assert (len(requests), len(pauses)) == (TRIES, TRIES - 1)
    with serving((429, {"Retry-After": str(WAIT_MAX_S * 2)[:-2]}, "")) as (url, requests):
        with pytest.raises(ExpertError, match="asks for a pause of 600 s"):
            endpoint(url)("Right?")
        assert len(requests) == 1


def test_a_server_that_is_not_there(endpoint, pauses):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ExpertError, match="the last time with ConnectError"):
        endpoint(f"http://127.0.0.1:{port}/v1")("Right?")
    assert len(pauses) == TRIES - 1


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_a_refusal_is_not_asked_again_and_tells_no_key(endpoint, pauses, status):
    with serving((status, {"Location": "http://127.0.0.1:1/"}, f"wrong key {KEY}")) as (url, requests):
        with pytest.raises(ExpertError, match=f"refuses: status {status}") as raised:
            endpoint(url)("Right?")
        assert len(requests) == 1
    assert KEY not in str(raised.value)
    assert pauses == []


@pytest.mark.parametrize(
    "body",
    ["<html>hello</html>", "{}", '{"choices": []}', '{"choices": [{"message": {"content": 7}}]}', "[]", "[" * 100_000],
)
def test_something_else_is_no_chat_endpoint(endpoint, body):
    with serving((200, {}, body)) as (url, _), pytest.raises(ExpertError, match="no chat completion"):
        endpoint(url)("Right?")


@pytest.mark.parametrize("packed", [True, False])
def test_an_endless_reply_is_not_read(endpoint, packed):
    body = b'{"choices": [{"message": {"content": "' + b" " * REPLY_BYTES_MAX + b'"}}]}'
    headers = {"Content-Encoding": "gzip"} if packed else {}
    reply = 200, headers, gzip.compress(body) if packed else body
    with serving(reply) as (url, requests), pytest.raises(ExpertError, match="more than 4 MiB"):
        endpoint(url)("Right?")
    assert len(requests) == 1


def test_any_text_can_be_sent(endpoint):
    with serving(said("ok")) as (url, requests):
        assert endpoint(url)("half \ud800 of a pair, \u6b63\u5e38") == "ok"
    assert requests[0][2]["messages"][0]["content"] == "half \ud800 of a pair, \u6b63\u5e38"


def test_a_null_content_is_an_empty_reply(endpoint):
    with serving(said(None)) as (url, _):
        assert endpoint(url)("Right?") == ""


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000/v1",
        "file:///etc",
        "http://",
        "http://me:key@host/v1",
        "https://host/v1?key=1",
        "https://host/v1#part",
        "http://[::1",
    ],
)
def test_addresses_that_are_refused(url):
    with pytest.raises(UsageError, match="no plain http or https"):
        Endpoint(url, "m")


@pytest.mark.parametrize(
    ("url", "environment", "key"),
    [
        ("http://10.0.0.1/v1", {"FOVEA_JUDGE_API_KEY": "ours", "OPENAI_API_KEY": "theirs"}, "ours"),
        ("https://api.openai.com/v1", {"OPENAI_API_KEY": "theirs"}, "theirs"),
        ("http://api.openai.com/v1", {"OPENAI_API_KEY": "theirs"}, None),  # not in the clear
        ("https://api.openai.com.example.org/v1", {"OPENAI_API_KEY": "theirs"}, None),
        ("http://10.0.0.1/v1", {"OPENAI_API_KEY": "theirs"}, None),
        ("http://10.0.0.1/v1", {"FOVEA_JUDGE_API_KEY": ""}, None),
        ("http://10.0.0.1/v1", {}, None),
    ],
)
def test_which_key_goes_where(url, environment, key):
    assert api_key(url, environment) == key


@pytest.mark.parametrize("key", ["pass\u00e9", "two\nlines"])
def test_a_key_that_fits_no_header_is_refused_untold(key):
    with pytest.raises(UsageError, match="FOVEA_JUDGE_API_KEY holds a character") as raised:
        api_key("http://10.0.0.1/v1", {"FOVEA_JUDGE_API_KEY": key})
    assert key not in str(raised.value)
