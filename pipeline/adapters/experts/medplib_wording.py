"""The prompts of the `medplib` expert: a TOML file of two templates, known by the sha256 of its text.

Templates take `$words` and nothing else. A file that would make the model read something other than what stands there
(a token of its own, a drill without its region) is refused when it is read, not at the first question.
"""

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from string import Template

from pipeline.adapters.experts.medplib_contract import REGION, text_problem
from schemas.errors import InputError

SHIPPED = Path(__file__).parent / "prompts" / "medplib.toml"


@dataclass(frozen=True, slots=True)
class Wording:
    """The prompts of a TOML file, known by the sha256 of its text."""

    scan: Template
    drill: Template
    sha256: str

    @classmethod
    def read(cls, path: Path) -> "Wording":
        """InputError for a file that lacks a prompt, has a word nobody fills in, or a token of the model."""
        try:
            text = path.read_text(encoding="utf-8")
            plain = tomllib.loads(text)
            scan = _template(plain["scan"], ("question",), with_region=False)
            drill = _template(plain["drill"], ("question", "label"), with_region=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f"no {error.args[0]!r} in it" if isinstance(error, KeyError) else error
            fix = f"it needs a text `scan`, which may hold $question, and `drill`, also $label, with {REGION} in it"
            raise InputError(f"these prompts cannot be used: {why}", where=path, fix=fix) from error
        return cls(scan, drill, hashlib.sha256(text.encode()).hexdigest())


def _template(text: object, words: tuple[str, ...], *, with_region: bool) -> Template:
    if not isinstance(text, str) or not text.strip():
        raise ValueError("a prompt has to be text")
    template = Template(text)
    if not template.is_valid() or set(template.get_identifiers()) - set(words):
        raise ValueError(f"a $ that stands for none of {', '.join(words)}")
    if why := text_problem(text, with_region=with_region):
        raise ValueError(f"a prompt that {why}")
    return template
