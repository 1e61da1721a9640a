"""JSON over HTTP to a remote expert or judge: asked until it answers or plainly will not, by many threads at once.

What concerns one request (a refusal of its body, a timeout, a lost connection after all tries) comes back as a
`Failure`. What would fail every request (no server, a refused key, a redirect, an unknown path or model, too many
failures in a row) is an `ExpertError` for all threads: nothing is recorded for the questions in flight, so that a rerun
asks them again. It knows no protocol above JSON, follows no redirect, tells nobody the key, and looks at no wall clock.
"""

import json
import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from pipeline.adapters.addresses import EXPERT, Role, checked_address, retry_after_s
from pipeline.adapters.connections import Connections, NoReply, Reply
from pipeline.adapters.crew import Crew
from schemas.errors import ExpertError
from schemas.experts import Failure

A = TypeVar("A")
B = TypeVar("B")

ERROR_CHARS_MAX = 300  # of a refusal are repeated
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
    """What requests have cost; belongs in work/, never in a row."""

    n_requests: int = 0
    n_tries: int = 0
    n_failures: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0  # summed over requests, waits included


@dataclass
class Endpoint:
    """One server, asked by all threads of a worker: never more than `concurrency` requests in flight together."""

    url: str
    key: str | None = field(repr=False)
    limits: Limits = field(default_factory=Limits)
    sleep: Callable[[float], object] | None = field(default=None, repr=False)
    draw: Callable[[], float] = field(default=random.random, repr=False)  # jitter: it changes no answer
    role: Role = EXPERT

    def __post_init__(self) -> None:
        self.url = str(checked_address(self.url, self.role)).rstrip("/")
        headers, n = {"Authorization": f"Bearer {self.key}"} if self.key else {}, self.limits.concurrency
        self._connections = Connections(self.url, headers, n, self.limits.connect_s, self.limits.read_s)
        self._crew, self._payer = Crew(n), threading.local()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._error: BaseException | None = None
        self._resume_at_s, self._failed_in_a_row, self._failed_at_s = 0.0, 0, -math.inf

    def each(self, work: Callable[[A], B], items: Sequence[A]) -> list[B]:
        """`work` on every item by many threads, at the cost of this one; the first error ends all that is asked."""
        usage = self._usage

        def paid(item: A) -> B:
            self._payer.usage = usage
            return work(item)

        try:
            return self._crew.in_order(paid, items)
        except BaseException as error:
            if isinstance(error, Exception):
                self._error = self._error or error
            self.close()
            raise

    def post(self, path: str, body: Mapping[str, Any] | bytes) -> dict[str, Any] | Failure:
        """The JSON object the server answers with, or why this request has none; ExpertError when none would have.

        `body` may be JSON already.
        """
        content = body if isinstance(body, bytes) else json.dumps(body).encode()  # ASCII: any text can be sent
        started_s = sent_s = time.monotonic()
        outcome: dict[str, Any] | Failure = Failure("no_answer", "never asked")
        for number in range(self.limits.tries):
            sent_s = time.monotonic()
            try:
                outcome = self._once(path, content)
                break
            except NoReply as miss:
                outcome = miss.failure
                if not miss.may_pass:
                    break
                if number + 1 < self.limits.tries:
                    self._pause(number, miss.wait_s)
        self._count(outcome, number + 1, started_s, sent_s)
        return outcome

    @property
    def is_in_doubt(self) -> bool:
        """Whether nothing sent after the last failure has succeeded: its body or the server may be to blame."""
        return self._failed_at_s > -math.inf

    def spent(self, tokens_in: int, tokens_out: int) -> None:
        with self._lock:
            self._usage.tokens_in += tokens_in
            self._usage.tokens_out += tokens_out

    def take_usage(self) -> Usage:
        """What the calling thread has used since it last took it."""
        with self._lock:
            taken, self._payer.usage = self._usage, Usage()
        return taken

    @property
    def _usage(self) -> Usage:
        """Of the thread that pays for what this one does."""
        if not hasattr(self._payer, "usage"):
            self._payer.usage = Usage()
        usage: Usage = self._payer.usage
        return usage

    def stop(self, what: str, fix: str) -> NoReturn:
        """End every request of every thread with one error."""
        with self._lock:
            error = ExpertError(f"the {self.role.name} {what}", where=self.url, fix=f"{fix}; {self.role.kept}")
            error = self._error = self._error or error
        self._over.set()
        raise error

    def close(self) -> None:
        """Nothing can be asked any more, and nobody waits any longer for what is in flight."""
        self._over.set()
        self._crew.stop(self._ended())
        self._connections.close()

    def _once(self, path: str, content: bytes) -> dict[str, Any]:
        self._wait_for_gate()
        with self._lock:
            self._usage.n_tries += 1
        reply = self._connections.post(f"{self.url}/{path}", content, self.limits.whole_s)
        if not reply.is_success:
            self._refused(reply)
        return self._parsed(reply.body)

    def _parsed(self, text: bytes) -> dict[str, Any]:
        if self.key:
            text = text.replace(self.key.encode(), b"***")  # a server may repeat what it was sent
        with suppress(ValueError, RecursionError):
            if isinstance(parsed := json.loads(text), dict):
                return parsed
        raise NoReply(Failure("malformed_json", "the reply is no JSON object"), may_pass=False)

    def _refused(self, reply: Reply) -> NoReturn:
        status, failure = reply.status, f"status {reply.status}"
        code, words = self._words(reply.body)
        if code in NEVER_BUSY:
            self.stop(f"has no credit left: {failure}", "run again when it has")
        if status in MAY_PASS or status >= 500:
            wait_s = retry_after_s(reply.headers.get("Retry-After", ""), reply.headers.get("Date", ""))
            raise NoReply(Failure("http_status", failure, words), may_pass=True, wait_s=wait_s)
        if status in FOR_THIS_BODY:
            raise NoReply(Failure("http_status", failure, words), may_pass=False)
        if status in (401, 403):  # such refusals may quote the key
            only = "OPENAI_API_KEY is sent to api.openai.com alone"
            self.stop(f"refuses the key: {failure}", f"set {self.role.key}; {only}")
        if 300 <= status < 400 and "Location" in reply.headers:
            self.stop(f"points elsewhere: {failure}", "give the url it really has; redirects are not followed")
        self.stop(f"refuses: {failure} {words}".rstrip(), "check the url and the model")

    def _words(self, body: bytes) -> tuple[str, str]:
        """(code, message) of a refusal, as far as it can be read; what looks like the key is blotted out."""
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
            self.stop(f"asks for a pause of {wait_s:.0f} s", "run again later")
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
            raise self._ended()

    def _ended(self) -> BaseException:
        return self._error or ExpertError(f"the {self.role.name} was closed", where=self.url)

    def _count(self, outcome: dict[str, Any] | Failure, n_tries: int, started_s: float, sent_s: float) -> None:
        """Counts, and breaks the circuit: a server that is gone, or fails `breaker_at` requests in a row, is left."""
        failed, now_s = isinstance(outcome, Failure), time.monotonic()
        with self._lock:
            self._usage.n_requests += 1
            self._usage.n_failures += failed
            self._usage.seconds += now_s - started_s
            self._failed_in_a_row = n_failed = self._failed_in_a_row + 1 if failed else 0
            if failed:
                self._failed_at_s = now_s
            elif sent_s >= self._failed_at_s:  # an answer to what was sent before says nothing about the server now
                self._failed_at_s = -math.inf
        if not isinstance(outcome, Failure):
            return
        why = f"{outcome.error_class}: {outcome.message} {outcome.raw}".rstrip()
        if outcome.error_class == "no_connection":
            self.stop(f"cannot be reached, tried {n_tries} times ({outcome.message})", "start it, or check the url")
        if n_failed >= self.limits.breaker_at:
            self.stop(f"failed {n_failed} requests in a row, the last with {why}", "mend it")
