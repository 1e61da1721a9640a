"""A manifest as SQL text: one view per table of the contract, then the macros and views of `pipeline/sql`.

The text names every part literally, so plain duckdb reads one version of a store with nothing of ours installed.
It verifies no bytes; `schemas.reader` and the audit do. Of a store at a URL we read the mirror, after fetching what a
query needs.
"""

import re
from collections.abc import Collection
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.adapters.files import replace
from schemas.columns import Table
from schemas.errors import StoreError
from schemas.manifest import EMPTY, Manifest
from schemas.reader import Store
from schemas.tables import TABLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SQL = Path(__file__).parent.parent / "sql"
SHIPPED = ("macros.sql", "views_questions.sql", "views_searches.sql")
AT_URL = "LOAD httpfs, CREATE SECRET with what gives you access, then read this file"
MISSING = re.compile(r"Table with name (\w+) does not exist")
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
        f"-- plain duckdb: {AT_URL if '://' in root else 'cd STORE && duckdb -init catalog/init.sql'}\n"
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
        text = catalog_sql(head, store.folder.url or "").encode()
        if store.folder.url is not None or not path.is_file() or path.read_bytes() != text:
            replace(store.folder, path, text)
        if (newer := store.head()).version == head.version:
            return path
        head = newer


def connect(store: Store, version: str | int | None = None, query: str | None = None) -> "DuckDBPyConnection":
    """An in-memory duckdb over one version; see `open_manifest`. With `query`, of a URL: over what that asks for."""
    manifest = store.manifest(version)
    if query is not None and store.folder.url is not None:
        manifest = _narrowed(manifest, tables_of(query))
    return open_manifest(store, manifest)


def open_manifest(store: Store, manifest: Manifest) -> "DuckDBPyConnection":
    """An in-memory duckdb over the parts of `manifest`: it reaches no file but the store's data, and loads nothing."""
    import duckdb

    store.folder.fetch_all(part for _, part in manifest.parts())
    root = store.root.resolve()
    con = duckdb.connect(config={"python_enable_replacements": "false"})
    try:
        con.execute(catalog_sql(manifest, str(root)))
    except duckdb.Error as error:
        con.close()
        raise StoreError(
            f"a part cannot be read: {error}", where=store.folder, fix=f"fovea audit --store {store.folder}"
        ) from error
    folders = sorted({str(root / "data"), _literal(str(root / "data"))})  # a pattern must lie within one too
    con.execute(f"SET allowed_directories = [{', '.join(map(quoted, folders))}]")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    return con


def tables_of(query: str) -> Collection[str]:
    """Tables of the contract that a query reads, itself or through views: without them duckdb cannot even plan it."""
    import duckdb

    found: set[str] = set()
    with duckdb.connect(config={"enable_external_access": "false"}) as con:
        con.execute(catalog_sql(EMPTY))
        for name in TABLES:
            con.execute(f"DROP VIEW {identifier(name)}")
        while True:
            try:
                con.execute(f"EXPLAIN FROM (\n{query.rstrip().rstrip(';')}\n)")
                return found
            except (duckdb.ParserException, duckdb.BinderException):  # as it will be when it is run
                return found
            except duckdb.Error as error:
                missing = MISSING.search(str(error))
                if missing is None or (name := missing[1].lower()) in found:
                    return TABLES.keys()  # to be on the safe side
                if name not in TABLES:
                    return found
                found.add(name)
                con.execute(_base_view(TABLES[name], EMPTY, ""))


def _narrowed(manifest: Manifest, tables: Collection[str]) -> Manifest:
    slices = {
        key: changed(one, parts=tuple(part for part in one.parts if part.table in tables))
        for key, one in manifest.slices.items()
    }
    return changed(manifest, slices=slices)
