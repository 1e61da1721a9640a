"""Rows of a CSV file, one at a time, as its header names them; a row that does not fit the header is a `Problem`.

Quoted line breaks, CRLF and a byte order mark are read as what they are. Nothing is guessed: no other separator, no
type, and a quote that never ends is an error, because it would swallow the rest of the file in silence.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.adapters.sources.drafts import Problem
from schemas.errors import InputError

REFETCH = "fetch the file again"
FIELD_CHARS_MAX = 1 << 20  # a longer cell is an unclosed quote, not a caption


def rows(path: Path, needs: Sequence[str | tuple[str, ...]] = ()) -> Iterator[tuple[int, dict[str, str] | Problem]]:
    """(row number from 0, row); `needs` are columns the header must have, a tuple where one of several will do.

    Blanks around names of columns are cut, cells stay as they are. Empty lines are no rows.
    """
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_CHARS_MAX))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            names = _header(next(reader, []), needs, path)
            filled = (cells for cells in reader if cells)
            yield from ((number, _row(names, cells)) for number, cells in enumerate(filled))
    except csv.Error as error:
        raise InputError(f"not readable as CSV, line {reader.line_num}: {error}", where=path, fix=REFETCH) from error
    except (OSError, UnicodeError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"not a readable CSV file: {what}", where=path, fix=REFETCH) from error


def _header(cells: list[str], needs: Sequence[str | tuple[str, ...]], path: Path) -> list[str]:
    names = [cell.strip() for cell in cells]
    choices = [(need,) if isinstance(need, str) else need for need in needs]
    missing = [" or ".join(names_) for names_ in choices if not set(names_) & set(names)]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if missing or twice or not names:
        what = (
            f"columns {missing} are missing" if missing else f"columns {twice} occur twice" if twice else "empty file"
        )
        raise InputError(what, where=path, fix=f"the header has {names}")
    return names


def _row(names: list[str], cells: list[str]) -> dict[str, str] | Problem:
    if len(cells) != len(names):
        return Problem("malformed_row", f"{len(cells)} cells, the header has {len(names)}")
    return dict(zip(names, cells, strict=True))
