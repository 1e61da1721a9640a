"""Rows judged by their words alone, before any image is opened: a draft question, or the reason there is none.

A draft lacks what only its image can give: `image_ids` and `regions`. Outer blanks of every text are cut;
no other character of a text is changed here, and nothing is read twice under one question id.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.adapters.pixels import stored_image
from pipeline.adapters.sources.base import SourceRows, SourceShard, runs
from schemas.errors import InputError
from schemas.records import Finding, Image, Question, Region, Reject

STAGE = "ingest"
FILE_PROBLEMS = ("region_", "unasked_")  # error classes of rejects about a file beside the rows, not about a row
READ_BYTES_MAX = 64 << 20
_read: dict[Path, tuple[tuple[int, int], bytes, str]] = {}  # files of the shard digested last, which is read next
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class Problem:
    error_class: str
    message: str  # the same on every machine: no absolute path, no address


@dataclass(frozen=True, slots=True)
class Draft:
    """One row; `row_key` finds it again (`file#number`, from 0); a row may name several images, or none."""

    row_key: str
    image_names: tuple[str, ...]
    outcome: Question | Problem


@dataclass(frozen=True, slots=True)
class Group:
    """An image, or several that are asked about together, by name, and all rows about just them in file order."""

    image_names: tuple[str, ...]
    drafts: tuple[Draft, ...]
    modality: str | None = None

    @property
    def image_name(self) -> str:
        """The one image of a group of one; "" where rows name none."""
        return self.image_names[0] if self.image_names else ""

    def each(self) -> Iterator["Group"]:
        """Its images one by one."""
        for name in self.image_names:
            yield replace(self, image_names=(name,))


@dataclass(frozen=True, slots=True)
class Picture:
    """What an image file and the files beside it gave; `problems` are (row key, problem) of those files."""

    image: Image
    regions: tuple[Region, ...] = ()
    findings: tuple[Finding, ...] = ()
    problems: tuple[tuple[str, Problem], ...] = ()


def json_list(path: Path) -> list[Any]:
    """The rows of a JSON file in any Unicode encoding, with or without a byte order mark."""
    try:
        rows = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"not a readable JSON file: {what}", where=path, fix="fetch the file again") from error
    if not isinstance(rows, list):
        raise InputError(f"expected a JSON list of rows, found {type(rows).__name__}", where=path)
    return rows


def text_of(value: object) -> str | None:
    """A cell as text; None for null, blank, bool, nested and infinite values, and for half a surrogate pair."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float) and not isfinite(value):
        return None
    text = str(value).strip()
    has_surrogate = any("\ud800" <= character <= "\udfff" for character in text)
    return None if has_surrogate or not text else text


def draft(
    row_key: str, row: object, *, image: str, needs: Sequence[str], make: Callable[[dict[str, str]], Question]
) -> Draft:
    """`make(texts of the row)` if column `image` names a file inside the folder and `needs` all hold text."""
    if not isinstance(row, dict):
        return Draft(row_key, (), Problem("malformed_row", f"expected an object, found {type(row).__name__}"))
    texts = {name: text for name, value in row.items() if (text := text_of(value)) is not None}
    image_name = texts.get(image, "")
    if image_name and not is_inside(image_name):
        return Draft(row_key, (), Problem("unsafe_path", f"{image_name!r} points outside the image folder"))
    names = (image_name,) if image_name else ()
    for name in (image, *needs):
        if name not in texts:
            found = "is absent" if name not in row else f"is {row[name]!r:.80}"
            return Draft(row_key, names, Problem(f"missing_{name}", f"column `{name}` {found}"))
    return Draft(row_key, names, make(texts))


def is_inside(name: str) -> bool:
    """Whether a file name stays in its folder."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name


def without_repeats(drafts: Iterable[Draft]) -> list[Draft]:
    """The first draft of each question id stays; later ones say who was first."""
    taken: dict[str, str] = {}
    kept = []
    for row in drafts:
        if isinstance(row.outcome, Question):
            first = taken.setdefault(row.outcome.question_id, row.row_key)
            if first != row.row_key:
                problem = Problem("duplicate_qid", f"{row.outcome.question_id} is taken by {first}")
                row = replace(row, outcome=problem)  # noqa: PLW2901
        kept.append(row)
    return kept


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key that puts xmlab2 before xmlab10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name))


def shards(drafts: Iterable[Draft], files: Iterable[str], modality: Mapping[str, str | None]) -> list[SourceShard]:
    """All images of the folder and all that rows name, in natural order, in runs; payloads are `Group`s."""
    by_images: dict[tuple[str, ...], list[Draft]] = {}
    for row in drafts:
        by_images.setdefault(row.image_names, []).append(row)
    asked = {name for names in by_images for name in names}
    by_images |= {(name,): [] for name in files if name not in asked}
    groups = sorted(by_images, key=lambda names: [(natural(name), name) for name in names])
    return numbered(
        [Group(names, tuple(by_images[names]), modality.get(names[0]) if names else None) for names in groups]
    )


def numbered(groups: Sequence[Group]) -> list[SourceShard]:
    return [SourceShard(f"{number:05d}", tuple(run)) for number, run in enumerate(runs(groups))]


def digest(shard: SourceShard, root: Path, files: Iterable[str]) -> str:
    """sha256 over the drafts as canonical JSON and the bytes, or the absence, of each file under `root`."""
    drafts = json.dumps(shard.payload, default=_fields, sort_keys=True, separators=(",", ":"))
    whole = hashlib.sha256(drafts.encode())
    _read.clear()
    for name in files:
        whole.update(f"\n{name!a} {_file_sha256(root / name)}".encode())
    return whole.hexdigest()


def _fields(record: Any) -> dict[str, Any]:
    """As `asdict`, without a copy of everything in it."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _file_sha256(path: Path) -> str:
    try:
        data, mark = path.read_bytes(), _mark(path)
    except OSError as error:
        return type(error).__name__
    digest = hashlib.sha256(data).hexdigest()
    if len(data) + sum(len(kept) for _, kept, _ in _read.values()) <= READ_BYTES_MAX:
        _read[path] = mark, data, digest
    return digest


def _mark(path: Path) -> tuple[int, int]:
    """What changes with a file: its time and its size."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def _bytes_of(path: Path) -> tuple[bytes, str | None]:
    """The file, and its sha256 if known, as its shard's digest has just read it if it is still the same."""
    mark, data, digest = _read.pop(path, (None, b"", ""))
    return (data, digest) if mark is not None and mark == _mark(path) else (path.read_bytes(), None)


def image_file(file: Path, path: str, group: Group, *, source: str, licence: str) -> Image | Problem:
    """The image in `file`, to be stored under the name `path`, or why there is none."""
    try:
        data, digest = _bytes_of(file)
    except (FileNotFoundError, NotADirectoryError):
        return Problem("missing_image", f"no file {path}")
    except OSError as error:
        return Problem("unreadable_image", f"{path}: {error.strerror}")
    return image_of(data, path, group, source=source, licence=licence, sha256=digest)


def image_of(
    data: bytes, path: str, group: Group, *, source: str, licence: str, sha256: str | None = None
) -> Image | Problem:
    try:
        return stored_image(data, path, source=source, licence=licence, modality=group.modality, sha256=sha256)
    except InputError as error:
        return Problem("unreadable_image", f"{path}: {error.what}")


def gather(source: str, shard: SourceShard, look: Callable[[Group], Picture | Problem]) -> SourceRows:
    """Drafts meet their images: `look` is called with one image at a time, once per group that shows it."""
    rows = SourceRows()

    def refuse(row_key: str, problem: Problem) -> None:
        rows.rejects.append(Reject(STAGE, source, shard.key, row_key, problem.error_class, problem.message))

    for group in shard.payload:
        found = {each.image_name: look(each) for each in group.each()}
        for name, picture in found.items():
            if isinstance(picture, Picture):
                rows.images.append(picture.image)
                rows.findings.extend(picture.findings)
                for row_key, problem in picture.problems:
                    refuse(row_key, problem)
            elif not group.drafts:
                refuse(name, Problem(f"unasked_{picture.error_class}", picture.message))
        for row in group.drafts:
            outcome = _met(row, [found[name] for name in row.image_names])
            if isinstance(outcome, Problem):
                refuse(row.row_key, outcome)
            else:
                rows.questions.append(outcome)
    return rows


def _met(row: Draft, found: Sequence[Picture | Problem]) -> Question | Problem:
    """The question with what its images gave, or the first reason why there is none: its own, then theirs."""
    if isinstance(row.outcome, Problem):
        return row.outcome
    if not found:
        return Problem("missing_image", "the row names no image")
    if (problem := next((one for one in found if isinstance(one, Problem)), None)) is not None:
        return problem
    pictures = [one for one in found if isinstance(one, Picture)]
    patients = {picture.image.patient_key for picture in pictures}
    return replace(
        row.outcome,
        image_ids=tuple(picture.image.image_id for picture in pictures),
        regions=tuple(replace(each, image=at) for at, one in enumerate(pictures) for each in one.regions),
        patient_key=patients.pop() if len(patients) == 1 else None,
    )
