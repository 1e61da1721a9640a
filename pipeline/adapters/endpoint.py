"""JSON over HTTP to a remote expert: asked until it answers or plainly will not, by many threads, never more at once.

What concerns one request (a refusal of its body, a timeout, a lost connection after all tries) comes back as a
`Failure`. What would fail every request (no server, a refused key, a redirect, an unknown path or model, too many
failures in a row) is an `ExpertError` for all threads: nothing is recorded for the questions in flight, so that a rerun
asks them again. It knows no protocol above JSON, follows no redirect, and tells nobody the key.
"""

import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import httpx2

from pipeline.adapters.addresses import KEY, checked_address, retry_after_s
from pipeline.adapters.crew import in_order
from schemas.errors import ExpertError
from schemas.experts import Failure

A = TypeVar("A")
B = TypeVar("B")

REPLY_BYTES_MAX = 4 << 20
ERROR_BYTES_MAX, ERROR_CHARS_MAX = 1 << 16, 300  # of a refusal: read, and repeated
RETRY_AFTER_MAX_S = 300.0  # a server that wants a longer pause is not asked again
MAY_PASS = frozenset((408, 409, 425, 429))  # and every 5xx
FOR_THIS_BODY = frozenset((400, 413, 415, 422))  # the rest of 3xx and 4xx refuses everything
NEVER_BUSY = frozenset(("insufficient_quota", "billing_hard_limit_reached"))  # said with 429, and no wait helps


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how often, for each worker. Nothing here changes an answer, so nothing here enters an identity."""

    concurrency: int = 16
    connect_s: float = 10.0
    read_s: float = 120.0  # without a byte
    whole_s: float = 300.0  # of one try, checked at each piece that arrives
    tries: int = 5
    wait_s: float = 1.0  # of the first pause; doubled each time, then drawn from [0, that]
    wait_max_s: float = 60.0
    breaker_at: int = 16  # requests that fail in a row

    def __post_init__(self) -> None:
        for name in ("concurrency", "tries", "breaker_at"):
            if type(getattr(self, name)) is not int or not 1 <= getattr(self, name) <= 4096:
                raise ValueError(f"{name} must be a whole number from 1 on, got {getattr(self, name)!r}")
        for name in ("connect_s", "read_s", "whole_s", "wait_s", "wait_max_s"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < 1e6:
                raise ValueError(f"{name} must be a number of seconds above 0, got {value!r}")


@dataclass(slots=True)
class Usage:
    """What requests have cost so far; belongs in work/, never in a row."""

    n_requests: int = 0
    n_tries: int = 0
    n_failures: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0  # summed over requests, waits included


class _Miss(Exception):
    """One try that gave no answer."""

    def __init__(self, failure: Failure, *, may_pass: bool, wait_s: float | None = None) -> None:
        super().__init__(failure.message)
        self.failure, self.may_pass, self.wait_s = failure, may_pass, wait_s


@dataclass
class Endpoint:
    """One server and one client of it, shared by all threads of a worker."""

    url: str
    key: str | None = field(repr=False)
    limits: Limits = field(default_factory=Limits)
    sleep: Callable[[float], object] | None = field(default=None, repr=False)
    draw: Callable[[], float] = field(default=random.random, repr=False)  # jitter: it changes no answer

    def __post_init__(self) -> None:
        self.url = str(checked_address(self.url)).rstrip("/")
        n = self.limits.concurrency
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        headers |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
        timeout = httpx2.Timeout(self.limits.read_s, connect=self.limits.connect_s, pool=None)
        pool = httpx2.Limits(max_connections=n, max_keepalive_connections=n)
        self._client = httpx2.Client(timeout=timeout, limits=pool, headers=headers, follow_redirects=False)
        self._lock, self._over, self._error = threading.Lock(), threading.Event(), None
        self._resume_at_s, self._failed_in_a_row, self._usage = 0.0, 0, Usage()

    def each(self, work: Callable[[A], B], items: Sequence[A]) -> list[B]:
        """`work` on every item by `concurrency` threads, results in order; the first error ends them all."""
        try:
            return in_order(work, items, self.limits.concurrency)
        except BaseException:
            self.close()
            raise

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | Failure:
        """The JSON object the server answers with, or why this request has none; ExpertError when none would have."""
        content, started_s = json.dumps(body).encode(), time.monotonic()  # ASCII: any text can be sent
        outcome: dict[str, Any] | Failure = Failure("no_answer", "never asked")
        for number in range(self.limits.tries):
            try:
                outcome = self._once(path, content)
                break
            except _Miss as miss:
                outcome = miss.failure
                if not miss.may_pass:
                    break
                if number + 1 < self.limits.tries:
                    self._pause(number, miss.wait_s)
        self._count(outcome, number + 1, time.monotonic() - started_s)
        return outcome

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last request failed: nobody knows then if its body or the server is to blame."""
        return self._failed_in_a_row > 0

    def spent(self, tokens_in: int, tokens_out: int) -> None:
        with self._lock:
            self._usage.tokens_in += tokens_in
            self._usage.tokens_out += tokens_out

    def take_usage(self) -> Usage:
        """What was used since it was last taken."""
        with self._lock:
            taken, self._usage = self._usage, Usage()
        return taken

    def stop(self, what: str, fix: str) -> NoReturn:
        """End every request of every thread with one error."""
        with self._lock:
            self._error = self._error or ExpertError(f"the expert {what}", where=self.url, fix=fix)
        self._over.set()
        raise self._error

    def close(self) -> None:
        """Hang up, also on what is in flight; nothing can be asked any more."""
        self._over.set()
        self._client.close()

    def _once(self, path: str, content: bytes) -> dict[str, Any]:
        self._wait_for_gate()
        try:
            with self._lock:
                self._usage.n_tries += 1
            with self._client.stream("POST", f"{self.url}/{path}", content=content) as answer:
                if not answer.is_success:
                    self._refused(answer)
                text = b"".join(_limited(answer.iter_bytes(), REPLY_BYTES_MAX, self.limits.whole_s))
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            raise _Miss(Failure("no_connection", type(error).__name__), may_pass=True) from error
        except httpx2.TimeoutException as error:
            raise _Miss(Failure("timeout", "the server did not answer in time"), may_pass=True) from error
        except httpx2.DecodingError as error:
            raise _Miss(Failure("malformed_json", "the reply cannot be decoded"), may_pass=False) from error
        except (httpx2.RequestError, httpx2.StreamError, RuntimeError) as error:  # RuntimeError: closed by `close`
            self._raise_if_over()
            raise _Miss(Failure("cut_connection", "the server hung up"), may_pass=True) from error
        return self._parsed(text)

    def _parsed(self, text: bytes) -> dict[str, Any]:
        if self.key:
            text = text.replace(self.key.encode(), b"***")  # a server may repeat what it was sent
        with suppress(ValueError, RecursionError):
            if isinstance(parsed := json.loads(text), dict):
                return parsed
        raise _Miss(Failure("malformed_json", "the reply is no JSON object"), may_pass=False)

    def _refused(self, answer: httpx2.Response) -> NoReturn:
        status, failure = answer.status_code, f"status {answer.status_code}"
        code, words = self._words(answer)
        if code in NEVER_BUSY:
            self.stop(f"has no credit left: {failure}", "the finished shards are kept; run again when it has")
        if status in MAY_PASS or answer.is_server_error:
            wait_s = retry_after_s(answer.headers.get("Retry-After", ""), time.time())
            raise _Miss(Failure("http_status", failure, words), may_pass=True, wait_s=wait_s)
        if status in FOR_THIS_BODY:
            raise _Miss(Failure("http_status", failure, words), may_pass=False)
        if status in (401, 403):  # such refusals may quote the key
            self.stop(f"refuses the key: {failure}", f"set {KEY}; OPENAI_API_KEY is sent to api.openai.com alone")
        if answer.has_redirect_location:
            self.stop(f"points elsewhere: {failure}", "give the url it really has; redirects are not followed")
        self.stop(f"refuses: {failure} {words}".rstrip(), "check the url and the model")

    def _words(self, answer: httpx2.Response) -> tuple[str, str]:
        """(code, message) of a refusal, as far as it can be read; what looks like the key is blotted out."""
        body = b""
        with suppress(httpx2.HTTPError, _Miss):
            body = b"".join(_limited(answer.iter_bytes(), ERROR_BYTES_MAX, self.limits.whole_s))
        try:
            told = json.loads(body)
            error = told.get("error", told)
            code, message = str(error.get("code")), str(error.get("message", ""))
        except (ValueError, AttributeError, RecursionError):
            code, message = "", body.decode("utf-8", "replace")
        message = message.replace(self.key, "***") if self.key else message
        printable = "".join(char if char.isprintable() else " " for char in message)
        return code, " ".join(printable.split())[:ERROR_CHARS_MAX]

    def _pause(self, number: int, wait_s: float | None) -> None:
        """Full jitter, min(cap, base · 2ᵏ) · U[0, 1); what the server asks for holds for everybody."""
        if wait_s is None:
            return self._rest(min(self.limits.wait_max_s, self.limits.wait_s * 2**number) * self.draw())
        if wait_s > RETRY_AFTER_MAX_S:
            self.stop(f"asks for a pause of {wait_s:.0f} s", "the finished shards are kept; run again later")
        with self._lock:
            self._resume_at_s = max(self._resume_at_s, time.monotonic() + wait_s)
        return None

    def _wait_for_gate(self) -> None:
        if (left_s := self._resume_at_s - time.monotonic()) > 0:
            self._rest(left_s + self.limits.wait_s * self.draw())
        self._raise_if_over()

    def _rest(self, seconds: float) -> None:
        (self.sleep or self._over.wait)(seconds)
        self._raise_if_over()

    def _raise_if_over(self) -> None:
        if self._over.is_set():
            raise self._error or ExpertError("the expert was closed", where=self.url)

    def _count(self, outcome: dict[str, Any] | Failure, n_tries: int, seconds: float) -> None:
        """Counts, and breaks the circuit: a server that is gone, or fails `breaker_at` requests in a row, is left."""
        failed = isinstance(outcome, Failure)
        with self._lock:
            self._usage.n_requests += 1
            self._usage.n_failures += failed
            self._usage.seconds += seconds
            self._failed_in_a_row = self._failed_in_a_row + 1 if failed else 0
            n_failed = self._failed_in_a_row
        if not isinstance(outcome, Failure):
            return
        why = f"{outcome.error_class}: {outcome.message} {outcome.raw}".rstrip()
        if outcome.error_class == "no_connection":
            self.stop(f"cannot be reached, tried {n_tries} times ({outcome.message})", "start it, or check the url")
        if n_failed >= self.limits.breaker_at:
            self.stop(f"failed {n_failed} requests in a row, the last with {why}", "mend it; finished shards are kept")


def _limited(pieces: Iterable[bytes], bytes_max: int, whole_s: float) -> Iterator[bytes]:
    """The pieces, until they are too many bytes or take too long."""
    n_bytes, until_s = 0, time.monotonic() + whole_s
    for piece in pieces:
        n_bytes += len(piece)
        if n_bytes > bytes_max:
            raise _Miss(Failure("oversized", f"the reply is larger than {bytes_max} bytes"), may_pass=False)
        if time.monotonic() > until_s:
            raise _Miss(Failure("timeout", "the server did not finish in time"), may_pass=True)
        yield piece
