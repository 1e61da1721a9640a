"""What a phantom is asked, what the answer is, and which findings that needs: decided before anything is drawn.

Templates are cycled by index and answers are dealt from a shuffled hand per template, so every
consecutive hand (two images for binary answers, three for counts) holds each answer once. What
the wording names (kind, side) is fixed per hand: a reader of the question alone scores 1 in n.
Left and right are the *image's*: left is where x is small. Nothing here knows a coordinate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from schemas.seeds import digest_int, shuffled

FINDINGS = ("nodule", "consolidation", "effusion", "pneumothorax")
PATTERNED = ("nodule", "consolidation")  # the kinds that carry a pattern
SIDES = ("left", "right")
CROP_ONLY_TYPES = ("pattern", "margin")  # question types that cannot be answered at 112 px

CYCLES: dict[str, tuple[str, ...]] = {
    "L0": ("pattern", "pattern", "pattern", "side"),
    "L1": ("pattern", "presence") * 2 + ("pattern", "side") + ("pattern", "presence") * 2 + ("pattern", "kind"),
    "L2": ("pattern by side", "pattern by side", "pattern by side", "kind by side"),
    "L3": ("pattern among three", "count", "pattern among three", "larger"),
    "hard": ("margin", "margin", "margin", "side"),
}
LEVELS = tuple(CYCLES)

_ANY_SIZE, _SMALL, _LARGE = (40, 60), (40, 46), (54, 60)  # a nodule's diameter in a 448 px image


@dataclass(frozen=True, slots=True)
class PhantomQuestion:
    """`options` is what the wording offers and empty for closed and open questions."""

    text: str
    answer: str
    answer_kind: str  # "closed" (yes, no) | "open" | "choice"
    options: tuple[str, ...]
    question_type: str  # pattern, margin, side, presence, kind, count, larger


@dataclass(frozen=True, slots=True)
class FindingPlan:
    """A finding that has a side and a size but no place yet."""

    kind: str
    side: str
    has_texture: bool  # striped (nodule, consolidation) or, at level hard, spiculated
    size_range_px: tuple[int, int] = _ANY_SIZE  # of a nodule
    is_asked: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    question: PhantomQuestion
    findings: tuple[FindingPlan, ...]


@dataclass(frozen=True, slots=True)
class _Deal:
    """The `ordinal`-th use of one template: hands of answers, and draws shared by a hand or owned by an image."""

    seed: int
    level: str
    template: str
    ordinal: int

    def answer(self, hand: Sequence[str]) -> str:
        return shuffled(list(hand), *self._key("hand", self.ordinal // len(hand)))[self.ordinal % len(hand)]

    def shared(self, name: str, options: Sequence[str], n_answers: int = 2) -> str:
        return _pick(options, *self._key(name, self.ordinal // n_answers))

    def own(self, name: str, options: Sequence[str]) -> str:
        return _pick(options, *self._key(name, "own", self.ordinal))

    def finding(self, name: str, kind: str, side: str | None = None) -> FindingPlan:
        has_texture = self.own(f"{name} texture", ("yes", "no")) == "yes"
        return FindingPlan(kind, side or self.own(f"{name} side", SIDES), has_texture and kind in PATTERNED)

    def _key(self, *what: object) -> tuple[object, ...]:
        return "phantom plan", self.seed, self.level, self.template, *what


def plan(seed: int, index: int, level: str) -> Plan:
    """The question of image `index` and the findings that make its answer true."""
    if level not in CYCLES:
        raise ValueError(f"level must be one of {LEVELS}, got {level!r}")
    if index < 0:
        raise ValueError(f"index must not be negative, got {index}")
    cycle = CYCLES[level]
    turn, slot = divmod(index, len(cycle))
    template = cycle[slot]
    ordinal = turn * cycle.count(template) + cycle[:slot].count(template)
    return _TEMPLATES[template](_Deal(seed, level, template, ordinal))


def twin(planned: Plan) -> Plan:
    """The same plan with the asked finding's texture, and so the answer, the other way round."""
    question = planned.question
    if question.question_type not in CROP_ONLY_TYPES:
        raise ValueError(f"only {CROP_ONLY_TYPES} questions have twins, not {question.question_type!r}")
    findings = tuple(replace(f, has_texture=f.has_texture != f.is_asked) for f in planned.findings)
    return Plan(replace(question, answer="no" if question.answer == "yes" else "yes"), findings)


def _closed(text: str, answer: str, question_type: str) -> PhantomQuestion:
    return PhantomQuestion(text, answer, "closed", (), question_type)


def _choice(text: str, answer: str, options: tuple[str, ...], question_type: str) -> PhantomQuestion:
    return PhantomQuestion(text, answer, "choice", options, question_type)


def _pattern_text(kind: str, place: str = "") -> str:
    return f"Is the {kind}{place} striped?"


def _side_text(kind: str) -> str:
    return f"Which side is the {kind} on, left or right?"


def _presence_text(kind: str) -> str:
    return f"Is there {'an' if kind[0] in 'aeiou' else 'a'} {kind}?"


def _kind_text(place: str = "") -> str:
    return f"What is the finding{place}, nodule or consolidation?"


_MARGIN_TEXT = "Is the nodule spiculated?"
_COUNT_TEXT = "How many nodules are there?"
_LARGER_TEXT = "Which is larger, the left or the right nodule?"
_PLACES = tuple(f" on the {side}" for side in SIDES)


def _asked(finding: FindingPlan, answer: str) -> FindingPlan:
    return replace(finding, has_texture=answer == "yes", is_asked=True)


def _pattern(deal: _Deal) -> Plan:
    kind, answer = deal.shared("kind", PATTERNED), deal.answer(("yes", "no"))
    return Plan(_closed(_pattern_text(kind), answer, "pattern"), (_asked(deal.finding("asked", kind), answer),))


def _margin(deal: _Deal) -> Plan:
    answer = deal.answer(("yes", "no"))
    return Plan(_closed(_MARGIN_TEXT, answer, "margin"), (_asked(deal.finding("asked", "nodule"), answer),))


def _side(deal: _Deal) -> Plan:
    kind = "nodule" if deal.level == "hard" else deal.shared("kind", PATTERNED)
    side = deal.answer(SIDES)
    question = _choice(_side_text(kind), side, SIDES, "side")
    return Plan(question, (replace(deal.finding("asked", kind, side), is_asked=True),))


def _presence(deal: _Deal) -> Plan:
    """ "no" shows another kind, or in one image of four nothing at all."""
    kind, answer = deal.shared("kind", FINDINGS), deal.answer(("yes", "no"))
    question = _closed(_presence_text(kind), answer, "presence")
    if answer == "yes":
        return Plan(question, (replace(deal.finding("asked", kind), is_asked=True),))
    other = deal.own("other", (*(finding for finding in FINDINGS if finding != kind), ""))
    return Plan(question, (deal.finding("other", other),) if other else ())


def _kind(deal: _Deal) -> Plan:
    kind = deal.answer(PATTERNED)
    question = _choice(_kind_text(), kind, PATTERNED, "kind")
    return Plan(question, (replace(deal.finding("asked", kind), is_asked=True),))


def _pattern_by_side(deal: _Deal) -> Plan:
    """Both findings are of one kind, so only the side tells which of them is meant."""
    kind, side, answer = deal.shared("kind", PATTERNED), deal.shared("side", SIDES), deal.answer(("yes", "no"))
    question = _closed(_pattern_text(kind, f" on the {side}"), answer, "pattern")
    other = deal.finding("other", kind, _opposite(side))
    return Plan(question, (_asked(deal.finding("asked", kind, side), answer), other))


def _kind_by_side(deal: _Deal) -> Plan:
    side, kind = deal.shared("side", SIDES), deal.answer(PATTERNED)
    question = _choice(_kind_text(f" on the {side}"), kind, PATTERNED, "kind")
    other = deal.finding("other", deal.own("other kind", PATTERNED), _opposite(side))
    return Plan(question, (replace(deal.finding("asked", kind, side), is_asked=True), other))


def _pattern_among_three(deal: _Deal) -> Plan:
    kind, answer = deal.shared("kind", PATTERNED), deal.answer(("yes", "no"))
    other = PATTERNED[1 - PATTERNED.index(kind)]
    sides = _two_and_one(deal)
    others = tuple(deal.finding(f"other {i}", other, sides[i]) for i in (1, 2))
    asked = _asked(deal.finding("asked", kind, sides[0]), answer)
    return Plan(_closed(_pattern_text(kind), answer, "pattern"), (asked, *others))


def _count(deal: _Deal) -> Plan:
    answer = deal.answer(("1", "2", "3"))
    kinds = ["nodule"] * int(answer) + ["consolidation"] * (3 - int(answer))
    sides = _two_and_one(deal)
    findings = (deal.finding(f"{i}", kind, sides[i]) for i, kind in enumerate(kinds))
    asked = tuple(replace(finding, is_asked=finding.kind == "nodule") for finding in findings)
    return Plan(PhantomQuestion(_COUNT_TEXT, answer, "open", (), "count"), asked)


def _larger(deal: _Deal) -> Plan:
    answer = deal.answer(SIDES)
    nodules = tuple(
        replace(deal.finding(side, "nodule", side), size_range_px=_LARGE if side == answer else _SMALL, is_asked=True)
        for side in SIDES
    )
    question = _choice(_LARGER_TEXT, answer, SIDES, "larger")
    return Plan(question, (*nodules, deal.finding("other", "consolidation")))


def _two_and_one(deal: _Deal) -> list[str]:
    """Three sides in a random order, never all the same: a lung holds two findings at most."""
    sides = [*SIDES, deal.own("third side", SIDES)]
    order = deal.own("order", ("012", "021", "102", "120", "201", "210"))
    return [sides[int(i)] for i in order]


def _opposite(side: str) -> str:
    return SIDES[1 - SIDES.index(side)]


def _pick(options: Sequence[str], *key: object) -> str:
    return options[digest_int(*key) % len(options)]


_TEMPLATES: dict[str, Callable[[_Deal], Plan]] = {
    "pattern": _pattern,
    "margin": _margin,
    "side": _side,
    "presence": _presence,
    "kind": _kind,
    "pattern by side": _pattern_by_side,
    "kind by side": _kind_by_side,
    "pattern among three": _pattern_among_three,
    "count": _count,
    "larger": _larger,
}

# Every question and answer the templates can produce, once: what a small tokenizer needs to have seen.
VOCABULARY_LINES: tuple[str, ...] = (
    *(_pattern_text(kind, place) for kind in PATTERNED for place in ("", *_PLACES)),
    *(_side_text(kind) for kind in PATTERNED),
    *(_presence_text(kind) for kind in FINDINGS),
    *(_kind_text(place) for place in ("", *_PLACES)),
    _MARGIN_TEXT,
    _COUNT_TEXT,
    _LARGER_TEXT,
    *("yes", "no", "1", "2", "3", *SIDES, *PATTERNED),
)
