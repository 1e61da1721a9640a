"""One question to an OpenAI-compatible chat endpoint, asked until it answers or plainly will not.

Retries what may pass (429, 5xx, timeouts, lost connections), waiting as long as the server says; stops at once on
anything else: a redirect is not followed, a reply over 4 MiB not read. The key comes from the environment only and is
in no message, log or report.
"""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from schemas.errors import ExpertError, UsageError

TRIES = 6
WAIT_S, WAIT_MAX_S = 1.0, 300.0  # first pause, doubled each time; a server that wants a longer one is given up
TIMEOUT_S = 120.0  # for each read, not for a whole reply
REPLY_BYTES_MAX = 4 << 20


def api_key(url: str, environment: Mapping[str, str]) -> str | None:
    """FOVEA_JUDGE_API_KEY for any endpoint; OPENAI_API_KEY only for OpenAI's own, over https."""
    address = _address(url)
    is_openai = address.scheme == "https" and address.host == "api.openai.com"
    names = ("FOVEA_JUDGE_API_KEY", "OPENAI_API_KEY") if is_openai else ("FOVEA_JUDGE_API_KEY",)
    for name in names:
        if key := environment.get(name, "").strip():
            if not (key.isascii() and key.isprintable()):
                raise UsageError(f"{name} holds a character that no header takes")
            return key
    return None


def _address(url: str) -> httpx2.URL:
    try:
        address = httpx2.URL(url)
    except httpx2.InvalidURL:
        address = httpx2.URL("")
    extra = address.userinfo or address.query or address.fragment
    if address.scheme not in ("http", "https") or not address.host or extra:
        raise UsageError(
            "the judge's address is no plain http or https one",
            fix="like http://127.0.0.1:8000/v1, with the key in FOVEA_JUDGE_API_KEY",
        )
    return address


class Endpoint:
    """Called with a prompt, returns the reply's text."""

    def __init__(
        self,
        url: str,
        model: str,
        key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        address = str(_address(url)).rstrip("/")
        self.url = address if address.endswith("/chat/completions") else f"{address}/chat/completions"
        self.model, self.sleep = model, sleep
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx2.Client(timeout=timeout_s, headers=headers, follow_redirects=False)

    def __call__(self, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        body = json.dumps({"model": self.model, "messages": messages, "temperature": 0})  # ASCII: any text can be sent
        problem = ""
        for number in range(1, TRIES + 1):
            try:
                answer, text = self._posted(body)
            except httpx2.RequestError as error:
                problem, wait_s = type(error).__name__, None
            else:
                if answer.is_success:
                    return self._said(text)
                problem, wait_s = f"status {answer.status_code}", _retry_after_s(answer)
                if answer.status_code != 429 and not answer.is_server_error:
                    raise self._error(f"refuses: {problem}", "check --judge-url, --judge-model and the key")
            pause_s = WAIT_S * 2 ** (number - 1) if wait_s is None else wait_s
            if pause_s > WAIT_MAX_S:
                raise self._error(f"asks for a pause of {pause_s:.0f} s ({problem})", "run again later")
            if number < TRIES:
                self.sleep(pause_s)
        raise self._error(f"did not answer {TRIES} times, the last time with {problem}", "run again later")

    def _posted(self, body: str) -> tuple[httpx2.Response, bytes]:
        """The answer and, of a successful one, its text."""
        text = bytearray()
        with self._client.stream("POST", self.url, content=body) as answer:
            for piece in answer.iter_bytes() if answer.is_success else ():
                text += piece
                if len(text) > REPLY_BYTES_MAX:
                    raise self._error(f"sent more than {REPLY_BYTES_MAX >> 20} MiB", "check --judge-url")
        return answer, bytes(text)

    def _said(self, text: bytes) -> str:
        """Content of the first choice; a null one is an empty reply."""
        try:
            said: Any = json.loads(text)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            said = text
        if not isinstance(said, str | None):
            raise self._error("sent something that is no chat completion", "check --judge-url")
        return said or ""

    def _error(self, what: str, fix: str) -> ExpertError:
        return ExpertError(f"the judge {what}", where=self.url, fix=f"{fix}; verdicts so far are in the judge log")


def _retry_after_s(answer: httpx2.Response) -> float | None:
    """Seconds that the server asks to wait, given as a number or a date; None where it does not say."""
    said = answer.headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        moment = parsedate_to_datetime(said)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
