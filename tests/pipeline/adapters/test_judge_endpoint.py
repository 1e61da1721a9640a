"""A judge at an endpoint: what it is sent, what is asked again, and that any failure ends the evaluation."""

import gzip
import socket

import pytest

from pipeline.adapters.connections import REPLY_BYTES_MAX
from pipeline.adapters.endpoint import RETRY_AFTER_MAX_S, Limits
from pipeline.adapters.judge_endpoint import LIMITS, asker, recorded_judge
from schemas.errors import ExpertError, UsageError
from tests.pipeline.judge_server import said, serving

KEY = "sk-secret-of-the-test"


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("FOVEA_JUDGE_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def endpoint(pauses):
    """Its pauses are kept; after one that the server asks for, it rests a second longer (the clock has not moved)."""
    return lambda url: asker(url, "m", sleep=pauses.append)


def test_what_is_sent(endpoint, pauses, monkeypatch):
    with serving(said("VERDICT: correct")) as (url, requests):
        assert endpoint(url)("Right?") == "VERDICT: correct"
        monkeypatch.setenv("FOVEA_JUDGE_API_KEY", "")
        assert endpoint(f"{url}/chat/completions/")("Right?") == "VERDICT: correct"
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
    ours, asked_for, *_ = pauses
    assert (ours, asked_for) == (1.0, pytest.approx(8.0, abs=0.5))  # ours doubles; the server's word goes first
    assert 8.0 in pauses[2:]


def test_it_gives_up(endpoint, pauses):
    with serving((500, {}, "")) as (url, requests):
        with pytest.raises(ExpertError, match="the judge gave no answer, http_status: status 500") as raised:
            endpoint(url)("Right?")
        assert len(requests) == LIMITS.tries == 6
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert "verdicts so far are in the judge log" in raised.value.fix
    with serving((429, {"Retry-After": str(RETRY_AFTER_MAX_S * 2)[:-2]}, "")) as (url, requests):
        with pytest.raises(ExpertError, match="the judge asks for a pause of 600 s"):
            endpoint(url)("Right?")
        assert len(requests) == 1


def test_a_server_that_is_not_there(endpoint, pauses):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ExpertError, match="the judge cannot be reached, tried 6 times"):
        endpoint(f"http://127.0.0.1:{port}/v1")("Right?")
    assert len(pauses) == LIMITS.tries - 1


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_a_refusal_is_not_asked_again_and_tells_no_key(endpoint, pauses, status):
    with serving((status, {"Location": "http://127.0.0.1:1/"}, f"wrong key {KEY}")) as (url, requests):
        with pytest.raises(ExpertError, match=f"the judge .*status {status}") as raised:
            endpoint(url)("Right?")
        assert len(requests) == 1
    assert KEY not in str(raised.value)
    assert pauses == []


@pytest.mark.parametrize(
    "body",
    [
        '{"choices": []}',
        '{"choices": [{"message": {"content": 7}}]}',
        '{"choices": [{"message": "no"}]}',
        "{}",
        "[]",
        "<html>hello</html>",
        "[" * 100_000,
    ],
)
def test_something_else_is_no_chat_endpoint(endpoint, body):
    with serving((200, {}, body)) as (url, requests):
        with pytest.raises(ExpertError, match=r"no chat completion|no JSON object"):
            endpoint(url)("Right?")
        assert len(requests) == 1


@pytest.mark.parametrize("packed", [True, False])
def test_an_endless_reply_is_not_read(endpoint, packed):
    body = b'{"choices": [{"message": {"content": "' + b" " * REPLY_BYTES_MAX + b'"}}]}'
    headers = {"Content-Encoding": "gzip"} if packed else {}
    reply = 200, headers, gzip.compress(body) if packed else body
    with serving(reply) as (url, requests), pytest.raises(ExpertError, match=f"larger than {4 << 20} bytes"):
        endpoint(url)("Right?")
    assert len(requests) == 1


def test_any_text_can_be_sent(endpoint):
    with serving(said("ok")) as (url, requests):
        assert endpoint(url)("half \ud800 of a pair, \u6b63\u5e38") == "ok"
    assert requests[0][2]["messages"][0]["content"] == "half \ud800 of a pair, \u6b63\u5e38"


def test_a_null_content_is_an_empty_reply(endpoint):
    with serving(said(None)) as (url, _):
        assert endpoint(url)("Right?") == ""


def test_one_that_hangs_is_left(pauses):
    quick = Limits(concurrency=1, tries=2, read_s=0.1)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        with pytest.raises(ExpertError, match="gave no answer, timeout"):
            asker(url, "m", limits=quick, sleep=pauses.append)("Right?")
    assert pauses == [1.0]


def test_an_address_and_a_key_are_looked_at_before_anything_is_asked(tmp_path, monkeypatch):
    log = tmp_path / "judge.jsonl"
    with pytest.raises(UsageError, match="the judge's url is no plain http or https") as raised:
        recorded_judge("m", log, "http://me:key@host/v1")
    assert "--judge-url http" in raised.value.fix
    monkeypatch.setenv("FOVEA_JUDGE_API_KEY", "two\nlines")
    with pytest.raises(UsageError, match="FOVEA_JUDGE_API_KEY holds a character"):
        recorded_judge("m", log, "http://10.0.0.1/v1")
    assert not log.exists()
