"""One row of MMMU, from the Hub's Parquet or from the authors' MMMU-Pro tool, as a draft.

An image that question and options do not name is shown too, unless only the explanation names it: that one is part of
the solution. `<image k>` counts the images shown; numbers change only where the row leaves one out. A gold answer of
an open question that is published as a list of answers stays that list, literally. `question_type` is the subject.
"""

import ast
import re
import warnings
from collections.abc import Mapping
from typing import Any

from pipeline.adapters.sources import choices, drafts
from pipeline.adapters.sources.drafts import Draft, Problem
from schemas.records import Question

SOURCE = "mmmu"
SPLITS = {"dev": "train", "validation": "validation", "test": "test"}
KINDS = {"multiple-choice": "choice", "open": "open", "short-answer": "open"}
WITHHELD = (None, "?")
NEEDS = ("id", "question", "question_type")
PRO = "pro-"  # before the ids of MMMU-Pro: the same questions with more options
ID = re.compile(rf"(?:{PRO})?(dev|validation|test)_(\w+)_\d+")
LITERAL_ERRORS = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)


def draft(row_key: str, split: str, row: Mapping[str, Any], images: Mapping[int, str | None]) -> Draft:
    """`images` maps each k whose `image_k` is not null to its name, None where that names no file."""
    row = {**row, "options": _list_of(row.get("options"))}
    named = choices.images_named([str(row.get("question")), *_texts(row["options"])])
    explained = choices.images_named([str(row.get("explanation"))]) - named
    shown = [number for number in sorted(images) if number not in explained]
    names = tuple(name for number in shown if (name := images[number]) is not None)
    return Draft(row_key, names, _missing(images, named | set(shown)) or _question(split, row, shown))


def subject_of(row_id: str) -> str | None:
    found = ID.fullmatch(row_id)
    return found[2] if found else None


def _missing(images: Mapping[int, str | None], wanted: set[int]) -> Problem | None:
    for number in sorted(wanted):
        if images.get(number) is None:
            how = "holds no file" if number in images else f"is null, and the row names <image {number}>"
            return Problem("missing_image", f"column `image_{number}` {how}")
    return None


def _question(split: str, row: Mapping[str, Any], shown: list[int]) -> Question | Problem:
    texts = {name: drafts.text_of(row.get(name)) for name in (*NEEDS, "answer")}
    for name in NEEDS:
        if texts[name] is None:
            return Problem(f"missing_{name}", f"column `{name}` is {row.get(name)!r:.80}")
    kind, answer = KINDS.get(texts["question_type"]), texts["answer"]
    if kind is None:
        return Problem("bad_question_type", f"{texts['question_type']!r:.80} is none of {', '.join(KINDS)}")
    if answer in WITHHELD:
        return Problem("answer_withheld", f"the source gives no answer: {row.get('answer')!r:.80}")
    options = choices.options_of(row["options"]) if kind == "choice" else ()
    gold = options if isinstance(options, Problem) else choices.gold_of(answer, options) if options else answer
    if isinstance(gold, Problem):
        return gold
    positions = {number: position for position, number in enumerate(shown, 1)}
    return Question(
        question_id=f"{SOURCE}/{texts['id']}",
        source=SOURCE,
        split=split,
        image_ids=(),
        question=choices.renumbered(texts["question"], positions),
        answer=gold,
        answer_kind=kind,
        options=tuple(choices.renumbered(option, positions) for option in options),
        question_type=subject_of(texts["id"]),
    )


def _texts(options: object) -> list[str]:
    """The options as they will be shown: an escape in the literal of their list hides no placeholder."""
    return [str(each) for each in (options if isinstance(options, list) else [options])]


def _list_of(told: object) -> object:
    """A list that is published as its Python literal; anything else as it is."""
    if not isinstance(told, str):
        return told
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a formula's backslash that begins no escape
            found = ast.literal_eval(told.strip())
            repr(found)  # ValueError for a number of too many digits, which no message could tell
        return found
    except LITERAL_ERRORS:
        return told
