"""A manifest as SQL text: one view per table of the contract, then the macros and views of `pipeline/sql`.

The text names every part literally, so plain duckdb reads one version of a store with nothing of ours installed.
It verifies no bytes; `schemas.reader` and the audit do.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.adapters.files import replace
from schemas.columns import Table
from schemas.errors import StoreError
from schemas.manifest import Manifest
from schemas.reader import Store
from schemas.tables import TABLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SQL = Path(__file__).parent.parent / "sql"
SHIPPED = ("macros.sql", "views_questions.sql", "views_searches.sql")
SCALARS = {
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
}


def quoted(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(path: str) -> str:
    """A path that read_parquet takes for itself and for no other one: to it, these three marks are patterns."""
    return "".join(f"[{mark}]" if mark in "*?[" else mark for mark in path)


def duckdb_type(type_: pa.DataType) -> str:
    """The DuckDB spelling of an Arrow type; KeyError for a type that no table of the contract uses."""
    if pa.types.is_list(type_):
        return duckdb_type(type_.value_type) + "[]"
    if pa.types.is_struct(type_):
        fields = (f"{identifier(field.name)} {duckdb_type(field.type)}" for field in type_)
        return f"STRUCT({', '.join(fields)})"
    return SCALARS[type_]


def catalog_sql(manifest: Manifest, root: str = "") -> str:
    """SQL that makes the views of one version; part paths are prefixed with `root`, or relative to the store."""
    prefix = f"{_literal(root).rstrip('/')}/" if root else ""
    head = (
        f"-- views of version v{manifest.version}, sha256 {manifest.digest}; generated, do not edit\n"
        "-- plain duckdb: cd STORE && duckdb -init catalog/init.sql\n"
    )
    views = [_base_view(table, manifest, prefix) for table in TABLES.values()]
    shipped = [(SQL / name).read_text(encoding="utf-8") for name in SHIPPED]
    return "\n".join([head, *views, *shipped])


def _base_view(table: Table, manifest: Manifest, prefix: str) -> str:
    """The rows of all slices under their slice key; the empty first branch fixes names, order and types."""
    types = ", ".join(f"NULL::{duckdb_type(c.type)} AS {identifier(c.name)}" for c in table.columns)
    branches = [f"SELECT NULL::VARCHAR AS slice, {types} WHERE false"]
    paths: dict[str, list[str]] = {}
    for key, part in manifest.parts(table.name):
        paths.setdefault(key, []).append(quoted(prefix + part.path))
    for key, files in paths.items():
        reader = f"read_parquet([{', '.join(files)}], hive_partitioning = false)"
        branches.append(f"SELECT {quoted(key)} AS slice, * FROM {reader}")
    body = "\nUNION ALL BY NAME\n".join(branches)
    name = identifier(table.name)
    return f"CREATE OR REPLACE VIEW {name} AS\n{body};\nCOMMENT ON VIEW {name} IS {quoted(table.about)};\n"


def write_catalog(store: Store) -> Path:
    """Write `catalog/init.sql` of the newest version; when two builders finish together, the newer version stays."""
    path = store.root / "catalog" / "init.sql"
    head = store.head()
    while True:
        replace(store.root, path, catalog_sql(head).encode())
        if (newer := store.head()).version == head.version:
            return path
        head = newer


def connect(store: Store, version: str | int | None = None) -> "DuckDBPyConnection":
    """An in-memory duckdb over one version; see `open_manifest`."""
    return open_manifest(store, store.manifest(version))


def open_manifest(store: Store, manifest: Manifest) -> "DuckDBPyConnection":
    """An in-memory duckdb over the parts of `manifest`: it reaches no file but the store's data, and loads nothing."""
    import duckdb

    root = store.root.resolve()
    con = duckdb.connect(config={"python_enable_replacements": "false"})
    try:
        con.execute(catalog_sql(manifest, str(root)))
    except duckdb.Error as error:
        con.close()
        raise StoreError(
            f"a part cannot be read: {error}", where=store.root, fix=f"fovea audit --store {store.root}"
        ) from error
    folders = sorted({str(root / "data"), _literal(str(root / "data"))})  # a pattern must lie within one too
    con.execute(f"SET allowed_directories = [{', '.join(map(quoted, folders))}]")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    return con
