"""MedXpertQA's own scoring: the first option letter after its answer trigger; no letter is a wrong answer.

The trigger is the one of its chain-of-thought prompt. Nothing is read after a second trigger, and a lone "A" that
begins a sentence is option A, as in the original.
"""

import re
from string import ascii_uppercase

from schemas.protocols.base import Protocol, Verdict, decided
from schemas.protocols.options import gold_letter, is_choice
from schemas.records import Question

_TRIGGER = "Therefore, among A through {last}, the answer is"
_UNWANTED = ("I understand", "A through J", "A through E", "A through D")


def parse(response: str, n_options: int) -> str | None:
    """The first capital option letter that is a word, in what stands between the first trigger and the next."""
    letters = ascii_uppercase[:n_options]
    for trigger in (_TRIGGER.format(last=letters[-1:]), " answer is "):
        if trigger in response:
            response = response.split(trigger)[1].strip()
            break
    for phrase in _UNWANTED:
        response = response.replace(phrase, "")
    found = re.search(rf"\b([{letters}])\b", response)
    return found[1] if found else None


def verdict(response: str, question: Question) -> Verdict:
    said = parse(response, len(question.options))
    return decided(said == gold_letter(question), "letter" if said else "no letter")


PROTOCOL = Protocol(
    name="medxpertqa",
    origin="TsinghuaC3I/MedXpertQA@f21247d3 eval/utils.py",
    covers="choice questions of source medxpertqa",
    headline="accuracy over all questions",
    part=lambda question: "choice" if question.source == "medxpertqa" and is_choice(question) else None,
    rule=verdict,
    prompts=("A: Let's think step by step.", _TRIGGER.format(last="E")),
    groups={"": ("type",)},
)
