"""What can go wrong between here and the Hub, said so that a person can mend it; and the libraries that talk to it.

Their exceptions have no common root (httpx, fsspec, `datasets` and Python's own all pass through), so whatever a call
into them raises is taken for theirs. Only such calls may stand inside `asking`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from schemas.errors import FoveaError, InputError, UsageError

BY_HAND = "or fetch the files by other means and give their folder: --root DIR"
REFUSED = {"RepositoryNotFoundError", "DatasetNotFoundError", "GatedRepoError"}
UNKNOWN = {"RevisionNotFoundError", "EntryNotFoundError", "ValueError", "DataFilesNotFoundError"}


def library(name: str) -> ModuleType:
    """`datasets` or `huggingface_hub`, imported only when something is fetched."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(f"the Hub needs the library {name}", fix=f"pip install {name}") from error


@contextmanager
def asking(repo: str) -> Iterator[None]:
    """Failures of the libraries inside become InputErrors about the data set `repo`."""
    try:
        yield
    except FoveaError:
        raise
    except Exception as error:
        reasons = [error, error.__cause__] if error.__cause__ else [error]
        words = [f"{type(each).__name__}: {' '.join(str(each).split()):.200}" for each in reasons]
        raise InputError(
            f"cannot fetch it: {'; '.join(words)}", where=f"the Hub's data set {repo}", fix=_fix(error)
        ) from error


def _fix(error: Exception) -> str:
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & REFUSED:
        return f"look at the id; if access must be granted, accept its terms and `hf auth login`, {BY_HAND}"
    if names & UNKNOWN and "LocalEntryNotFoundError" not in names:  # which is how a lost connection ends
        return f"look at the id and the revision, {BY_HAND}"
    return f"run it again where huggingface.co can be reached (what has arrived is kept), {BY_HAND}"
