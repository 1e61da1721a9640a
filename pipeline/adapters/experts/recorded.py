"""The expert that repeats what one slice recorded, failures word for word, and never says anything else.

It loads no model, no library of one, and no image. What is not recorded it does not know, and says so: the question
that needs it is rejected.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import ClassVar

from pipeline.adapters.call_rows import CallFile, CallRows
from schemas.errors import StoreError
from schemas.experts import NOT_RECORDED, Ask, ExpertIdentity, Failure
from schemas.manifest import Slice
from schemas.reader import Snapshot
from schemas.records import ExpertCall
from schemas.tables import EXPERT_CALLS


class RecordedExpert:
    """Expert and records in one; for any number of threads. DigestError for calls that are not as published."""

    is_blind: ClassVar[bool] = True

    def __init__(self, snapshot: Snapshot, key: str) -> None:
        self.identity = recorded_identity(snapshot.manifest.slices[key])
        self._rows, self._lock = CallRows(_refuse), Lock()
        for part in snapshot.parts(EXPERT_CALLS.name, slices=[key]):
            self._rows.add(CallFile(snapshot.verified(part)), with_failures=True)

    def known(self, names: Sequence[str]) -> Mapping[str, ExpertCall]:
        with self._lock:
            return self._rows.find(names)

    def keep(self, calls: Sequence[ExpertCall]) -> None:
        """What is repeated is recorded already."""

    def answer(self, asks: Sequence[Ask]) -> list[Failure]:
        return [Failure(NOT_RECORDED, "the call is not recorded") for _ in asks]


def recorded_identity(slice_: Slice) -> ExpertIdentity:
    """Who answered in a slice; StoreError when the slice does not say enough of it."""
    name, _, rest = (slice_.expert or "").partition("@")
    config = slice_.config
    try:
        settings = tuple(sorted(config["expert_settings"].items()))
        flags = {"privileged": config["privileged"], "rescans": config["rescans"]}
    except (KeyError, AttributeError):
        raise _untold(slice_) from None
    identity = ExpertIdentity(name, rest.rpartition("+")[0], settings, **flags)
    if identity.id != slice_.expert:
        raise _untold(slice_)
    return identity


def _untold(slice_: Slice) -> StoreError:
    what = f"the manifest does not say who answered in {slice_.key}, so its calls cannot be replayed"
    return StoreError(what, fix="build it once more with its expert")


def _refuse(path: Path, error: Exception) -> None:
    raise StoreError(
        f"recorded calls cannot be read: {error}", where=path, fix="restore the file from a copy"
    ) from error
