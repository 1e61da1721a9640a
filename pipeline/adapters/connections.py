"""One POST to one server over kept connections: its reply in full, or why there is none.

Nothing here asks twice, follows a redirect, judges a status, or knows what is sent. urllib3, because a request costs
this machine a third of what it does with httpx2, and an expert at work sends hundreds in a second.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ssl import SSLCertVerificationError
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

import httpx2
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    LocationValueError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from pipeline.adapters.hosts import is_this_machine
from schemas.errors import UsageError
from schemas.experts import Failure

REPLY_BYTES_MAX = 4 << 20
REFUSAL_BYTES_MAX = 1 << 16  # of a refusal no more is read
PIECE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Reply:
    """`headers` by any spelling of their names; `body` of a refusal as far as it could be read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class NoReply(Exception):
    """One try that gave no answer; `may_pass`: the next one may."""

    def __init__(self, failure: Failure, *, may_pass: bool, wait_s: float | None = None) -> None:
        super().__init__(failure.message)
        self.failure, self.may_pass, self.wait_s = failure, may_pass, wait_s


class Connections:
    """At most `n` of them, shared by threads; who finds all taken waits. `read_s`: of each wait for a byte."""

    def __init__(self, url: str, headers: Mapping[str, str], n: int, connect_s: float, read_s: float) -> None:
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
        self._timeout = urllib3.Timeout(connect=connect_s, read=read_s)
        how = {"num_pools": 1, "maxsize": n, "block": True, "retries": False}
        if url.startswith("https"):
            how["ssl_context"] = httpx2.create_ssl_context()  # the authorities that all of fovea trusts
        self._manager = _through(_proxy_of(url), **how)

    def post(self, url: str, content: bytes, whole_s: float) -> Reply:
        """NoReply for a reply that does not come, is cut off, too large, or not there after `whole_s`."""
        try:
            answer = self._manager.urlopen(
                "POST",
                url,
                body=content,
                headers=self._headers,
                timeout=self._timeout,
                redirect=False,
                preload_content=False,
            )
            try:
                return _whole(answer, time.monotonic() + whole_s)
            except BaseException:
                answer.close()  # what is left of it cannot be told from the next reply
                raise
            finally:
                answer.release_conn()
        except (NewConnectionError, ConnectTimeoutError, ProxyError) as error:
            raise NoReply(Failure("no_connection", type(error).__name__), may_pass=True) from error
        except ReadTimeoutError as error:
            raise NoReply(Failure("timeout", "the server did not answer in time"), may_pass=True) from error
        except DecodeError as error:
            raise NoReply(Failure("malformed_json", "the reply cannot be decoded"), may_pass=False) from error
        except HTTPError as error:
            if isinstance(error, SSLError) and isinstance(error.args[0], SSLCertVerificationError):
                raise NoReply(Failure("no_connection", "its certificate is not trusted"), may_pass=False) from error
            raise NoReply(Failure("cut_connection", "the server hung up"), may_pass=True) from error

    def close(self) -> None:
        """Hang up where nobody waits for an answer."""
        self._manager.clear()


def _whole(answer: urllib3.BaseHTTPResponse, until_s: float) -> Reply:
    """A refusal is one even where its words cannot be read."""
    is_success, body = 200 <= answer.status < 300, b""
    try:
        body = b"".join(_pieces(answer, REPLY_BYTES_MAX if is_success else REFUSAL_BYTES_MAX, until_s))
    except (HTTPError, NoReply):
        if is_success:
            raise
        answer.close()
    return Reply(answer.status, answer.headers, body)


def _pieces(answer: urllib3.BaseHTTPResponse, bytes_max: int, until_s: float) -> Iterator[bytes]:
    n_bytes = 0
    while piece := answer.read1(PIECE_BYTES):
        n_bytes += len(piece)
        if n_bytes > bytes_max:
            raise NoReply(Failure("oversized", f"the reply is larger than {bytes_max} bytes"), may_pass=False)
        if time.monotonic() > until_s:
            raise NoReply(Failure("timeout", "the server did not finish in time"), may_pass=True)
        yield piece


def _proxy_of(url: str) -> str | None:
    """What the environment names for this address; never for this machine: what stays here may be restricted."""
    address = httpx2.URL(url)
    if is_this_machine(address.host) or proxy_bypass(address.host):
        return None
    proxies = getproxies()
    return proxies.get(address.scheme) or proxies.get("all")


def _through(proxy: str | None, **how: object) -> urllib3.PoolManager:
    if proxy is None:
        return urllib3.PoolManager(**how)
    try:
        name = urllib3.util.parse_url(proxy).auth
        headers = urllib3.make_headers(proxy_basic_auth=unquote(name)) if name else None
        return urllib3.ProxyManager(proxy, proxy_headers=headers, **how)
    except (LocationValueError, ValueError) as error:  # it may hold a password
        raise UsageError("the proxy that the environment names is no http or https address") from error
