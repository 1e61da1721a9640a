"""How old the files of a store are, which decides what may be removed: a builder writes before it commits.

On this machine a file is as old as its last change of bytes or name. At a URL it is as old as the storage says, and by
the storage's clock wherever something is to be deleted: this machine's may be wrong.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.adapters import remote
from pipeline.adapters.files import remove
from schemas.errors import StoreError
from schemas.storage import Folder, temporary

Clock = Callable[[], float]  # s since 1970
AT_ONCE = 8  # questions to a storage


@dataclass(frozen=True, slots=True)
class Aged:
    """`path` is relative to the store."""

    path: str
    bytes: int
    age_s: float


class Ages(Protocol):
    def below(self, folder: str) -> Iterator[Aged]:
        """All files below a folder of the store."""

    def age_s(self, path: str) -> float:
        """Of one file, now; negative when it is gone."""


def ages_of(folder: Folder, *, is_exact: bool) -> Ages:
    """`is_exact`, where something is to be deleted: disk or storage is asked its time, by a file put for a moment."""
    if folder.url is None:
        return _OfDisk(folder.root, _going_on(_disk_clock_s(folder)) if is_exact else time.time)
    return _OfUrl(folder, _going_on(_clock_s(folder)) if is_exact else time.time)


def _going_on(now_s: float) -> Clock:
    """A clock that shows `now_s` and does not jump from there."""
    start_s = time.monotonic()
    return lambda: now_s + time.monotonic() - start_s


def trim_mirror(folder: Folder, grace_s: float) -> None:
    """Drop what the mirror of a URL has of files that are gone there, and what killed processes left in it."""
    if folder.url is None:
        return
    there = folder.listed("data/").keys() | folder.listed("work/").keys()
    mirror = _OfDisk(folder.root, time.time)
    for one in [*mirror.below("data"), *mirror.below("work")]:
        is_fetched = one.path.startswith("work/hub/")  # from elsewhere, and kept here alone
        if one.path not in there and not is_fetched and one.age_s >= grace_s:
            remove(folder.root, folder.root / one.path)


@dataclass(frozen=True, slots=True)
class _OfDisk:
    root: Path
    now: Clock

    def below(self, folder: str) -> Iterator[Aged]:
        for where, _, names in os.walk(self.root / folder):
            for name in names:
                path = Path(where, name)
                try:
                    yield Aged(path.relative_to(self.root).as_posix(), path.lstat().st_size, self.age_s(str(path)))
                except FileNotFoundError:  # renamed or removed by a builder since it was listed
                    continue

    def age_s(self, path: str) -> float:
        try:
            stat = (self.root / path).lstat()
        except FileNotFoundError:
            return -1.0
        return self.now() - max(stat.st_mtime, stat.st_ctime)


@dataclass(frozen=True, slots=True)
class _OfUrl:
    folder: Folder
    now: Clock

    def below(self, folder: str) -> Iterator[Aged]:
        for name, about in self.folder.listed(f"{folder}/").items():
            yield Aged(name, about["size"], self._age_s(about))

    def age_s(self, path: str) -> float:
        about = _about(self.folder, path)
        return -1.0 if about is None else self._age_s(about)

    def _age_s(self, about: dict[str, Any]) -> float:
        return self.now() - _written_s(about)


def _about(folder: Folder, name: str) -> dict[str, Any] | None:
    try:
        with folder.asking(name) as (files, key):
            return files.info(key)
    except FileNotFoundError:
        return None


def _written_s(about: dict[str, Any]) -> float:
    """`LastModified` of S3, `mtime` of GCS."""
    return (about.get("LastModified") or about["mtime"]).timestamp()


def _disk_clock_s(folder: Folder) -> float:
    """The time by which files of a local store are dated: a file server has its own."""
    with temporary(folder) as fresh:
        fresh.touch()
        return fresh.stat().st_mtime


def _clock_s(folder: Folder) -> float:
    """The time at the storage, to its second: when something is said to be written that is put now."""
    name = f"work/tmp/clock-{uuid.uuid4().hex}"
    remote.refuse_unsafe(folder)
    remote.put(folder, name, b"")
    about = _about(folder, name)
    remote.remove(folder, name)
    if about is None:
        raise StoreError("a file is gone that was just put", where=folder.at(name))
    return _written_s(about)
