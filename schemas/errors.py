"""Every failure a user can cause or fix, as one small tree.

    FoveaError
    ├── UsageError        the command line or a recipe is wrong          (exit 2)
    ├── InputError        a source file, image or row cannot be read
    ├── SchemaError       a table does not have the columns it promises
    ├── StoreError        a store is missing, damaged, or lacks a version
    │   └── DigestError   bytes differ from what the manifest names
    ├── ConflictError     somebody else committed first; the caller re-reads and rebases
    ├── ExpertError       an expert gave no usable answer
    ├── CheckpointError   weights, tokenizer or run folder cannot be used
    └── TrainingError     a step cannot go on: non-finite loss, failed self-check

`main()` prints these without a traceback; anything else is a bug and keeps its own.
"""


class FoveaError(Exception):
    """What went wrong, where, and how to mend it; `where` and `fix` are optional lines of the message."""

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, None if where is None else str(where), fix
        super().__init__(what, self.where, fix)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)

    def __reduce__(self):
        return _rebuild, (type(self), self.what, self.where, self.fix)


def _rebuild(kind: type[FoveaError], what: str, where: str | None, fix: str | None) -> FoveaError:
    return kind(what, where=where, fix=fix)


class UsageError(FoveaError):
    exit_code = 2


class InputError(FoveaError):
    pass


class SchemaError(FoveaError):
    pass


class StoreError(FoveaError):
    pass


class DigestError(StoreError):
    pass


class ConflictError(FoveaError):
    pass


class ExpertError(FoveaError):
    pass


class CheckpointError(FoveaError):
    pass


class TrainingError(FoveaError):
    pass
