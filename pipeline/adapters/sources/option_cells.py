"""Options that stand in columns of their own, A to D, and the gold one as a label or as a text.

Empty cells after the last option are no options, an empty one between two is a `Problem`: place and letter must agree.
What the gold is stored as is the business of `choices`.
"""

import re
from collections.abc import Sequence
from string import ascii_uppercase

from pipeline.adapters.sources import choices
from pipeline.adapters.sources.drafts import Problem, text_of

_LABEL = re.compile(r"\(?([A-Za-z])\)?[.:]?")


def options_of(cells: Sequence[object], *, lettered: bool = False) -> tuple[str, ...] | Problem:
    """With `lettered`, " A:Diffuse " is "Diffuse"; a letter that is not the option's own stays part of its text."""
    texts = [text_of(cell) or "" for cell in cells]
    if lettered:
        texts = [re.sub(f"^{letter} *: *", "", text) for letter, text in zip(ascii_uppercase, texts, strict=False)]
    while texts and not texts[-1]:
        texts.pop()
    return choices.options_of(texts)


def by_label(label: str, options: Sequence[str]) -> str | Problem:
    """The gold that a letter names, whatever blanks, brackets, colon or full stop stand around it."""
    found = _LABEL.fullmatch(label.strip())
    return choices.gold_of((found[1] if found else label.strip()).upper(), options)


def by_text(answer: str, options: Sequence[str]) -> str | Problem:
    """The gold that a text names: by equality, else regardless of capitals, runs of blanks and a last full stop.

    Options of equal text name the same gold; different ones that fit alike name none.
    """
    for form in (str.strip, _folded):
        fitting = [place for place, option in enumerate(options) if form(option) == form(answer)]
        if len({options[place] for place in fitting}) == 1:
            return choices.gold_of(ascii_uppercase[fitting[0]], options)
    return Problem("bad_answer", f"answer {answer!r:.80} is none of {len(options)} options, or several")


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(". ")
