"""What an audit asks of files rather than rows: are they there, whole, and what the manifest says they are?"""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.adapters.hashes import picture_hashes
from pipeline.adapters.pixels import decode, grey_levels, pixel_sha256
from schemas.errors import DigestError, FoveaError
from schemas.manifest import EMPTY, Manifest, Part
from schemas.reader import Store
from schemas.storage import Folder, sha256_file
from schemas.tables import TABLES

IMAGES_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Offence:
    """One thing that breaks a rule: `key` names it, `detail` says how; `n` counts what it stands for."""

    key: str
    detail: str
    n: int = 1


def broken_parts(where: Folder | Path, manifest: Manifest, tick: Callable[[int], None]) -> dict[Part, Offence]:
    """Parts that are not what the manifest names, each with the first thing wrong; `tick` gets rows covered.

    Of a store at a URL each is fetched anew: what the mirror has is no witness.
    """
    found = {}
    for _, part in manifest.parts():
        try:
            wrong = _wrong_part(Folder.of(where).fetch(part, anew=True), part)
        except DigestError as error:
            wrong = error.what
        if wrong:
            found[part] = Offence(part.path, wrong)
        tick(part.rows)
    return found


def _wrong_part(path: Path, part: Part) -> str | None:
    if not path.is_file():
        return "the file is missing"
    if (size := path.stat().st_size) != part.bytes:
        return f"the file has {size} bytes, the manifest says {part.bytes}"
    if (digest := sha256_file(path)) != part.sha256:
        return f"the bytes have sha256 {digest[:12]}…, the manifest says {part.sha256[:12]}…"
    try:
        footer = pq.read_metadata(path)
        schema = footer.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        return f"not a Parquet file: {error}"
    if footer.num_rows != part.rows:
        return f"the footer has {footer.num_rows} rows, the manifest says {part.rows}"
    return _wrong_schema(schema, part)


def _wrong_schema(schema: pa.Schema, part: Part) -> str | None:
    if part.table not in TABLES:
        return f"this fovea knows no table {part.table}"
    table = TABLES[part.table]
    written = (schema.metadata or {}).get(b"fovea.schema", b"none").decode()
    if written != table.schema_id or not schema.equals(table.schema):
        return f"schema {written}, expected {table.schema_id}: rebuild or migrate"
    return None


def broken_chain(store: Store, manifest: Manifest) -> Iterator[Offence]:
    """Versions up to this one that cannot be read or do not name their predecessor; removed ones are passed over."""
    before = EMPTY
    for number in store.versions():
        if number > manifest.version:
            return
        try:
            one = store.load(number)
        except FoveaError as error:
            yield Offence(f"v{number}.json", error.what)
            before = EMPTY
            continue
        if one.version == before.version + 1 and one.parent != before.digest:
            yield Offence(f"v{number}.json", f"its parent is not v{before.version}, sha256 {before.digest[:12]}…")
        before = one


def broken_images(root: Path, key: str, part: Part, tick: Callable[[int], None]) -> list[Offence]:
    """Images whose bytes are not their id, do not decode, or decode to another size, pixels or hashes than stored."""
    found = []
    # the filters of `warnings` are one for all threads: what `decode` does to them ends with this block
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        for batch in pq.ParquetFile(root / part.path).iter_batches(IMAGES_AT_ONCE):
            rows = batch.to_pylist()
            wrongs = zip(rows, pool.map(_wrong_image, rows), strict=True)
            found += [Offence(f"{key} {row['image_id']}", wrong) for row, wrong in wrongs if wrong]
            tick(len(rows))
    return found


def _wrong_image(row: dict[str, Any]) -> str | None:
    data = row["image"]["bytes"] if row["image"] else None
    if data is None:
        return "it has no bytes"
    if hashlib.sha256(data).hexdigest() != row["image_id"]:
        return "its bytes have another sha256"
    try:
        picture = decode(data)
        pixels = pixel_sha256(picture)
    except FoveaError as error:
        return error.what
    if picture.size != (row["width"], row["height"]):
        return f"decodes to {picture.width} x {picture.height}, stored as {row['width']} x {row['height']}"
    if pixels != row["pixel_sha256"]:
        return "its pixels have another sha256"
    hashes = asdict(picture_hashes(grey_levels(picture)))
    wrong = [name for name, value in hashes.items() if row[name] != value]
    return f"it has another {', '.join(wrong)}" if wrong else None
