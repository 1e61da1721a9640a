"""The data card of a table: what a row is, its key, and every column, taken from the schema so that it cannot differ.

`python -m schemas.cards data_cards` writes them all; a test compares the files with the schema.
"""

import sys
from pathlib import Path

from schemas.columns import Table
from schemas.tables import TABLES


def card(table: Table) -> str:
    """Markdown with one line per column."""
    lines = [
        f"# {table.name}",
        "",
        table.about,
        "",
        f"Key: {', '.join(f'`{name}`' for name in table.key)}, within one slice. Schema `{table.schema_id}`.",
        "",
        "| column | type | null | meaning |",
        "|---|---|---|---|",
    ]
    for column in table.columns:
        is_null = "yes" if column.nullable else "no"
        lines.append(f"| `{column.name}` | {column.type} | {is_null} | {column.description.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def write_cards(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in TABLES.items():
        (folder / f"{name}.md").write_text(card(table), encoding="utf-8")


if __name__ == "__main__":
    write_cards(Path(sys.argv[1]))
