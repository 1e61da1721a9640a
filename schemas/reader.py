"""Reading a store: choose a version, verify what is read, refuse what does not match.

snapshot = Store("store").snapshot()            # newest version; or "v3", 3, or a digest
snapshot.read("trajectories", split="train")    # an Arrow table, its bytes checked against the manifest
"""

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.columns import check
from schemas.errors import DigestError, StoreError, UsageError
from schemas.manifest import EMPTY, Manifest, Part, Slice
from schemas.rows import from_table
from schemas.storage import MEND, Folder, difference
from schemas.tables import TABLES

CACHE_BYTES = 1 << 30  # of images: random access over a few thousand of them stays in memory
MANIFESTS = "manifests"
VERSION = re.compile(r"v([1-9][0-9]*)\.json")
NUMBER = re.compile(r"v([0-9]{1,18})|([0-9]{1,7})")  # more digits without a v are the start of a digest


class Store:
    """Manifests, data and work in a folder or at a URL. Opening one creates nothing and asks nobody."""

    def __init__(self, where: str | Path | Folder) -> None:
        self.folder = Folder.of(where)
        if self.folder.url is None and self.root.exists() and not self.root.is_dir():
            raise UsageError(f"a store is a folder or a URL, and {where} is a file", fix="give another --store")

    @property
    def root(self) -> Path:
        """The local folder of what is read and written: the store itself, or the mirror of a URL."""
        return self.folder.root

    @property
    def manifests(self) -> Path:
        return self.root / MANIFESTS

    def versions(self) -> list[int]:
        """Numbers of all versions, oldest first."""
        names = map(VERSION.fullmatch, self.folder.names(MANIFESTS))
        return sorted(int(match[1]) for match in names if match)

    def load(self, version: int) -> Manifest:
        where = self.folder.at(_name(version))
        try:
            data = self.folder.read(_name(version))
        except FileNotFoundError:
            have = ", ".join(f"v{number}" for number in self.versions()) or "none"
            raise StoreError(f"no version v{version} here; there are: {have}", where=self.folder) from None
        except OSError as error:
            raise StoreError(f"cannot be read: {error.strerror}", where=where) from error
        manifest = Manifest.from_bytes(data, where=where)
        if manifest.version != version:
            raise StoreError(f"file holds version {manifest.version}", where=where, fix="restore the file from a copy")
        return manifest

    def head(self) -> Manifest:
        """The newest manifest, or the empty version 0 of a store that does not exist yet."""
        versions = self.versions()
        return self.load(versions[-1]) if versions else EMPTY

    def manifest(self, version: str | int | None = None) -> Manifest:
        """The newest manifest, or the one named by number, by `v3`, or by (the start of) its digest."""
        if not self.versions():
            raise StoreError(
                "no store here", where=self.folder, fix=f"make one: fovea ingest phantom --store {self.folder}"
            )
        if version is None:
            return self.head()
        if isinstance(version, int):
            return self.load(version)
        if number := NUMBER.fullmatch(version):
            return self.load(int(number[1] or number[2]))
        return self._by_digest(version.removeprefix("sha256:"))

    def _by_digest(self, digest: str) -> Manifest:
        digests = {number: sha256(self.folder.read(_name(number))).hexdigest() for number in self.versions()}
        found = [number for number, whole in digests.items() if len(digest) >= 8 and whole.startswith(digest)]
        if len(found) != 1:
            raise StoreError(
                f"{len(found) or 'no'} versions have digest {digest!r}",
                where=self.folder,
                fix="a version is v3, 3, or 8 or more digits of the sha256 of a file in manifests/",
            )
        return self.load(found[0])

    def snapshot(self, version: str | int | None = None) -> "Snapshot":
        return Snapshot(self.folder, self.manifest(version))


def _name(version: int) -> str:
    return f"{MANIFESTS}/v{version}.json"


@dataclass(frozen=True)
class Snapshot:
    """One version of a store, ready to be read; also of a local one by its path."""

    folder: Folder | Path
    manifest: Manifest

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Folder.of(self.folder))

    @property
    def root(self) -> Path:
        return Folder.of(self.folder).root

    def slice(self, pattern: str) -> Slice:
        """The one slice whose key matches `pattern` (exact, or with * and ?); UsageError lists what there is."""
        keys = sorted(key for key in self.manifest.slices if fnmatchcase(key, pattern))
        if len(keys) == 1:
            return self.manifest.slices[keys[0]]
        have = ", ".join(sorted(self.manifest.slices)) or "none"
        what = f"{len(keys)} slices match {pattern!r}" if keys else f"no slice matches {pattern!r}"
        raise UsageError(f"{what}; slices here: {', '.join(keys) or have}", where=self.folder, fix="name one in full")

    def verified(self, part: Part) -> Path:
        """Path of a part after its size and sha256 were compared with the manifest."""
        path = Folder.of(self.folder).fetch(part)
        try:
            wrong = difference(path, part)
        except FileNotFoundError:
            raise DigestError("file named by the manifest is missing", where=path, fix=MEND) from None
        if wrong:
            raise DigestError(f"bytes differ from the manifest (sha256 {part.sha256[:12]}…)", where=path, fix=MEND)
        return path

    def parts(self, table: str, *, split: str | None = None, slices: Sequence[str] | None = None) -> list[Part]:
        pairs = self.manifest.parts(table)
        return [part for key, part in pairs if split in (None, part.split) and (slices is None or key in slices)]

    def read_part(self, part: Part, columns: list[str] | None = None) -> pa.Table:
        path = self.verified(part)
        file = pq.ParquetFile(path)
        data = file.read(columns)
        check(TABLES[part.table], file.schema_arrow.empty_table() if columns else data, where=path)
        if data.num_rows != part.rows:
            raise DigestError(f"holds {data.num_rows} rows, the manifest says {part.rows}", where=path)
        return data.select(columns) if columns else data

    def read(
        self,
        table: str,
        *,
        split: str | None = None,
        slices: Sequence[str] | None = None,
        columns: list[str] | None = None,
    ) -> pa.Table:
        """All rows of a table, in manifest order; an empty table when there are none."""
        tables = [self.read_part(part, columns) for part in self.parts(table, split=split, slices=slices)]
        empty = TABLES[table].schema.empty_table()
        return pa.concat_tables(tables) if tables else (empty.select(columns) if columns else empty)

    def records(self, table: str, **which: Any) -> list[Any]:
        return from_table(table, self.read(table, **which))

    def each(self, table: str, **which: Any) -> Iterator[Any]:
        """Records one part at a time: for tables that do not fit in memory at once."""
        for part in self.parts(table, **which):
            yield from from_table(table, self.read_part(part))

    @cached_property
    def images(self) -> "ImageFinder":
        return ImageFinder(self)


class ImageFinder:
    """Stored image bytes by image_id, read one row group at a time; any copy will do, the sha256 is the id."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._where: dict[str, tuple[Path, int]] = {}
        for part in snapshot.parts("images"):
            path = snapshot.verified(part)
            file = pq.ParquetFile(path)
            for group in range(file.num_row_groups):
                ids = file.read_row_group(group, columns=["image_id"]).column("image_id").to_pylist()
                self._where |= {image_id: (path, group) for image_id in ids if image_id not in self._where}
        self._groups: OrderedDict[tuple[Path, int], dict[str, bytes]] = OrderedDict()
        self._cached_bytes = 0

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._where

    def _group(self, path: Path, number: int) -> dict[str, bytes]:
        """Images of one row group; the groups used last stay in memory, up to CACHE_BYTES."""
        key = path, number
        if key not in self._groups:
            rows = pq.ParquetFile(path).read_row_group(number, columns=["image_id", "image"]).to_pylist()
            self._groups[key] = {row["image_id"]: row["image"]["bytes"] for row in rows}
            self._cached_bytes += sum(map(len, self._groups[key].values()))
        self._groups.move_to_end(key)
        while self._cached_bytes > CACHE_BYTES and len(self._groups) > 1:
            _, dropped = self._groups.popitem(last=False)
            self._cached_bytes -= sum(map(len, dropped.values()))
        return self._groups[key]

    def data(self, image_id: str) -> bytes:
        if image_id not in self._where:
            raise StoreError(f"image {image_id[:12]}… is in no part of this version", fix="ingest its source again")
        return self._group(*self._where[image_id])[image_id]
