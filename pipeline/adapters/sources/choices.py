"""Multiple choice as rows tell it: option texts, a gold letter, and `<image k>` where an image belongs.

A gold answer is stored as its option's own text wherever that text can mean no other option; else as its letter.
Nothing is guessed: a letter without an option, or an image without a file, is a `Problem`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from string import ascii_uppercase

from pipeline.adapters.sources.drafts import Problem, text_of
from schemas.answers import judge, normalise

PLACEHOLDER = re.compile(r"<image ([1-9][0-9]?)>")
OPTIONS_MIN = 2


def options_of(values: object) -> tuple[str, ...] | Problem:
    """The options of a row, in the order of their letters: a list of 2 to 26 texts or numbers, none blank."""
    if not isinstance(values, list):
        return Problem("bad_options", f"options are {type(values).__name__}, not a list")
    if not OPTIONS_MIN <= len(values) <= len(ascii_uppercase):
        return Problem("bad_options", f"{len(values)} options")
    texts = [text_of(value) for value in values]
    for letter, value, text in zip(ascii_uppercase, values, texts, strict=False):
        if text is None:
            return Problem("bad_options", f"option {letter} is {value!r:.80}")
    return tuple(text for text in texts if text is not None)


def gold_of(letter: str, options: Sequence[str]) -> str | Problem:
    """The gold answer to store for a gold letter.

    The letter stays where the text shows an image, is the letter or the text of another option once normalised, or is
    nothing but marks: read as a letter if it can be one, else as a text, a stored gold is always the same option.
    """
    letters = ascii_uppercase[: len(options)]
    if len(letter) != 1 or letter not in letters:
        return Problem("bad_answer", f"answer {letter!r:.80} is none of {letters}")
    text = options[letters.index(letter)]
    is_alone = [normalise(option) for option in options].count(normalise(text)) == 1
    is_read_so = [each for each in letters if judge(each, text, "choice", options)] == [letter]
    return text if is_alone and is_read_so and not PLACEHOLDER.search(text) else letter


def images_named(texts: Iterable[str]) -> set[int]:
    """The k of every `<image k>`, from 1."""
    return {int(number) for text in texts for number in PLACEHOLDER.findall(text)}


def renumbered(text: str, positions: Mapping[int, int]) -> str:
    """`text` with the source's image numbers replaced by positions among the images shown, from 1."""
    return PLACEHOLDER.sub(lambda found: f"<image {positions[int(found[1])]}>", text)
