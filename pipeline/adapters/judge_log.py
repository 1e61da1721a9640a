"""The record of a model judge: one JSON line per verdict, in the order of asking, appended and never rewritten.

It holds what was asked as digests and the raw reply as text; no key, no address, no time. Any number of processes may
write to one log, and a kill at any byte costs at most the verdict that was being written.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import BinaryIO

from schemas.errors import InputError

_OPENING = b'{"question_id": '  # how a line that a kill has torn begins


@dataclass(frozen=True, slots=True)
class Judgement:
    """`prompt_sha256` is of the prompt's template, `asked_sha256` of the prompt as sent; `verdict` null: unjudged."""

    question_id: str
    response_sha256: str
    prompt_sha256: str
    asked_sha256: str
    model: str
    reply: str
    verdict: str | None

    @property
    def key(self) -> tuple[str, str]:
        return self.model, self.asked_sha256


class JudgeLog:
    """Judgements by (model, asked_sha256); the first of equal keys stands."""

    def __init__(self, path: Path, *, is_written: bool = False) -> None:
        """With `is_written`, an InputError now if nothing can be written, not after the first paid reply."""
        self.path = path
        self._known: dict[tuple[str, str], Judgement] = {}
        self._n_lines = self._n_bytes = 0  # of the file that are known
        if is_written:
            with self._locked():
                return
        try:
            with path.open("rb") as file:
                self._read_on(file)
        except FileNotFoundError:
            pass
        except OSError:
            raise InputError("the judge log cannot be read", where=path) from None

    def get(self, key: tuple[str, str]) -> Judgement | None:
        return self._known.get(key)

    def add(self, made: Judgement) -> Judgement:
        """Write a judgement down before anything else happens; returns the one that stands, which may be another's."""
        line = (json.dumps(asdict(made)) + "\n").encode()
        with self._locked() as file:
            if made.key not in self._known:
                file.truncate(self._n_bytes)  # what a kill left of a line: nobody is writing it now
                file.write(line)
                file.flush()
                self._keep(made, len(line))
        return self._known[made.key]

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """The file for one writer at a time, with all that others have written to it known."""
        try:
            with self.path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._read_on(file)
                yield file
        except OSError as error:
            raise InputError(f"the judge log cannot be written: {error.strerror}", where=self.path) from None

    def _read_on(self, file: BinaryIO) -> None:
        """Keep the whole lines after those that are known."""
        if file.seek(0, os.SEEK_END) < self._n_bytes:
            raise InputError("the judge log was cut short while it was in use", where=self.path, fix="run it again")
        file.seek(self._n_bytes)
        for line in file.readlines():
            if line.endswith(b"\n"):
                self._keep(self._parsed(line), len(line))
            elif line[: len(_OPENING)] != _OPENING[: len(line)]:
                raise self._no_verdict()

    def _keep(self, made: Judgement, n_bytes: int) -> None:
        self._known.setdefault(made.key, made)
        self._n_lines += 1
        self._n_bytes += n_bytes

    def _parsed(self, line: bytes) -> Judgement:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        names = [field.name for field in fields(Judgement)]
        is_whole = isinstance(row, dict) and sorted(row) == sorted(names)
        texts = [row[name] for name in names if name != "verdict"] if is_whole else [None]
        if not all(isinstance(text, str) for text in texts) or row["verdict"] not in ("correct", "wrong", None):
            raise self._no_verdict()
        return Judgement(**row)

    def _no_verdict(self) -> InputError:
        what = f"line {self._n_lines + 1} of the judge log is no verdict"
        return InputError(what, where=self.path, fix="delete that line")
