"""The prompts of an expert: one TOML file of templates, known by the sha256 of its text.

Templates take `$words` and nothing else: no code, no conditions. A file that lacks a prompt or uses a word that nobody
fills in is refused when it is read, not at the first question.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from schemas.boxes import Size
from schemas.errors import InputError

FAMILIES = ("absolute", "thousand", "unit")
PROMPTS = {  # prompt -> the words it may use
    "scan": frozenset(("question", "boxes_max", "coordinates")),
    "drill": frozenset(("question", "label")),
    "drill_stated": frozenset(("question", "label")),
    "check": frozenset(("coordinates",)),
}
OF_COORDINATES = frozenset(("width", "height"))


@dataclass(frozen=True, slots=True)
class Wording:
    """`sha256` of the text, line ends as in the repository."""

    templates: Mapping[str, Template]
    coordinates: Mapping[str, Template]
    sha256: str

    @classmethod
    def named(cls, expert: str) -> "Wording":
        """The prompts that ship with an expert."""
        return cls.read(Path(__file__).parent / "prompts" / f"{expert}.toml")

    @classmethod
    def read(cls, path: Path) -> "Wording":
        try:
            text = path.read_text(encoding="utf-8")
            plain = tomllib.loads(text)
            templates = {name: _template(plain[name], words) for name, words in PROMPTS.items()}
            coordinates = {name: _template(plain["coordinates"][name], OF_COORDINATES) for name in FAMILIES}
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
            why = f"no {error.args[0]!r} in it" if isinstance(error, KeyError) else error
            fix = f"it needs {sorted(PROMPTS)} and a table `coordinates` with {list(FAMILIES)}"
            raise InputError(f"these prompts cannot be used: {why}", where=path, fix=fix) from error
        return cls(templates, coordinates, hashlib.sha256(text.encode()).hexdigest())

    def scan(self, question: str, family: str, shown: Size, boxes_max: int) -> str:
        told = self._coordinates(family, shown)
        return self._filled("scan", question=question, boxes_max=str(boxes_max), coordinates=told)

    def drill(self, question: str, label: str, *, stated: bool) -> str:
        return self._filled("drill_stated" if stated else "drill", question=question, label=label)

    def check(self, family: str, shown: Size) -> str:
        return self._filled("check", coordinates=self._coordinates(family, shown))

    def _coordinates(self, family: str, shown: Size) -> str:
        return self.coordinates[family].substitute(width=shown[0], height=shown[1]).strip()

    def _filled(self, name: str, **words: str) -> str:
        return self.templates[name].substitute(words).strip()


def _template(text: object, words: frozenset[str]) -> Template:
    if not isinstance(text, str) or not text.strip():
        raise ValueError("a prompt has to be text")
    template = Template(text)
    if not template.is_valid() or (unknown := sorted(set(template.get_identifiers()) - words)):
        unknown = unknown if template.is_valid() else ["a lone $"]
        raise ValueError(f"{unknown} stands where only {sorted(words)} are filled in")
    return template
