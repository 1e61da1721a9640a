"""A real S3 server on loopback, moto's, behind a gate that makes conditional puts atomic and misbehaves on demand.

Moto looks first and puts then, in threads; S3 does both at once, and so does the gate.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from schemas import storage

Answer = Iterable[bytes]
CODES = {403: "AccessDenied", 409: "ConditionalRequestConflict", 412: "PreconditionFailed", 503: "SlowDown"}


@dataclass
class S3Server:
    """`fails` is asked with method and path before anything is done: a status, or None for nothing wrong."""

    url: str = ""
    fails: Callable[[str, str], int | None] = lambda method, path: None
    ignores_conditions: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    _put: Any = field(default_factory=threading.Lock)
    _moto: Any = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Answer:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked.append((method, path))
        if (status := self.fails(method, path)) is not None:
            return _refused(status, start_response)
        if self.ignores_conditions:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if "HTTP_IF_NONE_MATCH" in environ:
            with self._put:
                return list(self._moto(environ, start_response))
        return self._moto(environ, start_response)

    def environ(self, cache: Path) -> dict[str, str]:
        """Of a machine with its own mirror; one attempt is enough on loopback."""
        keys = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "a-secret-of-somebody"}
        how = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1", "AWS_DEFAULT_REGION": "us-east-1"}
        nothing = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        return {**keys, **how, **nothing, "AWS_ENDPOINT_URL": self.url, "FOVEA_CACHE": str(cache)}


def _refused(status: int, start_response: Any) -> Answer:
    code = CODES[status]
    start_response(f"{status} {code}", [("Content-Type", "application/xml")])
    return [f"<Error><Code>{code}</Code><Message>it was told so</Message></Error>".encode()]


class _Quiet(MotoRequestHandler):
    def log_request(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[S3Server]:
    app = S3Server()
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    app.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield app
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def on_machine(server: S3Server, cache: Path, **environ: str | None) -> Iterator[None]:
    """This process has the credentials of the server, and its mirrors in `cache`; None takes a variable away."""
    is_other = bool(environ) or os.environ.get("AWS_ENDPOINT_URL") != server.url
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (server.environ(cache) | environ).items():
            patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
        _forget(is_other)
        yield
    _forget(is_other)


def _forget(is_other: bool) -> None:
    """The client of another server, or of other credentials."""
    if is_other:
        storage._opened.cache_clear()
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def objects(url: str) -> dict[str, bytes]:
    """All that is at a URL, by its name there."""
    files = fsspec.filesystem("s3", use_listings_cache=False)
    start = len(url.removeprefix("s3://")) + 1
    return {name[start:]: files.cat_file(name) for name in files.find(url)}


def put_object(url: str, data: bytes) -> None:
    fsspec.filesystem("s3", use_listings_cache=False).pipe_file(url, data)


def make_bucket(name: str) -> str:
    fsspec.filesystem("s3", use_listings_cache=False).mkdir(name)
    return f"s3://{name}"
