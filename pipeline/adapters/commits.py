"""Committing a slice: read the head, put the next version if nobody else did; else re-read and rebase."""

from collections.abc import Callable

from pipeline.adapters.files import put_if_absent
from schemas.errors import ConflictError
from schemas.manifest import Manifest, Slice
from schemas.reader import Store

ATTEMPTS = 200


def commit(store: Store, build: Callable[[Slice | None], Slice], key: str) -> tuple[Manifest, bool]:
    """Put the slice that `build` makes from its predecessor; the manifest that holds it, and whether it is new.

    `build` is called again when somebody else has committed another predecessor meanwhile, since its parts are others.
    When the head already holds an equal slice there is no new version.
    """
    made: tuple[Slice | None, Slice] | None = None
    for _ in range(ATTEMPTS):
        head = store.head()
        old = head.slices.get(key)
        if made is None or made[0] != old:
            made = old, build(old)
        new = made[1]
        if old is not None and old.digest == new.digest:
            return head, False
        following = head.with_slice(new)
        if put_if_absent(store.folder, store.manifests / f"v{following.version}.json", following.to_bytes()):
            return following, True
    raise ConflictError(
        f"lost {ATTEMPTS} commits in a row to other builders", where=store.folder, fix="run the command again"
    )
