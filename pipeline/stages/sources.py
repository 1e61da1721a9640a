"""Which source data sets there are, and which options each takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.adapters.sources.base import Source
from pipeline.adapters.sources.slake import Slake
from pipeline.adapters.sources.vqa_rad import VqaRad
from pipeline.stages.phantom_source import PhantomSource
from schemas.errors import UsageError


@dataclass(frozen=True, slots=True)
class Entry:
    make: Callable[..., Source]
    options: frozenset[str]
    needs_root: bool
    defaults: Mapping[str, Any] = field(default_factory=dict)


SOURCES: dict[str, Entry] = {
    "phantom": Entry(
        PhantomSource,
        frozenset({"seed", "level", "n_train", "n_validation", "n_test", "side_px", "offset"}),
        needs_root=False,
        defaults={"seed": 0, "n_train": 200, "n_validation": 20, "n_test": 50},
    ),
    "vqa-rad": Entry(VqaRad, frozenset({"frames"}), needs_root=True),
    "slake": Entry(Slake, frozenset({"language"}), needs_root=True),
}


def make_source(name: str, root: str | None, options: Mapping[str, Any]) -> Source:
    """The source called `name`; UsageError for an unknown name, a missing --root, or an option it does not take."""
    if name not in SOURCES:
        raise UsageError(f"unknown source {name!r}", fix=f"one of: {', '.join(sorted(SOURCES))}")
    entry = SOURCES[name]
    given = {key: value for key, value in options.items() if value is not None}
    if wrong := sorted(given.keys() - entry.options):
        takes = ", ".join(sorted(entry.options)) or "none"
        raise UsageError(f"source {name} does not take {', '.join(wrong)}", fix=f"options it takes: {takes}")
    if entry.needs_root and root is None:
        raise UsageError(f"source {name} is read from a folder", fix="give it: --root DIR")
    if not entry.needs_root and root is not None:
        raise UsageError(f"source {name} reads no folder", fix="leave out --root")
    settings = {**entry.defaults, **given}
    return entry.make(root, **settings) if entry.needs_root else entry.make(**settings)
