"""VLMEvalKit's multiple-choice scoring without a model ("exact matching"): a letter near the end, else an option text.

Where the harness asks a language model what was meant, the answer is wrong and counted. An open MMMU question becomes
one of two choices, A the gold and B "Other Answers"; where its gold is itself a capital letter that letter stays the
key, as in the original, so a gold of "C" cannot be reached.
"""

import re
from collections.abc import Mapping
from string import ascii_uppercase

from schemas.protocols.base import Protocol, Verdict, decided
from schemas.protocols.options import gold_letter, is_choice, lettered
from schemas.records import Question

ASKS = "the harness asks a language model which option was meant"
REFUSED = "Z"

_SOURCES = ("mmmu", "medxpertqa", "omnimedvqa")
_BLANKED = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST_WORDS = 4
_VERBOSE = re.compile(r"(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**")
_NO_ANSWER = "Failed to obtain answer via API"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)


def infer(response: str, options: Mapping[str, str]) -> str | None:
    """An option's letter, Z for a refusal, None where the rules find nothing."""
    return _by_letter(response, options) or _by_text(response, options)


def _by_letter(response: str, options: Mapping[str, str]) -> str | None:
    """The one option letter among the words, if it first stands among the last four; else "answer is B"."""
    if _NO_ANSWER in response:
        return None
    if any(refusal in response for refusal in _REFUSALS):
        return REFUSED
    words = response.translate(_BLANKED).split()
    named = [letter for letter in options if letter in words]
    if len(named) == 1 and words.index(named[0]) >= len(words) - _LAST_WORDS:
        return named[0]
    if not named and REFUSED in words:
        return REFUSED
    match = _VERBOSE.search(response)
    return match[1].upper() if match and match[1].upper() in options else None


def _by_text(response: str, options: Mapping[str, str]) -> str | None:
    """The one option whose text stands anywhere in a response not over twice as long as all of them."""
    if len(response.lower()) > 2 * sum(map(len, options.values())):
        return None
    named = [letter for letter, text in options.items() if text.lower() in response.lower()]
    return named[0] if len(named) == 1 else None


def verdict(response: str, question: Question) -> Verdict:
    is_open = part(question) == "open"
    options = {"A": question.answer, "B": "Other Answers"} if is_open else lettered(question)
    said = infer(response, options)
    gold = _open_key(question.answer) if is_open else gold_letter(question)
    rule = "refusal" if said == REFUSED else "option" if said else "none"
    return decided(said == gold, rule, ASKS if said is None else None)


def _open_key(answer: str) -> str:
    return answer if len(answer) == 1 and answer in ascii_uppercase else "A"


def part(question: Question) -> str | None:
    if question.source == "mmmu" and question.answer_kind != "choice":
        return "open"
    return "choice" if question.source in _SOURCES and is_choice(question) else None


PROTOCOL = Protocol(
    name="vlmevalkit",
    origin="open-compass/VLMEvalKit@e8e78f05 vlmeval/utils/matching_util.py, vlmeval/dataset/image_mcq.py",
    covers="choice questions of mmmu, medxpertqa and omnimedvqa, and open ones of mmmu",
    headline="accuracy over all questions, open ones as choices",
    part=part,
    rule=verdict,
    prompts=("Please select the correct answer from the options above.",),
    groups={"": ("type",)},
)
