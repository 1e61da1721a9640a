"""A Hub of one's own: data sets served from folders the way huggingface.co serves them, as far as fetching needs it.

Point clients at it by the environment variables of `client_environment`, before they import huggingface_hub.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
API = re.compile(
    r"/api/datasets/(?P<repo>[^/]+/[^/]+)(?:/(?P<what>revision|tree|paths-info)/(?P<rev>[^/]+)(?P<rest>.*))?"
)
FILE = re.compile(r"/datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")


class FakeHub(ThreadingHTTPServer):
    """`root` has a folder owner/name per data set; `served` lists files given out; `refused` get a 403."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.served: list[str] = []
        self.refused: set[str] = set()

    def environment(self, home: Path) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.server_address[1]}"
        quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return quiet | {"HF_ENDPOINT": url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


class Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := FILE.fullmatch(path):
            self._file(self.server.root / found["repo"] / found["path"], found["rev"])
        elif found := API.fullmatch(path):
            folder = self.server.root / found["repo"]
            if not folder.is_dir() or found["rev"] not in (None, "main", COMMIT):
                self._say(404, {"error": "not found"}, {"X-Error-Code": self._missing(folder)})
            elif found["what"] == "tree":
                self._say(200, [one for one in entries(folder) if one["path"].startswith(found["rest"].strip("/"))])
            elif found["what"] == "paths-info":
                self._say(200, self._paths_info(folder))
            else:
                files = [{"rfilename": one["path"]} for one in entries(folder) if one["type"] == "file"]
                self._say(200, {"id": found["repo"], "sha": COMMIT, "siblings": files, "tags": [], "private": False})
        else:
            self._say(404, {"error": "not found"}, {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_POST = do_GET

    def _missing(self, folder: Path) -> str:
        return "RevisionNotFound" if folder.is_dir() else "RepoNotFound"

    def _paths_info(self, folder: Path) -> list[dict]:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "json" in self.headers.get("Content-Type", ""):
            asked = json.loads(body)["paths"]
        else:
            asked = [unquote(pair.partition("=")[2].replace("+", " ")) for pair in body.decode().split("&")]
        return [one for one in entries(folder) if one["path"] in asked]

    def _file(self, path: Path, revision: str) -> None:
        if not path.is_file() or revision not in ("main", COMMIT):
            return self._say(404, {"error": "not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        name = path.relative_to(self.server.root).as_posix()
        if name in self.server.refused:
            return self._say(403, {"error": "not now"}, {})
        data = path.read_bytes()
        headers = {"ETag": f'"{blob(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        status, part = 200, data
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
            status, part = 206, data[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        if self.command == "GET":
            self.server.served.append(name)
        return self._say(status, part, headers)

    def _say(self, status: int, body: object, headers: dict | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (
            {"Content-Type": "application/json", "Content-Length": len(data)} | (headers or {})
        ).items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def entries(folder: Path) -> list[dict]:
    """Every file and folder of a data set, as the Hub lists a tree."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            found.append({"type": "directory", "path": name, "size": 0, "oid": "0" * 40})
        else:
            data = path.read_bytes()
            found.append({"type": "file", "path": name, "size": len(data), "oid": blob(data)})
    return found


@contextmanager
def running(root: Path) -> Iterator[FakeHub]:
    hub = FakeHub(root)
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
