"""A JSON Lines file, row by row: a line that is no JSON is a problem of that line, not of the file."""

import json
from collections.abc import Iterator
from pathlib import Path

from pipeline.adapters.sources.drafts import Problem
from schemas.errors import InputError

BOM = b"\xef\xbb\xbf"


def rows(path: Path) -> Iterator[tuple[int, object]]:
    """(line number from 0, its value or a `Problem`); blank lines are no rows."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines):
                if line.removeprefix(BOM).strip():
                    yield number, _value(line.removeprefix(BOM), number)
    except OSError as error:
        raise InputError(f"not a readable file: {error.strerror}", where=path, fix="fetch the file again") from error


def _value(line: bytes, number: int) -> object:
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        return Problem("malformed_row", f"line {number + 1} is no JSON: {error}")
