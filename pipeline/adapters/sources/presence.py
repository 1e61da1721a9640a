"""Presence questions from labels: "Is there a mass?", yes for what is labelled present, no for what is labelled absent.

Every present finding of an image is asked about, and as many absent ones (one where nothing is present, all where there
are fewer). A finding that is uncertain or not mentioned is never asked about: an absent label is no negative.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from pipeline.adapters.sources.labelled import Asked
from schemas.seeds import uniform

QUESTION_TYPE = "presence"
UNASKED = frozenset({"no finding", "other lesion", "pleural other"})  # labels that name no thing one can ask for
COUNTED = frozenset(  # these take an article
    (
        *("effusion", "enlarged cardiomediastinum", "fracture", "hernia", "infiltration", "lung lesion"),
        *("lung opacity", "mass", "nodule", "nodule or mass", "pleural effusion", "pneumothorax"),
    )
)
PLURAL = frozenset({"support devices"})


def presence_questions(
    source: str, image: str, present: Iterable[str], absent: Sequence[str], how_often: Mapping[str, int]
) -> tuple[Asked, ...]:
    """Yes-questions in the order given, then the absent findings that are drawn, in theirs.

    `how_often` counts the images of the whole source that show each finding: absent ones are drawn in that
    proportion, so that no wording is answered yes, or no, much more often than the others.
    """
    askable = [finding for finding in present if finding.casefold() not in UNASKED]
    others = [finding for finding in absent if finding.casefold() not in UNASKED]
    drawn = _drawn((source, image), others, max(1, len(askable)), how_often)
    yes = tuple(presence(finding, True) for finding in askable)
    return yes + tuple(presence(finding, False) for finding in others if finding in drawn)


def _drawn(key: tuple[str, str], findings: Sequence[str], n: int, how_often: Mapping[str, int]) -> frozenset[str]:
    """`n` findings without replacement, weighted by count + 1: the n smallest −ln(1 − u)/w (Efraimidis & Spirakis)."""
    waits = {
        finding: -math.log1p(-uniform("absent", *key, finding)) / (how_often.get(finding, 0) + 1)
        for finding in findings
    }
    return frozenset(sorted(findings, key=lambda finding: (waits[finding], finding))[:n])


@cache  # one object per finding and answer, however many images ask it
def presence(finding: str, is_present: bool) -> Asked:
    return Asked(finding, presence_text(finding), "yes" if is_present else "no", QUESTION_TYPE)


def presence_text(finding: str) -> str:
    """Is there {finding}?, with its article; names in capitals keep them."""
    plain = finding.replace("_", " ").replace("/", " or ")
    name = plain if plain.isupper() else plain.lower()
    if name in PLURAL:
        return f"Are there {name}?"
    article = "" if name not in COUNTED else "an " if name[0] in "aeiou" else "a "
    return f"Is there {article}{name}?"
