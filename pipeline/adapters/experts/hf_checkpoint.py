"""A vision-language model in a folder: of which family it is, how that family counts, and what it is called by.

It is known by the sha256 of every file that an answer depends on, so that a copy elsewhere is the same expert and
changed weights are another one; path and dates are never part of it, and no other file of the folder is ever read.
Pickled weights, adapters and other families are refused before anything is loaded; no model is loaded here.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from schemas.errors import UsageError
from schemas.manifest import sha256_of

FAMILIES = {  # model type -> how it is used to count
    "qwen2_5_vl": "absolute",
    "qwen3_vl": "thousand",
    "qwen3_vl_moe": "thousand",
}
ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
IMAGE_FILES = ("preprocessor_config.json", "processor_config.json")  # one of them
READ = (  # what answers depend on beside the weights, where there is such a file
    "config.json",
    *IMAGE_FILES,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    INDEX,
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that can be read; `files` are the names of those that count, weights among them."""

    folder: Path
    model_type: str
    multiple_px: int  # sides of its pictures are multiples of this: patch × merged patches
    files: tuple[str, ...]

    @classmethod
    def at(cls, path: str) -> "Checkpoint":
        """UsageError, with what is to be done, for a folder that cannot be used."""
        folder = Path(path)
        if not path or not folder.is_dir():
            fix = "path=FOLDER of a model on this machine; nothing is downloaded: hf download MODEL --local-dir FOLDER"
            raise UsageError("the model's folder is not there" if path else "path is missing", where=path, fix=fix)
        config = _read_object(folder / "config.json")
        model_type, vision = config.get("model_type"), config.get("vision_config")
        if model_type not in FAMILIES:
            raise UsageError(f"a model of type {model_type!r}", where=folder, fix=f"take one of {', '.join(FAMILIES)}")
        if (folder / "adapter_config.json").exists():
            raise UsageError("an adapter, not a whole model", where=folder, fix="merge it into its model first")
        if not (folder / "tokenizer.json").is_file() or not any((folder / name).is_file() for name in IMAGE_FILES):
            fix = f"it needs tokenizer.json and {' or '.join(IMAGE_FILES)}"
            raise UsageError("the tokenizer or the image processor is not there", where=folder, fix=fix)
        read = (name for name in READ if (folder / name).is_file())
        return cls(folder, model_type, _multiple_px(vision, folder), tuple(sorted({*read, *_weights(folder)})))

    @property
    def coordinates(self) -> str:
        return FAMILIES[self.model_type]

    @property
    def sha256(self) -> str:
        """Of names and contents; computed once per process for files that stay as they are."""
        stats = ((name, (self.folder / name).stat()) for name in self.files)
        return _sha256(self.folder.resolve(), tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))

    @contextmanager
    def alone(self) -> Iterator[Path]:
        """A folder of links to `files`, for a library that would also follow a config or a template to other files."""
        with TemporaryDirectory(prefix="fovea-") as made:
            for name in self.files:
                (Path(made) / name).symlink_to((self.folder / name).resolve())
            yield Path(made)


@lru_cache(maxsize=16)
def _sha256(folder: Path, stats: tuple[tuple[str, int, int], ...]) -> str:
    return sha256_of([[name, _file_sha256(folder / name)] for name, _, _ in stats])


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weights(folder: Path) -> Iterator[str]:
    """Names of the weight files that will be loaded: not, for one, those of an optimizer."""
    if (folder / ONE_FILE).is_file():
        yield ONE_FILE
        return
    if not (folder / INDEX).is_file():
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))
        what = "only pickled weights, which are never read" if pickled else "no weights"
        raise UsageError(what, where=folder, fix=f"the folder needs {ONE_FILE}, or {INDEX} and what it names")
    named = _read_object(folder / INDEX).get("weight_map")
    names = sorted(set(map(str, named.values()))) if isinstance(named, dict) else []
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing or not names:
        raise UsageError(f"weights are missing: {missing[:3]}", where=folder, fix="download the rest of the model")
    yield from names


def _multiple_px(vision: object, folder: Path) -> int:
    """Both families take patches of equal sides and merge them by two."""
    sides = [vision.get("patch_size"), vision.get("spatial_merge_size", 2)] if isinstance(vision, dict) else []
    if not sides or any(type(side) is not int or side < 1 for side in sides):
        raise UsageError("config.json does not say the size of a patch", where=folder, fix="download the model again")
    return sides[0] * sides[1]


def _read_object(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path.name} cannot be read", where=path.parent, fix="download the model again") from error
    if not isinstance(plain, dict):
        raise UsageError(f"{path.name} is no JSON object", where=path.parent, fix="download the model again")
    return plain
