"""Files and one archive of a Hub data set, fetched as they are and unpacked; the sources read them like any folder.

`huggingface_hub` resumes what was cut off. The archive goes once it is unpacked: it would hold every picture twice.
"""

import shutil
from fnmatch import fnmatch
from pathlib import Path

from pipeline.adapters.sources import archives
from pipeline.adapters.sources.hub_errors import asking, library
from pipeline.adapters.sources.hub_sets import Files
from schemas.errors import InputError

CLIENT_FOLDER = ".cache"  # where huggingface_hub keeps what it needs to resume


def fetch(folder: Path, wanted: Files, *, repo: str, revision: str) -> dict[str, int]:
    """Fetch into `folder`; each file with its bytes, the archive with those it had.

    What is left of an earlier call is used: files in their place are not fetched again, nor is an unpacked archive.
    """
    archive, target = folder / wanted.archive.file, folder / wanted.archive.folder
    patterns = [name for name in wanted.patterns if not (target.is_dir() and name == wanted.archive.file)]
    with asking(repo):
        library("huggingface_hub").snapshot_download(
            repo, repo_type="dataset", revision=revision, local_dir=folder, allow_patterns=patterns
        )
    found = {path.relative_to(folder).as_posix(): path.stat().st_size for path in _files(folder, wanted)}
    if missing := [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in found)]:
        raise InputError(f"there is no {', '.join(missing)}", where=f"the Hub's data set {repo}", fix=_fix(wanted))
    if not target.is_dir():
        archives.unpack(archive, target, wanted.archive.wrappers)
    archive.unlink(missing_ok=True)
    shutil.rmtree(folder / CLIENT_FOLDER, ignore_errors=True)
    return found


def _files(folder: Path, wanted: Files) -> list[Path]:
    return sorted({path for pattern in wanted.patterns for path in folder.glob(pattern) if path.is_file()})


def _fix(wanted: Files) -> str:
    return f"name a copy or a revision with {', '.join(wanted.patterns)}"
