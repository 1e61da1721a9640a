"""Every decision of a trajectory, derived again from its row alone, slowly and without the code that made it.

`problems` walks the steps and says what it would have done instead. It knows the rules of GRN and CVS from the
method, and shares only the seeded draw and the records with the project.
"""

import math
from dataclasses import dataclass, field

from schemas.records import Step, Trajectory
from schemas.seeds import uniform

CONTEXT = {"grn": 1.0, "cvs": 1.0, "scan_only": 1.0, "drill_only": 0.0}


@dataclass
class _Known:
    """What was known before a step."""

    row: Trajectory
    boxes: list
    confidences: list
    calls: set = field(default_factory=set)
    visited: list = field(default_factory=list)
    focus: int | None = None
    gain: float = -math.inf
    round: int = 0
    n_looks: int = 0

    def is_known(self, region: int) -> bool:
        call = self.row.regions[region].call_id
        return call in self.calls if call else True

    def open(self) -> list[int]:
        return [
            region
            for region in range(len(self.boxes))
            if self.is_known(region)
            and region not in self.visited
            and not any(overlap(self.boxes[region], self.boxes[other]) > 0.5 for other in self.visited)
        ]


def problems(row: Trajectory, size: tuple[int, int]) -> list[str]:
    """What is wrong with a row of origin grn, cvs, scan_only or drill_only; empty when nothing is."""
    known = _Known(row, [r.box_xyxy_px for r in row.regions], [r.confidence for r in row.regions])
    wrong: list[str] = []
    for index, step in enumerate(row.steps):
        before = row.steps[index - 1] if index else None
        if reason := _reason_to_stop(known):
            wrong.append(f"step {index} comes after {reason}")
        if step.mode == "scan":
            wrong += _scan(known, step, before)
        else:
            wrong += _look(known, step, before, size)
    reason = _reason_to_stop(known) or ("exhausted" if not _keeps(known) and not known.open() else "none")
    if reason != row.stop_reason:
        wrong.append(f"stopped as {row.stop_reason}, should be {reason}")
    if row.n_looks != known.n_looks or not row.n_looks:
        wrong.append("wrong number of looks")
    return wrong


def _reason_to_stop(known: _Known) -> str | None:
    rule = known.row.rule
    if known.row.origin_fallback and known.n_looks == 1:
        return "exhausted"
    if known.focus is not None and known.confidences[known.focus] > rule.confident_at:
        return "confident"
    return "length" if known.n_looks == rule.looks_max else None


def _keeps(known: _Known) -> bool:
    return known.focus is not None and known.gain >= known.row.rule.gain_min


def _scan(known: _Known, step: Step, before: Step | None) -> list[str]:
    wrong = []
    if any(value is not None for value in (step.region, step.box_xyxy_px, step.look_xyxy_px, step.probability)):
        wrong.append("a scan with a region")
    if step.round != 0 or step.candidates or step.nucleus or known.row.origin == "drill_only":
        wrong.append("a scan that cannot be")
    if before is not None and (before.mode == "scan" or _keeps(known)):
        wrong.append("a scan in place of a drill")
    is_free = step.call_id in known.calls
    if is_free != bool(before is not None and known.open()) or (is_free and step.text):
        wrong.append("asked although regions were left, or not asked although none was")
    known.calls.add(step.call_id)
    return wrong


def _look(known: _Known, step: Step, before: Step | None, size: tuple[int, int]) -> list[str]:
    row, region, wrong = known.row, step.region, []
    if _keeps(known):
        expected = ((), (), (), None, None, known.round + 1)
        if region != known.focus:
            wrong.append("left a region that gained")
    else:
        if row.origin != "drill_only" and (before is None or before.mode != "scan"):
            wrong.append("chose without a scan")
        ids = known.open()
        chosen, expected = _choice(known, ids)
        if region != chosen:
            wrong.append(f"chose {region}, should be {chosen}")
    found = (step.candidates, step.candidate_confidences, step.nucleus, step.probability, step.rank, step.round)
    if not _same(found, expected):
        wrong.append(f"recorded {found}, should be {expected}")
    look = crop(known.boxes[region], CONTEXT[row.origin] * 0.5 ** (step.round - 1), size)
    if not _same(step.look_xyxy_px, look):
        wrong.append(f"looked at {step.look_xyxy_px}, should be {look}")
    if step.confidence_before != known.confidences[region]:
        wrong.append("wrong confidence before")
    if region not in known.visited:
        known.visited.append(region)
    known.n_looks += 1
    known.boxes[region] = step.box_xyxy_px
    if step.mode == "look":
        return wrong + (["a glance that learned"] if step.confidence_after is not None else [])
    known.gain = (step.confidence_after - step.confidence_before) / (step.confidence_before + 1e-6)
    if not math.isclose(step.delta_c, known.gain, rel_tol=1e-6, abs_tol=1e-6):
        wrong.append(f"Δc {step.delta_c}, should be {known.gain}")
    known.focus, known.round, known.confidences[region] = region, step.round, step.confidence_after
    return wrong


def _choice(known: _Known, ids: list[int]) -> tuple[int, tuple]:
    row, rule = known.row, known.row.rule
    values = {region: known.confidences[region] for region in ids}
    total = sum(math.exp(value / rule.temperature) for value in values.values())
    probability = {region: math.exp(value / rule.temperature) / total for region, value in values.items()}
    order = sorted(ids, key=lambda region: (-values[region], region))
    prefixes = [order[:n] for n in range(1, len(order) + 1)]
    fits = [prefix for prefix in prefixes if sum(probability[r] for r in prefix) <= rule.mass + 1e-9]
    kept = max(fits, key=len, default=order[:1])
    if rule.crossing == "include" and sum(probability[r] for r in kept) < rule.mass - 1e-9:
        kept = order[: (len(kept) if not fits else len(kept) + 1)]
    chosen = order[0]
    if row.origin == "cvs":
        draw = uniform("cvs", row.seed, row.question_id, row.variant, row.n_redraws, len(known.visited))
        left = draw * sum(probability[region] for region in kept)
        for chosen in kept:
            left -= probability[chosen]
            if left < 0:
                break
    confidences = tuple(values[region] for region in ids)
    return chosen, (tuple(ids), confidences, tuple(kept), probability[chosen], order.index(chosen), 1)


def _same(found: object, expected: object) -> bool:
    if isinstance(expected, tuple) and isinstance(found, tuple):
        return len(found) == len(expected) and all(map(_same, found, expected))
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-6)
    return found == expected


def crop(box: tuple, margin: float, size: tuple[int, int]) -> tuple:
    width, height = box[2] - box[0], box[3] - box[1]
    return (
        max(0.0, box[0] - margin * width),
        max(0.0, box[1] - margin * height),
        min(float(size[0]), box[2] + margin * width),
        min(float(size[1]), box[3] + margin * height),
    )


def overlap(a: tuple, b: tuple) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)
