"""lmms-eval's SLAKE scoring: exact equality after normalisation, for open and closed questions alike.

No answer is looked for inside a sentence, a box or a tag. "正常" (normal) counts as yes and "异常" (abnormal) as no,
as in the original.
"""

import re
import string

from schemas.protocols.base import Protocol, Verdict, decided
from schemas.protocols.options import label_of
from schemas.records import Question

_YES = frozenset("yes yeah yep true 是 是的 有 包含 可以 能 会 正常".split())
_NO = frozenset("no nope false 否 不是 没有 无 不包含 不能 不会 不可以 不正常 异常".split())
_WIDE = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～、《》【】"
_BLANKED = str.maketrans(dict.fromkeys(string.punctuation + _WIDE, " "))


def normalise(text: str) -> str:
    """Lower case without bracketed parts and punctuation, one spelling of X-ray, one word for yes and one for no."""
    text = re.sub(r"\([^)]*\)", " ", text.strip().lower())
    text = re.sub(r"（[^）]*）", " ", text).translate(_BLANKED)
    text = re.sub(r"\s+", " ", text).strip()
    text = "xray" if text == "x ray" else text
    return "yes" if text in _YES else "no" if text in _NO else text


def verdict(response: str, question: Question) -> Verdict:
    return decided(normalise(response) == normalise(question.answer), "exact")


PROTOCOL = Protocol(
    name="lmms-eval-slake",
    origin="EvolvingLMMs-Lab/lmms-eval@75571cfe lmms_eval/tasks/slake/utils.py",
    covers="questions of source slake that have the source's own OPEN or CLOSED label",
    headline="accuracy over all questions",
    part=lambda question: (
        {"OPEN": "open", "CLOSED": "closed"}.get(label_of(question) or "") if question.source == "slake" else None
    ),
    rule=verdict,
    prompts=("Answer the question using a single word or phrase.",),
    groups={"": ("part", "modality", "type")},
)
