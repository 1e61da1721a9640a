"""MedEvalKit without its model judge: `medevalkit`, bug for bug, and `medevalkit-fixed`, with those bugs mended.

Mended are: a blank or full stop left beside an open answer; SLAKE's "Yes" and "No" read as phrases; yes and no found
inside words; precision, recall and F1 under each other's names; an empty choice taken for option A; MMMU's open
answers compared character by character; an exception on an answer without words. Not reproduced in either: BLEU and
ROUGE, and the judged mode (GPT-4.1), whose own miscounts of closed questions need a judge to happen.
"""

import re

from schemas.protocols import medevalkit_rules as rules
from schemas.protocols import mmmu_official as mmmu
from schemas.protocols.base import Protocol, Verdict, decided
from schemas.protocols.options import gold_letter, is_choice, label_of, lettered
from schemas.records import Question

RAISES = "the harness raises an exception on an answer without words"

_VQA = ("vqa-rad", "path-vqa")
_CHOICE = ("pmc-vqa", "omnimedvqa", "medxpertqa")
_YES_NO = ("yes", "no")


def verdict(response: str, question: Question) -> Verdict:
    """The original's verdict; an answer that it raises on is wrong and counted, and so is a random choice (MMMU)."""
    kind = part(question)
    if question.source == "mmmu":
        return _mmmu(response, question)
    if kind == "choice":
        letter, rule = rules.chosen(_choices(question), _choice_text(response, question))
        return decided(letter == _gold(question).lower(), rule)
    said, gold = rules.final(response), question.answer
    if question.source in _VQA:
        said, gold = said.lower().strip(), gold.lower().strip()
    if kind == "open":
        return _open(said, gold)
    if gold in _YES_NO:
        return decided(rules.is_judged(gold, said), "judgement")
    return decided(rules.bare(said) == gold.lower(), "exact")


def fixed_verdict(response: str, question: Question) -> Verdict:
    """The same data sets and rules without the bugs that the module names."""
    kind = part(question)
    if question.source == "mmmu":
        return _mmmu_fixed(response, question)
    if kind == "choice":
        letter, rule = rules.chosen(_choices(question), _choice_text(response, question))
        return decided(rule != "first" and letter == _gold(question).lower(), rule)
    said, gold = _trimmed(rules.final(response)), question.answer.lower().strip()
    if kind == "closed" and gold in _YES_NO:
        return decided({word for word in re.findall(r"\w+", said) if word in _YES_NO} == {gold}, "judgement")
    precision, recall, f1 = rules.overlap(said, gold)
    is_same = bool(said) and said == _trimmed(gold)
    return (
        decided(is_same, "exact")
        if kind == "closed"
        else decided(is_same, "open", precision=precision, recall=recall, f1=f1)
    )


def _trimmed(text: str) -> str:
    return rules.parsed(text).strip(" \n\t.")


def _open(said: str, gold: str) -> Verdict:
    """Exact match; beside it F1, precision and recall, printed as precision, recall and F1."""
    said, gold = rules.parsed(said), gold.lower()
    if rules.breaks(said) or rules.breaks(gold):
        return decided(False, "open", RAISES)
    precision, recall, f1 = rules.overlap(said, gold)
    return decided(said == gold, "open", precision=f1, recall=precision, f1=recall)


def _mmmu(response: str, question: Question) -> Verdict:
    """Open answers are walked through character by character, and no accepted answer is that short."""
    said = _mmmu_text(response)
    if question.answer_kind != "choice":
        return decided(mmmu.is_open_right(said, question.answer), "characters")
    letter = mmmu.parse_choice(_mmmu_again(said), lettered(question))
    return decided(letter == gold_letter(question), "choice", mmmu.RANDOM if letter is None else None)


def _mmmu_fixed(response: str, question: Question) -> Verdict:
    said = _mmmu_text(response)
    if question.answer_kind != "choice":
        return decided(mmmu.is_open_right(mmmu.parse_open(said), question.answer), "open")
    return _mmmu(response, question)


def _mmmu_text(response: str) -> str:
    said = rules.tagged(response) if "<answer>" in response else response
    return inside if (inside := rules.boxed(said)) != rules.NOTHING_BOXED else said


def _mmmu_again(said: str) -> str:
    """The parser looks for a tag or a box itself; an unclosed box becomes the word None."""
    said = rules.tagged(said) if "<answer>" in said else rules.boxed(said) if "\\boxed" in said else said
    return said.strip()


def _choices(question: Question) -> list[str]:
    """As the model sees them, which is what answers are compared with.

    PMC-VQA's carry blanks and colons. Which blanks a row of its file had is not stored; where they differ from these, a
    response that names no letter may be most similar to another choice.
    """
    form = " {}:{} " if question.source == "pmc-vqa" else "{}. {}"
    return [form.format(letter, text) for letter, text in lettered(question).items()]


def _choice_text(response: str, question: Question) -> str:
    return response if question.source == "pmc-vqa" else rules.tagged(response)


def _gold(question: Question) -> str:
    """OmniMedVQA's loader ends with the last of several equal options."""
    return gold_letter(question, last=question.source == "omnimedvqa") or ""


def part(question: Question) -> str | None:
    """VQA-RAD and PathVQA are closed where the answer is yes or no, SLAKE where the source says so."""
    if question.source in _VQA:
        return "closed" if question.answer.lower().strip() in _YES_NO else "open"
    if question.source == "slake":
        return {"OPEN": "open", "CLOSED": "closed"}.get(label_of(question) or "")
    if question.source == "mmmu":
        return mmmu.part(question)
    return "choice" if question.source in _CHOICE and is_choice(question) else None


_ORIGIN = "alibaba-damo-academy/MedEvalKit@9b12e3b3 utils/utils.py, utils/*/"
_COVERS = (
    "vqa-rad, path-vqa, slake (with its OPEN or CLOSED labels), mmmu, and choices of pmc-vqa, omnimedvqa, medxpertqa"
)
_HEADLINE = "accuracy over all questions, closed and open ones together"
_PROMPTS = (
    "Please output 'yes' or 'no'(no extra output).",
    "Please answer the question concisely.",
    "Answer the question using a single word or phrase.",
    "Answer with the option's letter from the given choices directly.",
)
_GROUPS = {
    "": ("part",),
    "omnimedvqa": ("type", "modality"),
    "medxpertqa": ("type",),
    "mmmu": ("type",),
    "pmc-vqa": (),
}

PROTOCOL = Protocol("medevalkit", _ORIGIN, _COVERS, _HEADLINE, part, verdict, _PROMPTS, groups=_GROUPS)
FIXED = Protocol(
    "medevalkit-fixed", f"{_ORIGIN}, mended", _COVERS, _HEADLINE, part, fixed_verdict, _PROMPTS, groups=_GROUPS
)
