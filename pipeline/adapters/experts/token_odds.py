"""Confidence from the log-probabilities of tokens: how sure a model is of its yes, or of what it has just written.

Natural logarithms. Only what a server sent is used; the rest of the vocabulary is not estimated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

YES_NO_MASS_MIN = 0.1  # of the first word that must lie on yes or no, else it was no answer
_AROUND = " \t\r\n\"'`*_.,:;!?()[]<>{}|-#ĠĊ▁"  # white space, markup, and how tokenizers write a leading space


@dataclass(frozen=True, slots=True)
class Token:
    """A written token, its log-probability, and the likeliest tokens of its place with theirs."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Odds:
    """P(yes) and P(no) at the first word of a reply, summed over spellings."""

    yes: float
    no: float

    @property
    def share(self) -> float:
        return self.yes / (self.yes + self.no)


@dataclass(frozen=True, slots=True)
class Said:
    """What a model wrote; `tokens` None where the server gave no log-probabilities; `is_cut`: it ran out of tokens."""

    text: str
    tokens: tuple[Token, ...] | None = None
    is_cut: bool = False


def spoken(text: str) -> str:
    """A text without the thoughts that a reasoning model puts before it."""
    return text.rpartition("</think>")[2]


def yes_no(said: Said) -> Odds | None:
    """Odds at the first token that is a word; None where neither yes nor no is likely enough there to be the answer."""
    tokens = aligned(said)
    first = next((token for token in tokens if _word(token.text)), None)
    if first is None:
        return None
    places = dict(first.top) if first.text in dict(first.top) else {first.text: first.logprob, **dict(first.top)}
    mass = {"yes": 0.0, "no": 0.0}
    for text, logprob in places.items():
        if (word := _word(text)) in mass:
            mass[word] += math.exp(logprob)
    odds = Odds(mass["yes"], mass["no"])
    return odds if odds.yes + odds.no >= YES_NO_MASS_MIN else None


def geometric_mean(said: Said, span: tuple[int, int]) -> float | None:
    """exp(mean log P) over the tokens that touch the characters [start, end); None where tokens are unknown."""
    position, logprobs = 0, []
    for token in aligned(said):
        if position < span[1] and position + len(token.text) > span[0]:
            logprobs.append(token.logprob)
        position += len(token.text)
    return math.exp(math.fsum(logprobs) / len(logprobs)) if logprobs and position >= span[1] else None


def aligned(said: Said) -> Sequence[Token]:
    """The tokens that spell `text` from its first character on; none where they do not.

    Skipped are thoughts before the text and end markers after it: some servers count them as tokens, yet cut them off.
    """
    tokens = said.tokens or ()
    starts = {}
    position = 0
    for index, token in enumerate(tokens):
        starts.setdefault(position, index)
        position += len(token.text)
    first = starts.get("".join(token.text for token in tokens).rfind(said.text))
    return () if first is None else tokens[first:]


def are_sound(tokens: Sequence[Token]) -> bool:
    """Whether every log-probability is one: not NaN, not above 0 (but for rounding); −∞ is."""
    numbers = [token.logprob for token in tokens] + [logprob for token in tokens for _, logprob in token.top]
    return not math.isnan(sum(numbers)) and max(numbers, default=0.0) <= 1e-4


def _word(text: str) -> str:
    return text.strip(_AROUND).casefold()
