"""A source's data set, fetched from the Hub once a commit into `work/hub/` of a store, then read from there.

A unit (a config, or a choice of files) is fetched beside its place and renamed into it when it is whole, so what has
its place is finished and is never fetched again. A name that moves, such as `main`, is asked for its commit first.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.adapters.sources import hub_files, hub_rows
from pipeline.adapters.sources.hub_errors import asking, library
from pipeline.adapters.sources.hub_sets import Files, Rows, hub_set
from schemas.errors import InputError, UsageError
from schemas.manifest import canonical

REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
RECORD = "fetched.json"
ONLY_CONFIG = "data"  # the folder of rows that belong to no config, as on the Hub


@dataclass(frozen=True, slots=True)
class Fetched:
    """`root` is what the source reads; `repo` and `commit` say exactly what it is."""

    root: Path
    repo: str
    commit: str


def fetch(
    store: Path, source: str, options: Mapping[str, Any], *, repo: str | None = None, revision: str | None = None
) -> Fetched:
    """Everything that `source` needs with `options`, fetched unless it is there. `revision` is a commit or a name."""
    wanted = hub_set(source, options)
    repo = repo or wanted.repo
    if not REPO.fullmatch(repo) or ".." in repo:
        raise UsageError(f"{repo!r} is no id of a Hub data set", fix=f"owner/name, such as {wanted.repo}")
    if Path(repo).exists():
        raise UsageError(f"a folder {repo} is here, and might be taken for it", fix=f"--root {repo}, or go elsewhere")
    home = store / "work" / "hub" / repo.replace("/", "--")
    commit = _commit(repo, revision or "main", home)
    with _alone(home, commit):
        for unit in _units(wanted):
            if not (home / commit / unit).is_dir():
                _fetch_unit(home, wanted, unit, repo, commit)
    shutil.rmtree(home / f"{commit}.partial", ignore_errors=True)
    root = home / commit if isinstance(wanted, Rows) else home / commit / wanted.part
    return Fetched(root, repo, commit)


def _units(wanted: Rows | Files) -> list[str]:
    return [wanted.part] if isinstance(wanted, Files) else [config or ONLY_CONFIG for config in wanted.configs]


def _fetch_unit(home: Path, wanted: Rows | Files, unit: str, repo: str, commit: str) -> None:
    partial, place = home / f"{commit}.partial" / unit, home / commit / unit
    partial.mkdir(parents=True, exist_ok=True)
    found: dict[str, int] = {}
    if isinstance(wanted, Files):
        found = hub_files.fetch(partial, wanted, repo=repo, revision=commit)
    else:
        config = None if unit == ONLY_CONFIG else unit
        for split in wanted.splits:
            found[split] = hub_rows.spool(partial, wanted, split, repo=repo, revision=commit, config=config)
    (partial / RECORD).write_bytes(canonical({"repo": repo, "commit": commit, "unit": unit, "found": found}))
    place.parent.mkdir(parents=True, exist_ok=True)
    os.rename(partial, place)


def _commit(repo: str, revision: str, home: Path) -> str:
    if COMMIT.fullmatch(revision):
        return revision
    try:
        with asking(repo):
            return str(library("huggingface_hub").HfApi().dataset_info(repo, revision=revision).sha)
    except InputError as error:
        if here := sorted(path.name for path in home.glob("*") if COMMIT.fullmatch(path.name)):
            fix = f"commits fetched before need no network: --hub-revision {' or '.join(here)}"
            raise InputError(error.what, where=error.where, fix=fix) from error
        raise


@contextmanager
def _alone(home: Path, commit: str) -> Iterator[None]:
    """One process at a time fetches a commit; the system frees the lock of a process that dies."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / f"{commit}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError("another fovea is fetching this", where=home, fix="wait for it, run again") from error
        yield
