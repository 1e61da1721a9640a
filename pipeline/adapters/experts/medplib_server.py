"""A reference server for the `medplib` expert, to be run in MedPLIB's own environment, beside MedPLIB's own code.

    cd MedPLIB
    PYTHONPATH=/path/to/fovea python -m pipeline.adapters.experts.medplib_server --weights DIR --sam sam-med2d_b.pth

It prints the url and the revision that the expert has to be told. This layer and `medplib_service` are tested with a
stand-in for the model. The way to the real one, `medplib_model`, was written from MedPLIB's code and has NOT been run
with its weights. fovea itself never imports this file. It needs Python 3.10, numpy and Pillow, and nothing installed
of fovea.
"""

import argparse
import hashlib
import hmac
import io
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pipeline.adapters.experts.medplib_service import Service, error_body

REQUEST_BYTES_MAX = 64 << 20
REQUEST_S = 300.0  # in which a request has to be here
KEY = "FOVEA_EXPERT_API_KEY"  # where it is set, requests have to bear it


class Server(ThreadingHTTPServer):
    """Bears only requests with `key`, where there is one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], service: Service, key: str | None = None) -> None:
        self.service, self.key = service, key
        super().__init__(address, Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news; what else went wrong is told without a word of the request."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            print(f"a request ended with {type(error).__name__}", file=sys.stderr)


class _Hurried(socket.SocketIO):
    """What a client sends, as long as it comes by `until_s` of the monotonic clock and never stops for a minute."""

    until_s = 0.0

    def readinto(self, buffer: bytearray) -> int:
        left_s = self.until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(min(left_s, Handler.timeout))
        return super().readinto(buffer)


class Handler(BaseHTTPRequestHandler):
    """Nothing of a body is kept before the key that comes with it is known."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60.0  # of a client that stops
    server: Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._sent = _Hurried(self.connection, "rb")
        self.rfile = io.BufferedReader(self._sent)

    def handle_one_request(self) -> None:
        self._sent.until_s = time.monotonic() + REQUEST_S
        super().handle_one_request()

    def do_GET(self) -> None:
        if not self._is_known():
            return self._refuse(401, "the key is missing or another")
        return self._respond(b"") if self.path == "/v1/health" else self._refuse(405, "POST this")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            return self._refuse(411, "the request has to tell its length")
        if len(length) > 12 or int(length) > REQUEST_BYTES_MAX:
            return self._refuse(413, f"the request is larger than {REQUEST_BYTES_MAX} bytes")
        if not self._is_known():
            return self._refuse(401, "the key is missing or another")
        if self.headers.get_content_type() != "application/json":  # what a page in somebody's browser cannot send
            return self._refuse(415, "the request has to be application/json")
        return self._respond(self.rfile.read(int(length)))

    def _is_known(self) -> bool:
        borne, wanted = self.headers.get("Authorization", ""), f"Bearer {self.server.key}"
        return self.server.key is None or hmac.compare_digest(borne.encode(), wanted.encode())

    def _respond(self, content: bytes) -> None:
        prefix, _, name = self.path.rpartition("/")
        self._send(*self.server.service.respond(name if prefix == "/v1" else "", content))

    def _refuse(self, status: int, why: str) -> None:
        """Say why, then let the rest go: a client that finds the line cut while it sends would not read the reason."""
        self.close_connection = True
        self._send(status, error_body(why))
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while self.rfile.read1(1 << 16):
                pass

    def _send(self, status: int, data: bytes) -> None:
        self.connection.settimeout(self.timeout)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        with suppress(ConnectionError):  # who has waited enough hangs up
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing of a request is written anywhere."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="medplib_server", description="Serves MedPLIB to fovea's medplib expert.")
    parser.add_argument("--weights", type=Path, required=True, help="folder of the merged MedPLIB checkpoint")
    parser.add_argument("--sam", type=Path, required=True, help="sam-med2d_b.pth")
    parser.add_argument("--host", default="127.0.0.1", help=f"other machines: 0.0.0.0, with a key in {KEY}")
    parser.add_argument("--port", type=int, default=8010)
    told = parser.parse_args(arguments)
    key = os.environ.get(KEY, "").strip() or None
    if key is None and told.host not in ("127.0.0.1", "localhost"):
        parser.error(f"other machines could ask without a key: set {KEY}")

    from pipeline.adapters.experts.medplib_model import load

    found = dict(digests(told.weights, told.sam))
    service = Service(load(told.weights, told.sam), found)
    server = Server((told.host, told.port), service, key)
    print(f"url=http://{told.host}:{server.server_port}/v1 revision={service.revision}", flush=True)
    server.serve_forever()


def digests(weights: Path, sam: Path) -> Iterator[tuple[str, str]]:
    """(name in the model, sha256) of each file that it is loaded from, the same wherever the files lie.

    The config is one without the place of the vision tower, if the tower is here: that is a path of this machine.
    """
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    tower = config.get("mm_vision_tower")
    if tower and Path(tower).exists():
        config["mm_vision_tower"] = "here"
        yield from _digests("tower", Path(tower))
    yield "config", hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    yield from (each for each in _digests("model", weights) if each[0] != "model/config.json")
    yield from _digests("sam", sam)


def _digests(name: str, path: Path) -> Iterator[tuple[str, str]]:
    """Of a file, or of a folder's files but for hidden ones: those are notes of whatever has fetched it."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        inner = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in inner.parts):
            digest = hashlib.sha256()
            with file.open("rb") as opened:
                while block := opened.read(1 << 24):
                    digest.update(block)
            yield (Path(name) / inner).as_posix(), digest.hexdigest()


if __name__ == "__main__":
    main()
