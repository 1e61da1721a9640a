"""Letters of a choice question's options, and the gold one among them; nothing here reads a response."""

from string import ascii_uppercase

from schemas.records import Question


def lettered(question: Question) -> dict[str, str]:
    """Option texts by letter, A first."""
    return dict(zip(ascii_uppercase, question.options, strict=False))


def gold_letter(question: Question, *, last: bool = False) -> str | None:
    """The letter of the gold answer: the gold itself where it can be one, else that of the first option it equals.

    `last` takes the last of options with equal texts. None where the gold names no option.
    """
    gold, options = question.answer.strip(), lettered(question)
    named = [letter for letter in options if letter == gold.upper()]
    found = named or [letter for letter, text in options.items() if text.strip() == gold]
    if not found:
        return None
    equal = [letter for letter, text in options.items() if text.strip() == options[found[0]].strip()]
    return equal[-1] if last else found[0]


def is_choice(question: Question) -> bool:
    return question.answer_kind == "choice" and gold_letter(question) is not None


def label_of(question: Question) -> str | None:
    """The source's own OPEN or CLOSED, spelt so."""
    label = (question.answer_type or "").strip().upper()
    return label if label in ("OPEN", "CLOSED") else None
