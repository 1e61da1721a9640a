"""Writing to a store at a URL: nothing is put there unless the storage itself can say who was first.

A version is committed by one conditional put, so that of two builders exactly one wins. Only libraries that turn a
`create` into one such request are trusted with it, and a server is tried out before the first write: there are some
that take the condition and ignore it.
"""

import time
import uuid
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from schemas.errors import StoreError, UsageError
from schemas.storage import Folder, code_of

CONDITIONAL = {"s3": "If-None-Match", "gs": "ifGenerationMatch"}
LOST = ("PreconditionFailed", "412")
CONFLICT = ("ConditionalRequestConflict", "OperationAborted", "409")
WAITS_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
ELSEWHERE = "build in a local folder, and copy that"


@lru_cache
def refuse_unsafe(folder: Folder) -> None:
    """UsageError or StoreError unless, of two puts of one name, the second is certain to fail."""
    scheme = folder.name.partition(":")[0]
    if scheme not in CONDITIONAL:
        what = f"stores on {scheme}:// can be read but not written: nothing there says which of two builders was first"
        raise UsageError(what, where=folder, fix=f"s3:// or gs://; or {ELSEWHERE}")
    name = f"work/tmp/probe-{uuid.uuid4().hex}"
    create(folder, name, b"who is first?")
    is_ignored = create(folder, name, b"and who is second?")
    with suppress(StoreError):  # who may not delete may still build
        remove(folder, name)
    if is_ignored:
        what = f"this server ignores {CONDITIONAL[scheme]}: two builders would overwrite each other's versions"
        raise StoreError(what, where=folder, fix=f"update it or take another; or {ELSEWHERE}")


def create(folder: Folder, name: str, data: bytes) -> bool:
    """Put a file in one step; False, and nothing changed, when it exists already."""
    for wait_s in WAITS_S:
        if (is_first := _try_create(folder, name, data)) is not None:
            return is_first
        time.sleep(wait_s)
    raise StoreError("others have been putting this file all the time", where=folder.at(name), fix="run it again")


def _try_create(folder: Folder, name: str, data: bytes) -> bool | None:
    """None while another put is under way: nobody has won yet."""
    with folder.asking(name) as (files, key):
        try:
            files.pipe_file(key, data, mode="create")
        except OSError as error:
            if isinstance(error, FileExistsError) or code_of(error) in LOST:  # not every server names the condition
                return False
            if code_of(error) in CONFLICT:
                return None
            raise
    return True


def put(folder: Folder, name: str, data: bytes | Path) -> None:
    """Put a file, or another in its place."""
    with folder.asking(name) as (files, key):
        if isinstance(data, Path):
            files.put_file(str(data), key)
        else:
            files.pipe_file(key, data)


def remove(folder: Folder, name: str) -> None:
    with suppress(FileNotFoundError), folder.asking(name) as (files, key):
        files.rm_file(key)
