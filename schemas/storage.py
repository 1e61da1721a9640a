"""Where a store lies: a folder of this machine, or a URL with a private mirror here of what was read or written.

A file of a mirror counts only with the size and sha256 that a manifest or a record gives, and is fetched again
otherwise. What has no such witness, manifests and records themselves, is asked of the URL every time. So a mirror may
be deleted at any time, and never speaks for a store that was made anew under its old name. Nothing here is ever put
at a URL.
"""

import errno
import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from schemas.errors import DigestError, FoveaError, StoreError, UsageError

URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)  # one slash is left of two where it was taken for a path
SURROGATE = re.compile(r"[\ud800-\udfff]")
LOCAL = ("file", "local")
ALIASES = {"s3a": "s3", "gcs": "gs"}
PACKAGES = {"s3": "'fovea[s3]'", "gs": "gcsfs"}
OPTIONS = {"s3": {"max_concurrency": 1}}  # more, and it asks for every size before it reads
FETCHES = 8  # at once
MEND = "restore the file, or delete it and build its slice again"
OUR_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Known(Protocol):
    """A file whose bytes are known: a part of a manifest, a work file of a record, one whose name begins its sha256."""

    @property
    def path(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True)
class Folder:
    """`name` is a path, or a URL without final slash. On another machine the same URL has another mirror."""

    name: str

    @classmethod
    def of(cls, where: "str | Path | Folder") -> "Folder":
        """UsageError for what no store can be at. Credentials are never part of a URL: it ends up in messages."""
        if isinstance(where, cls):
            return where
        text = os.fspath(where)
        if SURROGATE.search(text):  # Arrow and duckdb know only paths that are text
            raise UsageError(f"a store cannot be at {text!a}", fix="give it a name in UTF-8")
        if (found := URL.fullmatch(text)) is None:
            return cls(text)
        scheme, path = ALIASES.get(found[1], found[1]), re.sub("/+", "/", found[2]).rstrip("/")
        if scheme in LOCAL:
            return cls(f"/{path}")
        if "@" in path.partition("/")[0]:
            fix = "leave them to the environment, as the tools of the storage do: AWS_PROFILE, AWS_ACCESS_KEY_ID, …"
            raise UsageError(f"the {scheme}:// URL of a store has no place for credentials", fix=fix)
        if not path or "?" in path or "#" in path:
            raise UsageError(f"a store cannot be at {text!a}", fix=f"{scheme}://BUCKET/PATH")
        return cls(f"{scheme}://{path}")

    @property
    def url(self) -> str | None:
        return self.name if URL.fullmatch(self.name) else None

    @property
    def root(self) -> Path:
        """The store itself, or its mirror."""
        if self.url is None:
            return Path(self.name)
        return _cache() / "stores" / hashlib.sha256(self.url.encode()).hexdigest()[:32]

    def at(self, name: str) -> Path | str:
        """Where a file of the store is, for messages."""
        return self.root / name if self.url is None else f"{self.url}/{name}"

    def names(self, folder: str) -> list[str]:
        """Names of what is directly in a folder of the store, in no order."""
        if self.url is None:
            return [path.name for path in (self.root / folder).glob("*")]
        rest = (name.removeprefix(f"{folder}/") for name in self.listed(f"{folder}/"))
        return [name for name in rest if name and "/" not in name]

    def read(self, name: str) -> bytes:
        """A small file; FileNotFoundError when it is not there."""
        if self.url is None:
            return (self.root / name).read_bytes()
        with self.asking(name) as (files, key):
            return files.cat_file(key)

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Small files, of those that are there."""
        found: dict[str, bytes] = {}

        def read(name: str) -> None:
            with suppress(FileNotFoundError):
                found[name] = self.read(name)

        with ThreadPoolExecutor(1 if self.url is None else FETCHES) as pool:
            list(pool.map(read, names))
        return found

    def fetch(self, file: Known, *, anew: bool = False) -> Path:
        """Local path of a file. Behind it, with a URL, are the bytes as known, or it is a DigestError.

        The file of a local store is not looked at. `anew`: what the mirror has counts nothing.
        """
        path = self.root / file.path
        if self.url is None:
            return path
        if not _is_inside(file.path):  # who wrote the manifest does not choose what is written here
            raise StoreError(f"a file is said to be at {file.path!a}, outside of the store", where=self)
        if not anew and is_whole(path, file):
            return path
        with temporary(self) as fresh:
            try:
                with self.asking(file.path) as (files, key):
                    files.get_file(key, str(fresh))
            except FileNotFoundError:
                raise DigestError("the file is missing", where=self.at(file.path), fix=MEND) from None
            if wrong := difference(fresh, file):
                raise DigestError(wrong, where=self.at(file.path), fix=MEND)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(fresh, path)
        return path

    def fetch_all(self, files: Iterable[Known]) -> None:
        """See that they are here, several at a time."""
        if self.url is not None:
            with ThreadPoolExecutor(FETCHES) as pool:
                list(pool.map(self.fetch, files))

    def has(self, files: Iterable[Known]) -> bool:
        """Whether all are in the store with their sizes; with a URL that is one question."""
        sizes = {file.path: file.bytes for file in files}
        if self.url is None:
            return all(_size(self.root / name) == size for name, size in sizes.items())
        listed = self.listed(os.path.commonprefix(list(sizes))) if sizes else {}  # noqa: RUF071 (characters are meant)
        return all(name in listed and listed[name]["size"] == size for name, size in sizes.items())

    def listed(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Of a URL: what the storage tells of each file whose name begins so; names no path can have are left out."""
        folder, _, stem = prefix.rpartition("/")
        try:
            with self.asking(folder) as (files, key):
                found = files.find(key, prefix=stem, detail=True) if stem else files.find(key, detail=True)
        except FileNotFoundError:
            return {}
        start = len(key) - len(folder)
        there = {name[start:]: about for name, about in found.items() if about["type"] == "file"}
        return {name: about for name, about in there.items() if _is_inside(name)}

    @contextmanager
    def asking(self, name: str) -> Iterator[tuple[Any, str]]:
        """The fsspec file system behind a URL, and a file's path there; for one call.

        Its errors become ours, except that a file is or is not there, and what is wrong with the disk of this machine.
        """
        try:
            files, path = _opened(self.name)
            yield files, f"{path}/{name}"
        except (FoveaError, FileExistsError):
            raise
        except Exception as error:  # each library has its own
            if isinstance(error, FileNotFoundError) and code_of(error) != "NoSuchBucket":
                raise
            if isinstance(error, OSError) and (error.filename is not None or error.errno in OUR_DISK):
                raise
            what, fix = _explained(error)
            raise StoreError(what, where=self.at(name), fix=fix) from error

    def __str__(self) -> str:
        return self.name


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return path.as_posix() == name != "." and not path.is_absolute() and ".." not in path.parts


def _cache() -> Path:
    try:
        return Path(os.environ.get("FOVEA_CACHE") or Path.home() / ".cache" / "fovea").absolute()
    except RuntimeError as error:
        raise UsageError(f"nowhere to keep a mirror: {error}", fix="set FOVEA_CACHE to a folder") from error


@lru_cache
def _opened(url: str) -> tuple[Any, str]:
    """File system and path there. Without a cache of listings: the newest version is whatever is there now."""
    import fsspec

    scheme = url.partition(":")[0]
    try:
        return fsspec.url_to_fs(url, use_listings_cache=False, **OPTIONS.get(scheme, {}))
    except ImportError as error:
        fix = f"pip install {PACKAGES[scheme]}" if scheme in PACKAGES else None
        raise UsageError(f"{scheme}:// needs another package: {error}", fix=fix) from error
    except ValueError as error:
        raise UsageError(f"no storage is known as {scheme}://", fix="a folder, s3://BUCKET/PATH or gs://…") from error


def code_of(error: BaseException) -> str:
    """What an S3 server calls an error."""
    return str(getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", ""))


def _explained(error: Exception) -> tuple[str, str]:
    said = re.sub(r"//[^/@\s]*@", "//***@", " ".join(str(error).split()))[:300]  # an endpoint may hold a password
    if code_of(error) == "NoSuchBucket":
        return "there is no such bucket", "make it first; for storage that is not AWS, set AWS_ENDPOINT_URL"
    if isinstance(error, PermissionError):
        return f"access denied: {said}", "look whose credentials are in use, and at their rights to list, get and put"
    if "credentials" in said.lower() or "credential" in type(error).__name__.lower():
        return f"no credentials: {said}", "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    return f"the storage does not answer as it should: {said}", "look at network and endpoint, and run it again"


def is_whole(path: Path, file: Known) -> bool:
    return _size(path) is not None and difference(path, file) is None


def difference(path: Path, file: Known) -> str | None:
    """What is wrong with the bytes behind a path; hashed once for as long as it is not written again."""
    stat = path.stat()
    if stat.st_size != file.bytes:
        return f"the file has {stat.st_size} bytes, the manifest says {file.bytes}"
    digest = _sha256_once(path, stat.st_size, stat.st_mtime_ns)
    if len(file.sha256) < 12 or not digest.startswith(file.sha256):
        return f"the bytes have sha256 {digest[:12]}…, the manifest says {file.sha256[:12]}…"
    return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


@lru_cache(maxsize=100_000)
def _sha256_once(path: Path, size: int, mtime_ns: int) -> str:
    return sha256_file(path)


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def temporary(where: Folder | Path) -> Iterator[Path]:
    """A path in `work/tmp/` that is gone afterwards, whatever happened, unless it was renamed."""
    folder = Folder.of(where)
    fix = "look at free space and permissions"
    path = folder.root / "work" / "tmp" / f"{os.getpid()}-{uuid.uuid4().hex}"
    try:
        if folder.url is not None:
            fix += " of the mirror; FOVEA_CACHE names another place for it"
            folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)  # what is restricted there stays so here
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        raise StoreError(what, where=error.filename or folder.root, fix=fix) from error
    finally:
        with suppress(OSError):
            path.unlink()
