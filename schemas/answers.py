"""The judge of short answers: one strict rule for rewards and evaluation, without a model and without luck.

An answer is right when it *is* the gold answer after normalisation, says yes or no in its first word without taking it
back, or names exactly one option. Nothing is found inside words or sentences, nothing is guessed: known scorers take
"The lungs are normal." for *no*, "" for option A, and draw at random where they cannot parse (ours does none of it).
It is not the score of any published harness and must be reported under its own name.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from schemas.records import ANSWER_KINDS

Kind = Literal["closed", "open", "choice"]

ANSWER_CHARS_MAX = 4_096  # a longer text is no short answer

_YES = frozenset(("yes", "yeah", "true", "是", "是的", "有", "包含", "包括", "存在", "可以", "对"))
_NO = frozenset(("no", "nope", "false", "不是", "否", "没有", "不包含", "不包括", "不存在", "不可以", "不对"))
_NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS, start=1)}
_MARKS = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-")  # hyphens, en dash, minus
    | dict.fromkeys("\u2014\u2015", " - ")  # em dashes part sentences
    | dict.fromkeys("\u2018\u2019\u201b", "'")
    | dict.fromkeys("\u201c\u201d\u201e", '"')
    | {"。": ".", "、": ","}
)
_TRAILING = " .!?;:,"
_QUOTES = "\"'`*_"  # markdown emphasis encloses like a quote; the star of T2* does not
_BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">", "「": "」", "《": "》"}
_ONLY_MARKS = _TRAILING + _QUOTES + "".join(_BRACKETS) + "".join(_BRACKETS.values())
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_LEAD = re.compile(r"(?:(?:the )?(?:(?:correct|final|best|right) )?(?:answer|option|choice)\b(?: is)?:? ?){1,2}", re.I)
_LETTER = re.compile(r"\(?([a-z])(?:[).:,]+|(?= )|$)(?: - )? ?(.*)", re.I | re.A)
_OWN_LETTER = re.compile(r"\(?([a-z])[).:]+ ?(.+)", re.I | re.A)


def judge(response: str, gold: str, kind: Kind, options: Sequence[str] = ()) -> bool:
    """Whether `response` is right; an empty one never is, nor is any where `gold` is empty.

    Raises for no text whatsoever, only (ValueError) for an unknown `kind`. The gold of a choice may be a letter (taken
    as one if it could be both) or an option's text; a closed gold that is neither yes nor no is judged as if open.
    """
    if kind not in ANSWER_KINDS:
        raise ValueError(f"unknown kind of answer {kind!r}; there are {', '.join(ANSWER_KINDS)}")
    if max(len(response), len(gold)) > ANSWER_CHARS_MAX:
        return False
    said, wanted = normalise(response), normalise(gold)
    if not said or not wanted:
        return False
    if kind == "closed" and (truth := _truth_of(wanted)) is not None:
        return _verdict(response) is truth
    return _is_gold_option(response, gold, options) if kind == "choice" else said == wanted


def normalise(text: str, *, folds: bool = True) -> str:
    """The form in which two answers are compared.

    NFKC and case folding; single blanks; trailing punctuation and enclosing quotes or brackets off; "x-ray" one word,
    other hyphens inside words blanks; one…ten as digits; "the", and a leading "a" or "an", dropped from several words
    (elsewhere an "a" means something: hepatitis A, group A streptococcus).
    """
    text = _peel(_plain(text, folds))
    text = re.sub(r"\bx[ -]?ray", "xray", text)
    text = re.sub(r"(?<=\w)-(?=\w)", " ", text)
    text = re.sub(r" ?, ?", ", ", text)
    return " ".join(_NUMBERS.get(word, word) for word in _without_articles(text.split()))


def _plain(text: str, folds: bool = True) -> str:
    text = unicodedata.normalize("NFKC", text)
    text = unicodedata.normalize("NFKC", text.casefold()) if folds else text
    return " ".join(text.translate(_MARKS).split())


def _peel(text: str) -> str:
    """`text` without trailing punctuation and without the quotes and brackets that enclose all of it."""
    while True:
        text = text.rstrip(_TRAILING).lstrip()
        inner = _enclosed(text)
        if inner is None:
            return text if text.strip(_ONLY_MARKS) else ""
        text = inner


def _enclosed(text: str) -> str | None:
    """What stands between one pair of marks around the whole text: (b), "b", **b**, but not (a) and (b)."""
    first = text[:1]
    width = len(text) - len(text.lstrip(first)) if first and first in _QUOTES else 1
    last = first * width if first in _QUOTES else _BRACKETS.get(first)
    inner = text[width:-width]
    if not first or not last or not inner or not text.endswith(last):
        return None
    return None if first in inner or last in inner else inner


def _without_articles(words: list[str]) -> list[str]:
    kept = [word for place, word in enumerate(words) if word != "the" and (place > 0 or word not in ("a", "an"))]
    return kept or words if len(words) > 1 else words


def _truth_of(word: str) -> bool | None:
    return True if word in _YES else False if word in _NO else None


def _verdict(response: str) -> bool | None:
    """What the first word says, unless a whole word anywhere says the opposite."""
    words = _WORD.findall(_plain(response))
    truths = [_truth_of(word) for word in words]
    if not words or {True, False} <= set(truths):
        return None
    return truths[0] if truths[0] is not None else _truth_of(normalise(response))


def _is_gold_option(response: str, gold: str, options: Sequence[str]) -> bool:
    """Whether the response names one option and no other, and that is the gold one; repeating the gold always does.

    Capitals count where they alone tell symbols apart (genotypes AA, Aa and aa), not at the head of a word.
    """
    folds = not _capitals_count(options)
    if _peel(_plain(response, folds)) == _peel(_plain(gold, folds)):
        return True
    texts = _option_texts(options, folds)
    golden = [index for index in _named(gold, texts, folds) if index is not None]
    if not golden:
        return normalise(response) == normalise(gold)
    return {index for index in _named(response, texts, folds) if index is not None} == {golden[0]}


def _capitals_count(options: Sequence[str]) -> bool:
    """Whether two options differ in capitals alone, and one is a single letter or has a capital behind its first."""
    alike: dict[str, set[str]] = {}
    for folded, text in zip(_option_texts(options, True), _option_texts(options, False), strict=True):
        alike.setdefault(folded, set()).add(text)
    twins = (text for texts in alike.values() if len(texts) > 1 for text in texts)
    return any(len(text) == 1 or text[1:] != text[1:].lower() for text in twins)


def _option_texts(options: Sequence[str], folds: bool) -> list[str]:
    """Normalised texts, without the letters where every option carries its own ("A:Diffuse", "B:Focal")."""
    own = [_OWN_LETTER.fullmatch(_plain(option, folds)) for option in options]
    if all(match and match[1].lower() == chr(ord("a") + index) for index, match in enumerate(own)):
        return [normalise(match[2], folds=folds) for match in own if match]
    return [normalise(option, folds=folds) for option in options]


def _named(text: str, texts: list[str], folds: bool) -> tuple[int | None, int | None]:
    """The option named by letter (alone, or before its own text) and by text; equal texts count as their first."""
    plain = _peel(_plain(text, folds))
    lead = _LEAD.match(plain)
    claim = _peel(plain[lead.end() :] if lead else plain)
    forms = (normalise(text, folds=folds), normalise(claim, folds=folds))
    by_text = next((texts.index(form) for form in forms if form and form in texts), None)
    return _by_letter(claim, texts, folds), by_text


def _by_letter(claim: str, texts: list[str], folds: bool) -> int | None:
    match = _LETTER.fullmatch(claim)
    if match is None:
        return None
    index, rest = ord(match[1].lower()) - ord("a"), normalise(match[2], folds=folds)
    if not texts:  # nothing to check the letter against
        return None if rest else index
    if index >= len(texts) or rest not in ("", texts[index]):
        return None
    return texts.index(texts[index]) if texts[index] else index
