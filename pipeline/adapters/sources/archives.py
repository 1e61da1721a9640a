"""A zip file from somewhere else, unpacked into a new folder: all of it or nothing.

Refused before a byte is written: entries that would leave the folder, links and devices, two entries of one name,
encrypted ones, more entries or bytes than any data set here has, a size that no compression of pictures explains, and
a disk too small for it. `__MACOSX/` is left out.
"""

import lzma
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from schemas.errors import InputError

COPY_BYTES = 1 << 20
BROKEN = (  # what zipfile raises on damage, and on compression or encryption that it does not know
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True)
class Limits:
    entries: int = 2_000_000
    bytes: int = 1 << 40
    ratio: float = 50.0  # unpacked over packed, of the whole; pictures give about 1, JSON about 10
    ratio_from_bytes: int = 256 << 20  # smaller ones harm nobody, whatever their ratio


LIMITS = Limits()


def unpack(archive: Path, folder: Path, wrappers: Sequence[str] = (), limits: Limits = LIMITS) -> int:
    """Unpack into `folder`, which appears only when it is complete; the number of files.

    While every entry lies in one outer folder whose name is in `wrappers`, that folder is left out.
    """
    fresh = folder.with_name(f"{folder.name}.unpacking")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            entries = [entry for entry in file.infolist() if not entry.filename.startswith("__MACOSX/")]
            paths = _without_wrappers([_checked(entry, archive) for entry in entries], wrappers)
            _check_whole(archive, entries, paths, folder.parent, limits)
            fresh.mkdir(parents=True)
            wanted = [(entry, fresh / path) for entry, path in zip(entries, paths, strict=True) if not entry.is_dir()]
            for entry, path in wanted:
                path.parent.mkdir(parents=True, exist_ok=True)
                with file.open(entry) as packed, path.open("xb") as plain:
                    shutil.copyfileobj(packed, plain, COPY_BYTES)
        os.rename(fresh, folder)
    except BROKEN as error:
        shutil.rmtree(fresh, ignore_errors=True)
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"cannot be unpacked: {what}", where=archive, fix="fetch the archive again") from error
    return len(wanted)


def _checked(entry: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    """The path of an entry, if it is a plain file or a folder that stays where it is put."""
    path = PurePosixPath(entry.filename)
    mode = stat.S_IFMT(entry.external_attr >> 16)
    problem = (
        "leaves its folder"
        if path.is_absolute() or ".." in path.parts or "\0" in entry.orig_filename or not path.parts
        else "has a path of another system"
        if "\\" in entry.orig_filename or re.match("[A-Za-z]:", entry.orig_filename)
        else "is a link or a device"
        if mode not in (0, stat.S_IFREG, stat.S_IFDIR)
        else "is encrypted"
        if entry.flag_bits & 1
        else None
    )
    if problem:
        raise InputError(f"entry {entry.filename!r:.120} {problem}", where=archive, fix="do not use this archive")
    return path


def _without_wrappers(paths: list[PurePosixPath], wrappers: Sequence[str]) -> list[PurePosixPath]:
    while paths and len(outer := {path.parts[0] for path in paths if path.parts}) == 1 and outer <= set(wrappers):
        paths = [PurePosixPath(*path.parts[1:]) for path in paths]
    return paths


def _check_whole(
    archive: Path, entries: list[zipfile.ZipInfo], paths: list[PurePosixPath], target: Path, limits: Limits
) -> None:
    n_bytes, packed_bytes = sum(entry.file_size for entry in entries), max(1, archive.stat().st_size)
    twice = [str(path) for path, times in Counter(map(str, paths)).items() if times > 1 and path != "."]
    target.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(target).free
    if len(entries) > limits.entries or n_bytes > limits.bytes:
        what = f"{len(entries)} entries of {n_bytes} bytes are more than any data set here has"
    elif n_bytes > limits.ratio_from_bytes and n_bytes > limits.ratio * packed_bytes:
        what = f"{packed_bytes} bytes would become {n_bytes}: this is no archive of pictures"
    elif twice:
        what = f"{len(twice)} paths occur twice, such as {twice[0]!r:.120}"
    elif n_bytes > free_bytes:
        raise InputError(
            f"needs {n_bytes >> 20} MB, {free_bytes >> 20} MB are free", where=target, fix="make room, run again"
        )
    else:
        return
    raise InputError(what, where=archive, fix="do not use this archive")
