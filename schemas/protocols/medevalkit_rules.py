"""MedEvalKit's rules for one answer, as they are: what they find, what they miss, and where they break.

"no" is looked for inside words ("normal" says no), blanks survive the splitting, and a choice that cannot be read is
the most similar one, which for an empty answer is A. `medevalkit` says which data set meets which rule.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from string import ascii_lowercase

NOTHING_BOXED = "None"  # mathruler's word for a text without a \boxed{…}

_BOX = "\\boxed{"
_LEADS = (
    "**answer**:",
    "**answer**",
    "*answer*:",
    "**answer:**",
    "answer is",
    "answer:",
    "答案:",
    "final answer",
    "final answer is",
)


def boxed(text: str) -> str:
    r"""What stands in the last \boxed{…} with balanced braces, stripped; the word None where nothing does."""
    start, depth = text.rfind(_BOX), 0
    inner = text[start + len(_BOX) :] if start >= 0 else ""
    for place, char in enumerate(inner):
        depth += (char == "{") - (char == "}")
        if depth < 0:
            return inner[:place].strip()
    return NOTHING_BOXED


def tagged(text: str) -> str:
    """What stands between <answer> and </answer>, all pairs joined by blanks; the text itself where nothing does."""
    return " ".join(re.findall(r"<answer>(.*?)</answer>", text, re.DOTALL)).strip() or text


def final(response: str) -> str:
    """What the data set modules take before they judge: the box, else the tag, else all of it."""
    if (inside := boxed(response)) != NOTHING_BOXED:
        return inside
    return tagged(response) if "<answer>" in response else response


def parsed(response: str) -> str:
    """`parse_response`: lower case, box or tag, then the last piece after each of nine leads in turn; blanks stay."""
    text = response.lower()
    if "boxed" in text:
        text = boxed(text)
    elif "<answer>" in text:
        text = tagged(text)
    for lead in _LEADS:
        text = text.split(lead)[-1]
    return text


def bare(response: str) -> str:
    """`parsed` without line ends and full stops, as closed answers are compared."""
    return parsed(response).replace("\n", "").replace(".", "")


def is_judged(gold: str, response: str) -> bool:
    """Yes or no: exactly one of the two stands somewhere in the text, and it is the gold one."""
    said, gold = bare(response), gold.lower()
    return ("yes" in said) != ("no" in said) and gold in said


def breaks(text: str) -> bool:
    """Whether the original raises on this text beside an open answer: ROUGE without a sentence, F1 without a word."""
    return not text.strip(".") or not text.split()


def overlap(said: str, gold: str) -> tuple[float, float, float]:
    """(precision, recall, F1) over the sets of words; all 0 where nothing is shared."""
    words, wanted = set(said.lower().split()), set(gold.lower().split())
    n_shared = len(words & wanted)
    if not n_shared:
        return 0.0, 0.0, 0.0
    precision, recall = n_shared / len(words), n_shared / len(wanted)
    return precision, recall, 2 * precision * recall / (precision + recall)


def chosen(choices: Sequence[str], response: str) -> tuple[str, str]:
    """(letter, rule) of the choice that a response is taken for: its letter, else difflib's most similar choice.

    `choices` are written as the model saw them ("A. CT", " A:CT "), so that no response equals one after the cuts at
    full stop and colon, and the original's third rule, an equal text, cannot fire. Where none is similar it is the
    first.
    """
    letters = tuple(ascii_lowercase[: len(choices)])
    said = parsed(_block(response.lower(), letters)).strip().lower().replace("\n", "")  # NOTHING_BOXED too, here alone
    short = said.split(".")[0].split(":")[-1]
    if short in letters:
        return short, "letter"
    ratios = [SequenceMatcher(None, choice.lower(), said).ratio() for choice in choices]
    return letters[ratios.index(max(ratios))], "similar" if max(ratios) > 0 else "first"


def _block(response: str, letters: tuple[str, ...]) -> str:
    """The first or last paragraph where it is a letter and nothing else (the last up to a full stop)."""
    blocks = response.split("\n\n")
    first, last = blocks[0], blocks[-1].partition(".")[0]
    return first if first in letters else last if last in letters else response
