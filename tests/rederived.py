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
    n_images: int = 1
    calls: set = field(default_factory=set)  # (call id, image) of every scan
    visited: list = field(default_factory=list)
    focus: int | None = None
    gain: float = -math.inf
    round: int = 0
    n_looks: int = 0

    def is_known(self, region: int) -> bool:
        known = self.row.regions[region]
        return (known.call_id, known.image) in self.calls if known.call_id else True

    def open(self) -> list[int]:
        return [
            region
            for region in range(len(self.boxes))
            if self.is_known(region)
            and region not in self.visited
            and not any(
                self.image(other) == self.image(region) and overlap(self.boxes[region], self.boxes[other]) > 0.5
                for other in self.visited
            )
        ]

    def image(self, region: int) -> int:
        return self.row.regions[region].image


def problems(row: Trajectory, sizes: list[tuple[int, int]]) -> list[str]:
    """What is wrong with a row of origin grn, cvs, scan_only or drill_only; empty when nothing is."""
    boxes, confidences = [r.box_xyxy_px for r in row.regions], [r.confidence for r in row.regions]
    known = _Known(row, boxes, confidences, len(sizes))
    wrong: list[str] = []
    for index, step in enumerate(row.steps):
        before = row.steps[index - 1] if index else None
        after = row.steps[index + 1] if index + 1 < len(row.steps) else None
        if reason := _reason_to_stop(known):
            wrong.append(f"step {index} comes after {reason}")
        if step.mode == "scan":
            wrong += _first_scan(known, step, index) if index < len(sizes) else _scan(known, step, before, after)
        else:
            wrong += _look(known, step, before, sizes[step.image])
    if row.origin != "drill_only" and not all(known.is_known(region) for region in range(len(boxes))):
        wrong.append("a region that no scan named")
    reason = _reason_to_stop(known) or ("exhausted" if not _keeps(known) and not known.open() else "none")
    if reason != row.stop_reason:
        wrong.append(f"stopped as {row.stop_reason}, should be {reason}")
    if row.n_looks != known.n_looks or not row.n_looks:
        wrong.append("wrong number of looks")
    return wrong


def _reason_to_stop(known: _Known) -> str | None:
    rule = known.row.rule
    if known.row.origin_fallback and known.n_looks == known.n_images:
        return "exhausted"
    is_told = known.focus is not None and not known.row.origin_fallback
    if is_told and known.confidences[known.focus] > rule.confident_at:
        return "confident"
    return "length" if known.n_looks == rule.looks_max else None


def _keeps(known: _Known) -> bool:
    is_told = known.focus is not None and not known.row.origin_fallback
    return is_told and known.gain >= known.row.rule.gain_min


def _first_scan(known: _Known, step: Step, index: int) -> list[str]:
    known.calls.add((step.call_id, step.image))
    return _scan_shape(known, step) + ([] if step.image == index else [f"scan {index} of image {step.image}"])


def _scan_shape(known: _Known, step: Step) -> list[str]:
    wrong = []
    if any(value is not None for value in (step.region, step.box_xyxy_px, step.look_xyxy_px, step.probability)):
        wrong.append("a scan with a region")
    if step.round != 0 or step.candidates or step.nucleus or known.row.origin == "drill_only":
        wrong.append("a scan that cannot be")
    return wrong


def _scan(known: _Known, step: Step, before: Step, after: Step | None) -> list[str]:
    """A free re-scan before a choice; or, with nothing left, one of a round through the images."""
    wrong = _scan_shape(known, step)
    if _keeps(known):
        wrong.append("a scan in place of a drill")
    if known.open():
        is_cited = (step.call_id, step.image) in known.calls
        if before.mode == "scan" or after is None or after.image != step.image or not is_cited or step.text:
            wrong.append("not the free re-scan of the image looked at next")
        return wrong
    if step.image != (before.image + 1 if before.mode == "scan" else 0):
        wrong.append(f"a re-scan of image {step.image}, out of order")
    known.calls.add((step.call_id, step.image))
    if bool(known.open()) != (after is not None and after.mode != "scan"):
        wrong.append("a look without a new region, or a scan in spite of one")
    if after is None and step.image != known.n_images - 1:
        wrong.append("a round of re-scans that ends too soon")
    return wrong


def _look(known: _Known, step: Step, before: Step | None, size: tuple[int, int]) -> list[str]:
    row, region, wrong = known.row, step.region, []
    if step.image != row.regions[region].image:
        wrong.append("looked at another image")
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
