"""Answers that cost something are kept one by one: never is an expert asked again what it has answered in this store.

What an expert has answered is written at once as a segment, a small file under `work/calls/`; with them are read the
calls that any slice of this version has published for the same expert. A failure is not kept: a rerun asks again. What
cannot be read is named and asked again. Segments are private; builders write them side by side, and whoever joins small
ones to larger ones only costs the others another look at the folder.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock

import pyarrow as pa

from pipeline.adapters.call_rows import UNREADABLE, CallFile, CallRows
from pipeline.adapters.files import name_of, remove, write_parquet
from schemas.columns import check
from schemas.errors import DigestError, StoreError
from schemas.reader import Snapshot
from schemas.records import ExpertCall
from schemas.rows import to_table
from schemas.storage import Folder
from schemas.tables import EXPERT_CALLS

STEM = "calls"
SEGMENTS_MAX = 1024  # more small ones are joined before a build
JOINED_ROWS = 20_000

Note = Callable[[str], None]


class CallCache:
    """The known answers of one expert; for any number of threads."""

    def __init__(self, snapshot: Snapshot, expert: str, note: Note) -> None:
        self._store, self._folder, self._note = Folder.of(snapshot.folder), folder_of(snapshot.root, expert), note
        self._rows, self._lock = CallRows(self._lost), Lock()
        self._segments: set[Path] = set()
        self._is_stale = False
        for key, one in sorted(snapshot.manifest.slices.items()):
            if one.expert == expert:
                self._add_published(snapshot, key)
        self._add_segments()

    def __len__(self) -> int:
        return len(self._rows)

    def known(self, names: Sequence[str]) -> dict[str, ExpertCall]:
        with self._lock:
            found = self._rows.find(names)
            if self._is_stale:
                self._is_stale = False
                self._add_segments()
                found |= self._rows.find([name for name in names if name not in found])
            return found

    def keep(self, calls: Sequence[ExpertCall]) -> None:
        """Write what was answered; StoreError when that is not possible."""
        answered = [call for call in calls if call.error_class is None]
        if not answered:
            return
        answered.sort(key=lambda call: (call.question_id, call.call_id))
        rows = [to_table(EXPERT_CALLS.name, answered)]
        path, _ = write_parquet(self._store, self._folder, STEM, EXPERT_CALLS, rows, is_published=False)
        with self._lock:
            self._segments.add(path)
            self._rows.add_written(_segment(path), [call.call_id for call in answered])

    def _add_published(self, snapshot: Snapshot, key: str) -> None:
        for part in snapshot.parts(EXPERT_CALLS.name, slices=[key]):
            try:
                path = snapshot.verified(part)
            except (StoreError, OSError) as error:
                self._lost(snapshot.root / part.path, error)
                continue
            self._rows.add(CallFile(path))

    def _add_segments(self) -> None:
        for path in _segments(self._store, self._folder):
            if path not in self._segments:
                self._segments.add(path)
                self._rows.add(_segment(path))

    def _lost(self, path: Path, error: Exception) -> None:
        if isinstance(error, FileNotFoundError) and path.parent == self._folder:
            self._is_stale = True  # joined by another builder
            return
        why = getattr(error, "what", None) or str(error).partition("\n")[0]
        self._note(f"recorded calls are asked again, their file cannot be read: {path} ({why})")


def folder_of(root: Path, expert: str) -> Path:
    return root / "work" / "calls" / sha256(expert.encode()).hexdigest()[:16]


def join_segments(where: Folder | Path, expert: str) -> int:
    """Join small segments where there are many; how many there were. What cannot be read is left where it is."""
    store = Folder.of(where)
    folder = folder_of(store.root, expert)
    if len(paths := _segments(store, folder)) <= SEGMENTS_MAX:
        return 0
    small = sorted((first, path) for path in paths if (first := _first_question(path)) is not None)
    if len(small) <= SEGMENTS_MAX:
        return 0
    for sources, tables in _runs(path for _, path in small):  # by question: what a shard asks for lies together
        joined = write_parquet(store, folder, STEM, EXPERT_CALLS, tables)[0]  # its name lasts before theirs go
        for path in set(sources) - {joined}:
            remove(store, path)
    return len(small)


def _runs(paths: Iterable[Path]) -> Iterator[tuple[list[Path], list[pa.Table]]]:
    """Segments with their rows, at least JOINED_ROWS at a time but for the last; those that another builder has joined
    meanwhile are left out.
    """
    sources: list[Path] = []
    tables: list[pa.Table] = []
    for path in paths:
        try:
            tables.append(_segment(path).opened().read())
        except UNREADABLE:
            continue
        sources.append(path)
        if sum(table.num_rows for table in tables) >= JOINED_ROWS:
            yield sources, tables
            sources, tables = [], []
    if sources:
        yield sources, tables


def _first_question(path: Path) -> str | None:
    """Of a segment worth joining."""
    try:
        opened = _segment(path).opened()
        rows = opened.metadata.num_rows
        check(EXPERT_CALLS, opened.schema_arrow.empty_table())
        return opened.read(["question_id"])[0][0].as_py() if 0 < rows < JOINED_ROWS // 2 else None
    except UNREADABLE:
        return None


@dataclass(frozen=True, slots=True)
class _Listed:
    """A segment at a URL; its name tells how the sha256 begins."""

    path: str
    bytes: int
    sha256: str


def _segments(store: Folder, folder: Path) -> list[Path]:
    """Of a store at a URL what the mirror lacks is fetched."""
    if store.url is None:
        return sorted(folder.glob(f"{STEM}-*.parquet"))
    found = store.listed(f"{name_of(store, folder)}/{STEM}-")
    paths = {store.root / name: _Listed(name, about["size"], _digits(Path(name))) for name, about in found.items()}
    with suppress(DigestError):  # of one that is joined meanwhile, or damaged: it will be told when it is read
        store.fetch_all(paths.values())
    return sorted(paths)


def _segment(path: Path) -> CallFile:
    return CallFile(path, _digits(path))


def _digits(path: Path) -> str:
    return path.stem.removeprefix(f"{STEM}-")
