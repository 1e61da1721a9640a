"""Tables of the page, each with the SQL that made it: asked of the store's views, or of the files of the run.

The text that is shown is the text that was run; only file names, written there as seen from the demo's folder, are made
absolute first. Nothing is computed here.
"""

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.adapters.catalog import SQL, connect, quoted
from pipeline.core.markup import Markup, tag
from pipeline.stages.demo_plan import Demo
from schemas.errors import InputError
from schemas.reader import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

RUN_FILES = ("run/steps.jsonl", "evaluation-*.json")  # as they are written in the SQL


@dataclass(frozen=True, slots=True)
class Asked:
    """A query of `pipeline/sql`, its text as run, and its rows. The first line of the text says what it is."""

    sql: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def about(self) -> str:
        return self.sql.splitlines()[0].removeprefix("--").strip()

    def records(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Questions:
    """Asks the queries in `pipeline/sql` by name, of one version of the store or of the run's files."""

    demo: Demo
    store: "DuckDBPyConnection"
    run: "DuckDBPyConnection"

    def of_store(self, name: str) -> Asked:
        text = _text(name)
        return _ask(self.store, text, text)

    def of_run(self, name: str) -> Asked:
        text = _text(name)
        absolute = text
        for file in RUN_FILES:
            absolute = absolute.replace(quoted(file), quoted(self._pattern(file)))
        return _ask(self.run, text, absolute)

    def _pattern(self, file: str) -> str:
        return f"{glob.escape(str(self.demo.out.resolve()))}/{file}"


@contextmanager
def asking(demo: Demo, digest: str) -> Iterator[Questions]:
    """Questions to one version of the demo's store and to the files beside it, while the block lasts."""
    import duckdb

    store = connect(Store(demo.store), digest)
    run = duckdb.connect(config={"python_enable_replacements": "false"})
    try:
        run.execute(f"SET allowed_directories = [{quoted(str(demo.out.resolve()))}]")
        run.execute("SET enable_external_access = false")
        yield Questions(demo, store, run)
    except duckdb.Error as error:
        raise InputError(f"duckdb: {error}", where=demo.out, fix=f"fovea audit --store {demo.store}") from error
    finally:
        store.close()
        run.close()


def with_sql(asked: Asked) -> Markup:
    """The rows as a table under their caption, and the SQL that made them, folded away."""
    shown = table(asked.about, asked.columns, asked.rows)
    return tag("section", shown, sql_of(asked), class_="asked")


def sql_of(asked: Asked) -> Markup:
    body = "\n".join(line for line in asked.sql.splitlines() if not line.startswith("--"))
    return tag("details", tag("summary", "SQL"), tag("pre", tag("code", body.strip())))


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Markup:
    """A table that scrolls sideways by itself where it is too wide; numbers stand right."""
    classes = ["number" if _is_numeric(column) else None for column in zip(*rows, strict=True)] or [None] * len(columns)
    names = zip(columns, classes, strict=True)
    head = tag("thead", tag("tr", *(tag("th", name.replace("_", " "), scope="col", class_=c) for name, c in names)))
    cells = ([tag("td", _written(v), class_=c) for v, c in zip(row, classes, strict=True)] for row in rows)
    body = tag("tbody", *(tag("tr", *row) for row in cells))
    inside = tag("table", tag("caption", tag("span", caption)), head, body)
    return tag("div", inside, class_="scroll", role="region", aria_label=caption, tabindex="0")


def _is_numeric(column: Sequence[Any]) -> bool:
    return all(value is None or type(value) in (int, float) for value in column)


def _written(value: Any) -> Any:
    """A number with three digits or thousands apart, nothing as a dash, all else as it is."""
    if value is None:
        return "–"
    if type(value) is float:
        return f"{value:.3g}"
    return f"{value:,}" if type(value) is int else value


def _text(name: str) -> str:
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def _ask(con: "DuckDBPyConnection", shown: str, text: str) -> Asked:
    cursor = con.execute(text)
    return Asked(shown, tuple(column[0] for column in cursor.description), tuple(cursor.fetchall()))
