"""What a vision-language model wrote becomes an answer: `Seen` with confidences by a declared rule, or a `Failure`.

Confidence of a scan, one rule for all boxes of an answer, so that they can be compared: *stated*, the number the model
gives each box; *tokens*, the geometric mean probability of the tokens that spell the box; *prior*, a constant, only
where the user has set one, since a constant makes the choice between regions blind. Of a drill: *logprobs*,
P(yes) / (P(yes) + P(no)) at the first word, or *stated*, the number the model gives. `raw` keeps the model's words and
the rule; no number is made up.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.adapters.experts.grounding import Found, Frame, Grounding, grounded, number, objects, plain
from pipeline.adapters.experts.token_odds import Said, are_sound, geometric_mean, yes_no
from schemas.experts import Candidate, Drill, Failure, Seen

SCAN_RULES = ("stated", "tokens")
DRILL_RULES = ("logprobs", "stated")
WORDS_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class Reading:
    """`scan`: stated, with tokens for an answer that does not state all; or tokens. `prior` where that gives none."""

    scan: str = "stated"
    drill: str = "logprobs"
    prior: float | None = None
    boxes_max: int = 8

    def __post_init__(self) -> None:
        if self.scan not in SCAN_RULES or self.drill not in DRILL_RULES:
            raise ValueError(f"scan_confidence is one of {SCAN_RULES}, drill_confidence one of {DRILL_RULES}")
        if self.prior is not None and not (type(self.prior) in (int, float) and 0 <= self.prior <= 1):
            raise ValueError(f"prior must be in [0, 1], or null, got {self.prior!r}")
        if type(self.boxes_max) is not int or self.boxes_max < 1:
            raise ValueError(f"boxes_max must be a positive whole number, got {self.boxes_max!r}")


def scan_answer(said: Said, frame: Frame, reading: Reading) -> Seen | Failure:
    """Candidates in the order of the text, in stored pixels."""
    told = grounded(said.text, frame, reading.boxes_max)
    if isinstance(told, Failure):
        return Failure(told.error_class, told.message, raw_of(said))
    if told.dropped and not told.found:
        return Failure("no_usable_box", f"every box is {' or '.join(told.dropped)}", raw_of(said, dropped=told.dropped))
    rule, confidences = _confidences(said, told, reading)
    facts: dict[str, object] = {"rule": rule, "dropped": told.dropped} if told.dropped else {"rule": rule}
    if confidences is None:
        return Failure("no_confidence", "boxes without a confidence, and no prior is set", raw_of(said, **facts))
    found = zip(told.found, confidences, strict=True)
    candidates = tuple(Candidate(each.box_xyxy_px, each.label, confidence) for each, confidence in found)
    names = dict.fromkeys(each.label for each in told.found)
    words = plain(", ".join(names), WORDS_CHARS_MAX) or "nothing found"
    return Seen(candidates, words, raw_of(said, **facts))


def drill_answer(said: Said, query: Drill, reading: Reading) -> Seen | Failure:
    """The region asked about with its new confidence; no box is refined."""
    if reading.drill == "stated":
        return _stated(said, query)
    if said.tokens is None:
        return Failure("no_logprobs", "the server sent no log-probabilities", raw_of(said))
    if not are_sound(said.tokens):
        return Failure("nan", "a log-probability is no number below 0", raw_of(said))
    odds = yes_no(said)
    if odds is None:
        return Failure("no_yes_or_no", "the reply begins neither with yes nor with no", raw_of(said))
    facts = {"rule": "logprobs", "p_yes": odds.yes, "p_no": odds.no}
    return _seen(query, odds.share, said.text, raw_of(said, **facts))


def raw_of(said: Said, **facts: object) -> str:
    """JSON of the model's words and what was made of them."""
    told = {"said": said.text, **({"is_cut": True} if said.is_cut else {}), **facts}
    return json.dumps(told, sort_keys=True)  # ASCII: a lone surrogate stays legal text


def _confidences(said: Said, told: Grounding, reading: Reading) -> tuple[str, list[float] | None]:
    for rule in SCAN_RULES[SCAN_RULES.index(reading.scan) :]:
        confidences = [_confidence(rule, said, each) for each in told.found]
        if None not in confidences:
            return rule, [each for each in confidences if each is not None]
    return "prior", None if reading.prior is None else [reading.prior] * len(told.found)


def _confidence(rule: str, said: Said, found: Found) -> float | None:
    if rule == "stated":
        return found.stated
    return geometric_mean(said, found.span) if said.tokens and are_sound(said.tokens) else None


def _stated(said: Said, query: Drill) -> Seen | Failure:
    written: Mapping[str, object] = next((each for each, _, _ in objects(said.text) if "probability" in each), {})
    probability = number(written.get("probability"))
    if probability is None or not 0 <= probability <= 1:
        return Failure("no_confidence", "the reply states no probability from 0 to 1", raw_of(said))
    return _seen(query, probability, str(written.get("finding", "")), raw_of(said, rule="stated"))


def _seen(query: Drill, confidence: float, words: str, raw: str) -> Seen:
    return Seen((Candidate(query.box_xyxy_px, query.label, confidence),), plain(words, WORDS_CHARS_MAX), raw)
