"""Reading a store: choose a version, verify what is read, refuse what does not match.

snapshot = Store("store").snapshot()            # newest version; or "v3", 3, or a digest
snapshot.read("trajectories", split="train")    # an Arrow table, its bytes checked against the manifest
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.columns import check
from schemas.errors import DigestError, StoreError, UsageError
from schemas.manifest import EMPTY, Manifest, Part, Slice
from schemas.rows import from_table
from schemas.tables import TABLES

CACHE_BYTES = 1 << 30  # of images: random access over a few thousand of them stays in memory
VERSION = re.compile(r"v([1-9][0-9]*)\.json")
NUMBER = re.compile(r"v([0-9]{1,18})|([0-9]{1,7})")  # more digits without a v are the start of a digest
SURROGATE = re.compile(r"[\ud800-\udfff]")
URL = re.compile(r"[a-z][a-z0-9+.-]+:/")


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=100_000)
def _sha256_once(path: Path, size: int, mtime_ns: int) -> str:
    return sha256_file(path)


class Store:
    """A folder of manifests, data and work. Opening one creates nothing."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if URL.match(str(root)) or (self.root.exists() and not self.root.is_dir()):
            raise UsageError(f"stores are local folders; {root} is none", fix="give another path to --store")
        if SURROGATE.search(str(root)):  # Arrow and duckdb know only paths that are text
            raise UsageError(f"a store cannot be at {str(root)!a}", fix="give it a name in UTF-8")

    @property
    def manifests(self) -> Path:
        return self.root / "manifests"

    def versions(self) -> list[int]:
        """Numbers of all versions, oldest first."""
        names = (VERSION.fullmatch(path.name) for path in self.manifests.glob("v*.json"))
        return sorted(int(match[1]) for match in names if match)

    def load(self, version: int) -> Manifest:
        path = self.manifests / f"v{version}.json"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            have = ", ".join(f"v{number}" for number in self.versions()) or "none"
            raise StoreError(f"no version v{version} here; there are: {have}", where=self.root) from None
        except OSError as error:
            raise StoreError(f"cannot be read: {error.strerror}", where=path) from error
        manifest = Manifest.from_bytes(data, where=path)
        if manifest.version != version:
            raise StoreError(f"file holds version {manifest.version}", where=path, fix="restore the file from a copy")
        return manifest

    def head(self) -> Manifest:
        """The newest manifest, or the empty version 0 of a store that does not exist yet."""
        versions = self.versions()
        return self.load(versions[-1]) if versions else EMPTY

    def manifest(self, version: str | int | None = None) -> Manifest:
        """The newest manifest, or the one named by number, by `v3`, or by (the start of) its digest."""
        if not self.versions():
            raise StoreError(
                "no store here", where=self.root, fix="make one: fovea ingest phantom --store " + str(self.root)
            )
        if version is None:
            return self.head()
        if isinstance(version, int):
            return self.load(version)
        if number := NUMBER.fullmatch(version):
            return self.load(int(number[1] or number[2]))
        return self._by_digest(version.removeprefix("sha256:"))

    def _by_digest(self, digest: str) -> Manifest:
        digests = {number: sha256_file(self.manifests / f"v{number}.json") for number in self.versions()}
        found = [number for number, whole in digests.items() if len(digest) >= 8 and whole.startswith(digest)]
        if len(found) != 1:
            raise StoreError(
                f"{len(found) or 'no'} versions have digest {digest!r}",
                where=self.root,
                fix="a version is v3, 3, or 8 or more digits of the sha256 of a file in manifests/",
            )
        return self.load(found[0])

    def snapshot(self, version: str | int | None = None) -> "Snapshot":
        return Snapshot(self.root, self.manifest(version))


@dataclass(frozen=True)
class Snapshot:
    """One version of a store, ready to be read."""

    root: Path
    manifest: Manifest

    def slice(self, pattern: str) -> Slice:
        """The one slice whose key matches `pattern` (exact, or with * and ?); UsageError lists what there is."""
        keys = sorted(key for key in self.manifest.slices if fnmatchcase(key, pattern))
        if len(keys) == 1:
            return self.manifest.slices[keys[0]]
        have = ", ".join(sorted(self.manifest.slices)) or "none"
        what = f"{len(keys)} slices match {pattern!r}" if keys else f"no slice matches {pattern!r}"
        raise UsageError(f"{what}; slices here: {', '.join(keys) or have}", where=self.root, fix="name one in full")

    def verified(self, part: Part) -> Path:
        """Path of a part after its size and sha256 were compared with the manifest."""
        path = self.root / part.path
        fix = "restore the file, or delete it and build its slice again"
        try:
            stat = path.stat()
        except FileNotFoundError:
            raise DigestError("file named by the manifest is missing", where=path, fix=fix) from None
        if stat.st_size != part.bytes or _sha256_once(path, stat.st_size, stat.st_mtime_ns) != part.sha256:
            raise DigestError(f"bytes differ from the manifest (sha256 {part.sha256[:12]}…)", where=path, fix=fix)
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
