"""`fovea sql`: one query over the views of a store, since plain duckdb 2.0 has no command line on PyPI.

It only reads: one SELECT-like statement, in memory, with no file in reach but the parts of the store.
"""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from types import NoneType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.adapters.catalog import connect
from pipeline.stages.reports import JsonOption, StoreOption, print_json
from schemas.errors import UsageError
from schemas.reader import Store

UNWRAPPED = 100_000  # columns of a pipe: rows stay on one line each


@dataclass(frozen=True, slots=True)
class Answer:
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def ask(store: Store, text: str, version: str | int | None = None) -> Answer:
    """The rows of one SELECT, FROM, WITH, VALUES, DESCRIBE, SHOW or SUMMARIZE; UsageError for anything else."""
    import duckdb

    con = connect(store, version, text)
    try:
        found = con.extract_statements(text)
        if [statement.type for statement in found] != [duckdb.StatementType.SELECT]:
            raise UsageError("fovea sql takes one query that only reads", fix='for example: "FROM images LIMIT 5"')
        # a SELECT of duckdb 2 may hold `WITH x AS (COPY … TO …)`, but only at the top level: planned, never run, inside
        con.execute(f"EXPLAIN FROM (\n{found[0].query.rstrip().rstrip(';')}\n)").fetchall()
        cursor = con.execute(text)
        names = tuple(column[0] for column in cursor.description)
        return Answer(names, cursor.fetchall())
    except duckdb.Error as error:
        raise UsageError(f"duckdb: {error}", fix='list the views with: fovea sql "SHOW TABLES"') from error
    finally:
        con.close()


def plain(value: Any) -> Any:
    """`value` as JSON has it: NaN and infinities are null, bytes their number, dates ISO 8601."""
    match value:
        case float() | Decimal():
            return float(value) if math.isfinite(value) else None
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case dict():
            return {str(key): plain(one) for key, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
        case date() | time():
            return value.isoformat()
    return value if isinstance(value, (str, int, NoneType)) else str(value)


def _cell(value: Any) -> str:
    """A value as people read it: seven digits, as much as float32 holds."""
    match value:
        case None:
            return ""
        case float() | Decimal():
            return f"{value:.7g}"
        case list() | tuple():
            return "[" + ", ".join(map(_cell, value)) + "]"
        case bytes():
            return f"<{len(value)} bytes>"
    return str(value)


def show(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """A table on stdout."""
    table = Table(*map(escape, columns), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else UNWRAPPED).print(table)


def command(
    query: Annotated[str, typer.Argument(help="One SELECT over the store's tables and views.")],
    store: StoreOption,
    version: Annotated[str | None, typer.Option(help="v3 or the start of a digest; default the newest.")] = None,
    json: JsonOption = False,
) -> None:
    """Ask a store a question in SQL; tables and views: fovea sql "SHOW TABLES" --store store

    Example: fovea sql "SELECT stop_reason, count(*) FROM trajectories GROUP BY 1" --store store
    """
    answer = ask(Store(store), query, version)
    if json:
        print_json({"columns": list(answer.columns), "rows": [plain(row) for row in answer.rows]})
    else:
        show(answer.columns, answer.rows)
