"""MMMU's own scoring: the option letter named last, else the option text; open answers by a contained text or number.

Where the original draws an option at random (seed 42), the answer is wrong and counted. An option letter has to stand
in brackets or between blanks: "B. MRI" and "B) MRI" name none.
"""

import ast
import re
from collections.abc import Iterable, Mapping

from schemas.protocols.base import Protocol, Verdict, decided
from schemas.protocols.options import gold_letter, is_choice, lettered
from schemas.records import Question

RANDOM = "the harness draws an option at random"

_STRIPPED = ",.!?;:'"  # one after the other, as often as each stands at an end
_WORDS_MIN = 6  # a shorter response is not searched for option texts
_LEADS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = (
    r"-?\b\d{1,3}(?:,\d{3})+\b",
    r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
    r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
)


def parse_choice(response: str, options: Mapping[str, str]) -> str | None:
    """The letter of the option named last: as (B), else as a word B, else by its text; None where there is none."""
    for mark in _STRIPPED:
        response = response.strip(mark)
    padded = f" {response} "
    for form in ("({})", " {} "):
        if (found := _last({letter: padded.rfind(form.format(letter)) for letter in options})) is not None:
            return found
    if len(padded.split()) < _WORDS_MIN:
        return None
    return _last({letter: padded.lower().rfind(text.lower()) for letter, text in options.items()})


def _last(places: Mapping[str, int]) -> str | None:
    found = {letter: place for letter, place in places.items() if place >= 0}
    return max(found, key=found.__getitem__) if found else None


def parse_open(response: str) -> list[str | float]:
    """Candidate answers: the tail of each line after a word like "is ", and every number in it, without repetition."""
    keys = _key_lines(response.strip().strip(".").lower())
    numbers = [number for key in keys for pattern in _NUMBERS for number in re.findall(pattern, key)]
    forms = [form for text in (*keys, *numbers) for form in normal_forms(text)]
    return list(dict.fromkeys(forms))


def _key_lines(response: str) -> list[str]:
    """The original also splits before a capital, of which a lowered text has none."""
    lines = response.split("\n")
    tails = [_tail(line, is_last=place == len(lines)) for place, line in enumerate(lines, start=1)]
    return [tail for tail in tails if tail and tail not in {":", ",", ".", "!", "?", ";", "'"}] or [response]


def _tail(line: str, *, is_last: bool) -> str | None:
    """The shortest text after the last of some leading word; the last line may also be an equation."""
    shortest: str | None = None
    for lead in (*_LEADS, "=") if is_last else _LEADS:
        if lead in line:
            tail = line.rpartition(lead)[2].strip()
            shortest = tail if not shortest or len(tail) < len(shortest) else shortest
    return shortest


def normal_forms(text: str) -> list[str | float]:
    """A number, to two decimals, or lower-case text; a single character only where a blank stands beside it."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        lowered = text.lower()
        return [f" {lowered}", f"{lowered} "] if len(lowered) == 1 else [lowered]


def golds(answer: str) -> list[str]:
    """The accepted answers of an open question: one, or those of a list written out."""
    if answer.strip().startswith("["):
        try:
            return [str(one) for one in ast.literal_eval(answer.strip())]
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return [answer]
    return [answer]


def is_open_right(said: Iterable[str | float], answer: str) -> bool:
    """Whether a said number is an accepted one, or a said text contains an accepted text."""
    wanted = [form for gold in golds(answer) for form in normal_forms(gold)]
    texts = [form for form in wanted if isinstance(form, str)]
    return any(any(text in one for text in texts) if isinstance(one, str) else one in wanted for one in said)


def verdict(response: str, question: Question) -> Verdict:
    if question.answer_kind != "choice":
        return decided(is_open_right(parse_open(response), question.answer), "open")
    said = parse_choice(response, lettered(question))
    return decided(said == gold_letter(question), "choice", RANDOM if said is None else None)


def part(question: Question) -> str | None:
    if question.source != "mmmu":
        return None
    return "open" if question.answer_kind != "choice" else "choice" if is_choice(question) else None


PROTOCOL = Protocol(
    name="mmmu-official",
    origin="MMMU-Benchmark/MMMU@bb0b95a9 mmmu/utils/eval_utils.py",
    covers="choice and open questions of source mmmu",
    headline="accuracy over all questions of the subjects together",
    part=part,
    rule=verdict,
    prompts=(
        "(A) …\\n(B) …\\nAnswer with the option's letter from the given choices directly.",
        "Answer the question using a single word or phrase.",
    ),
    groups={"": ("part", "type")},
)
