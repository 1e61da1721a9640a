"""The immutable list of everything a version of a store holds. Its sha256 is the digest that people cite.

A manifest is a set of slices, one per build (stage/source/name); a build replaces exactly its own slice.
No time, host, path outside the store, or library version ever enters a manifest, so that equal inputs
give equal bytes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from schemas.errors import StoreError

FORMAT = "fovea/1"


def canonical(value: Any) -> bytes:
    """The one JSON spelling of a value: sorted keys, no blanks, UTF-8, no NaN, final newline."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def sha256_of(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """One published Parquet file; `shards_sha256` names the rows of work shards it was packed from."""

    path: str
    table: str
    split: str
    sha256: str
    bytes: int
    rows: int
    shards_sha256: str


@dataclass(frozen=True, slots=True)
class Slice:
    """What one build contributed; `inputs` maps the slices it was made from to their digests."""

    stage: str
    source: str
    name: str
    revision: int
    config: Mapping[str, Any]
    expert: str | None
    seed: int | None
    inputs: Mapping[str, str]
    schemas: Mapping[str, str]
    licences: tuple[str, ...]
    parts: tuple[Part, ...] = field(default=())

    @property
    def key(self) -> str:
        return f"{self.stage}/{self.source}/{self.name}"

    @property
    def digest(self) -> str:
        return sha256_of(self.to_json())

    def rows(self, table: str, split: str | None = None) -> int:
        return sum(part.rows for part in self.parts if part.table == table and split in (None, part.split))

    def to_json(self) -> dict[str, Any]:
        plain = asdict(self)
        return plain | {"licences": sorted(self.licences), "parts": [asdict(part) for part in sorted(self.parts)]}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Slice":
        parts = tuple(Part(**part) for part in plain["parts"])
        return cls(**{**plain, "parts": parts, "licences": tuple(plain["licences"])})


@dataclass(frozen=True, slots=True)
class Manifest:
    version: int
    parent: str | None
    slices: Mapping[str, Slice]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        slices = {key: one.to_json() for key, one in self.slices.items()}
        return canonical({"format": FORMAT, "version": self.version, "parent": self.parent, "slices": slices})

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object = None) -> "Manifest":
        """StoreError when the bytes are not a manifest of this format, written canonically."""
        try:
            plain = json.loads(data)
            if plain["format"] != FORMAT:
                raise StoreError(
                    f"manifest has format {plain['format']!r}, this fovea reads {FORMAT!r}",
                    where=where,
                    fix="fovea migrate",
                )
            slices = {key: Slice.from_json(one) for key, one in plain["slices"].items()}
            manifest = cls(plain["version"], plain["parent"], slices)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(f"not a manifest: {error}", where=where, fix="restore the file from a copy") from error
        if manifest.to_bytes() != data or any(key != one.key for key, one in slices.items()):
            raise StoreError("manifest was edited: its bytes are not canonical", where=where, fix="restore the file")
        return manifest

    def with_slice(self, new: Slice) -> "Manifest":
        """The next version: this one with `new` in the place of its namesake."""
        return Manifest(self.version + 1, self.digest, {**self.slices, new.key: new})

    def parts(self, table: str | None = None) -> list[tuple[str, Part]]:
        """(slice key, part) in a fixed order, of one table or of all."""
        pairs = [(key, part) for key, one in sorted(self.slices.items()) for part in sorted(one.parts)]
        return [(key, part) for key, part in pairs if table in (None, part.table)]


EMPTY = Manifest(0, None, {})
