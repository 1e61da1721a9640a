"""LLaVA-Med's scoring: recall of gold words for open questions, "contains" for closed ones, no number over both.

Recall counts every occurrence in the response of a word of the gold, so saying a word twice counts twice. A closed
answer must contain "yes" or "no", even inside a word, so a choice like "MRI" cannot be right. The original's PathVQA
script leaves wrong yes/no answers out of the mean; here they count as wrong, as in its other script, and are counted.
"""

import re
from collections import Counter

from schemas.protocols.base import Protocol, Verdict, decided
from schemas.protocols.options import label_of
from schemas.records import Question

LEFT_OUT = "run_eval_pvqa.py leaves a wrong yes/no answer out of its mean"

_MARKS = (*';/[]"{}()=+\\_-><@`,?!',)
_DIGIT_COMMA = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_FULL_STOPS_MAX = 32  # the original passes a flag of that value as the number of replacements
_WORDS = {
    "none": "0",
    "zero": "0",
    **{word: str(n) for n, word in enumerate("one two three four five six seven eight nine ten".split(), start=1)},
}
_ARTICLES = ("a", "an", "the")
# VQA's contractions; each is restored where exactly one of its apostrophes is missing
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()


def _contractions() -> dict[str, str]:
    made = {
        form[:place] + form[place + 1 :]: form for form in _CONTRACTED for place, char in enumerate(form) if char == "'"
    }
    return {**made, "somebody'd": "somebodyd"}  # the wrong way round in the original


_CONTRACTIONS = _contractions()


def normalise(text: str) -> str:
    """VQA's normal form: marks off or blank, number words as digits ("none" as 0), articles off, apostrophes back."""
    loses_marks = bool(_DIGIT_COMMA.search(text))
    kept = text
    for mark in _MARKS:
        touches_blank = f"{mark} " in text or f" {mark}" in text
        kept = kept.replace(mark, "" if touches_blank or loses_marks else " ")
    kept = _FULL_STOP.sub("", kept, count=_FULL_STOPS_MAX)
    words = [_WORDS.get(word, word) for word in kept.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def overlap(said: str, gold: str) -> dict[str, float]:
    """recall = TP/(TP + FN), precision = TP/(TP + FP), f1, and `exact`, the share of the said words the gold covers.

    TP and FP count words of the response as often as they stand there, FN words of the gold that are not in it.
    """
    words, wanted = (Counter(normalise(text).split()) for text in (said, gold))
    shared = sum(n for word, n in words.items() if word in wanted)
    missed = sum(n for word, n in wanted.items() if word not in words)
    n_said = sum(words.values())
    exact = sum(word in words for word in wanted) / n_said if n_said else 0.0
    if not shared:
        return {"recall": 0.0, "precision": 0.0, "f1": 0.0, "exact": exact}
    recall, precision = shared / (shared + missed), shared / n_said
    return {
        "recall": recall,
        "precision": precision,
        "f1": 2 * precision * recall / (precision + recall),
        "exact": exact,
    }


def is_closed_right(said: str, gold: str) -> bool:
    """Both as `normalise` leaves them."""
    return ("yes" in said or "no" in said) and gold in said


def verdict(response: str, question: Question) -> Verdict:
    said, gold = normalise(response.lower()), normalise(question.answer.lower())
    if part(question) == "open":
        found = overlap(said, gold)
        return Verdict(found.pop("recall"), None, "recall", also=tuple(found.items()))
    is_correct = is_closed_right(said, gold)
    is_left_out = question.source == "path-vqa" and not is_correct and ("yes" in said or "no" in said)
    return decided(is_correct, "contains", LEFT_OUT if is_left_out else None)


def part(question: Question) -> str | None:
    """By the source's own label; PathVQA's closed questions are those whose answer is yes or no."""
    if question.source not in ("vqa-rad", "slake", "path-vqa"):
        return None
    label = label_of(question)
    if label is None and question.source == "path-vqa":
        label = "CLOSED" if question.answer.strip().lower() in ("yes", "no") else "OPEN"
    return label.lower() if label else None


PROTOCOL = Protocol(
    name="llava-med",
    origin="microsoft/LLaVA-Med@b9a98a73 llava/eval/run_eval.py, run_eval_pvqa.py, eval_metrics/",
    covers="questions of vqa-rad and slake that have the source's own OPEN or CLOSED label, and of path-vqa",
    headline="mean recall of open questions; accuracy of closed ones; no number over both",
    part=part,
    rule=verdict,
    metrics={"open": "recall"},
    groups={"": ("part",)},
)
