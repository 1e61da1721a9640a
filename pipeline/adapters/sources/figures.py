"""Rows of large sets, kept as texts until their shard is read: a plan takes a third of the memory, and no judging.

A row is told apart by its key; what it means is its source's business, when it is read.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.adapters.sources import drafts
from pipeline.adapters.sources.base import SourceShard, runs
from pipeline.adapters.sources.drafts import Draft, Group, Problem


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture by name, "" where rows name none, and of all rows about it (row key, what is kept of it, as JSON)."""

    image_name: str
    rows: tuple[tuple[str, str], ...]


def shards(rows: Iterable[tuple[str, str | None, Any]]) -> list[SourceShard]:
    """Rows come as (row key, image name, what is kept of it or why it is refused); figures are sorted by name."""
    by_figure: dict[str, list[tuple[str, str]]] = {}
    for key, name, row in rows:
        plain = {"problem": [row.error_class, row.message]} if isinstance(row, Problem) else {"row": row}
        figure = name if name and drafts.is_inside(name) else ""
        by_figure.setdefault(figure, []).append((key, json.dumps(plain)))
    figures = [Figure(name, tuple(by_figure.pop(name))) for name in sorted(by_figure)]
    return [SourceShard(f"{number:05d}", tuple(run)) for number, run in enumerate(runs(figures))]


def digest(shard: SourceShard, root: Path, paths_of: Callable[[str], Iterable[str]]) -> str:
    """sha256 over the rows and the files that may hold each picture, which `paths_of` names under `root`."""
    return drafts.digest(
        shard, root, (path for one in shard.payload if one.image_name for path in paths_of(one.image_name))
    )


def drafted(shard: SourceShard, draft_of: Callable[[str, Any], Draft]) -> SourceShard:
    """The shard with `Group`s for figures; `draft_of(row key, what was kept)` judges each row."""
    groups = [
        Group((one.image_name,) if one.image_name else (), tuple(_draft(key, text, draft_of) for key, text in one.rows))
        for one in shard.payload
    ]
    return replace(shard, payload=tuple(groups))


def kept_rows(figure: Figure) -> Iterable[Any]:
    """What was kept of each row that was not refused."""
    return (plain["row"] for _, text in figure.rows if "row" in (plain := json.loads(text)))


def _draft(row_key: str, text: str, draft_of: Callable[[str, Any], Draft]) -> Draft:
    plain = json.loads(text)
    if "problem" in plain:
        return Draft(row_key, (), Problem(*plain["problem"]))
    return draft_of(row_key, plain["row"])
