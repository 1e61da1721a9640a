"""The question-only majority: the answer of somebody who never saw an image, judged like any other."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from schemas.protocols.base import Protocol, Verdict
from schemas.protocols.options import gold_letter
from schemas.records import Question


def majority_answers(train: Sequence[Question]) -> Mapping[str, str]:
    """Most common gold answer by question text, first in the alphabet on a tie; "" holds the one over all texts."""
    counts: dict[str, Counter[str]] = {"": Counter()}
    for question in train:
        counts.setdefault(question.question, Counter())[question.answer] += 1
        counts[""][question.answer] += 1
    return {
        text: min(counter, key=lambda answer: (-counter[answer], answer)) for text, counter in counts.items() if counter
    }


def majority_guess(question: Question, majority: Mapping[str, str]) -> str:
    """The majority answer of the question's wording, or of all questions for a new wording.

    One that is the text of an option is given as its letter: every protocol can read that, and some cannot a text.
    """
    guess = majority.get(question.question, majority.get("", ""))
    if question.answer_kind != "choice":
        return guess
    return gold_letter(replace(question, answer=guess)) or guess


def majority_verdict(question: Question, majority: Mapping[str, str], protocol: Protocol) -> Verdict | None:
    """None where nobody knows an answer."""
    return protocol.judge(majority_guess(question, majority), question) if majority else None
