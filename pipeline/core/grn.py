"""Gaze-guided Reasoning Navigator: a pure scan/drill state machine.

The machine never calls a model. `next_query` says what to ask; the caller asks an expert; `advance` folds the
answer back in. It keeps the trajectory as it goes: everything a decision was made from is in the steps and
the entry records of the regions. (MedEyes, arXiv:2511.22018; the released code takes |Δc| and stops before a look.)

After a drill that gained too little the search goes back to scan: the record of scans, minus what was visited or
overlaps it. That re-scan asks nobody; it is a step without words that cites the recorded scan.

Every image of the question is scanned first; after that the regions of all of them compete in one choice, and only
boxes of one image can overlap. (One image in the paper; several are ours.)
"""

import itertools
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from pipeline.core.admission import admit, admit_box, float32
from pipeline.core.cvs import Choice, Choose
from schemas.boxes import Box, Size, grow, iou, whole
from schemas.experts import Candidate, Drill, Scan, Seen
from schemas.records import KnownRegion, Rule, Step

EPSILON = 1e-6  # ε of Δc [C]
SAME_IOU = 0.5  # above it two boxes are one region [D]
CONTEXT = 1.0  # margin of round 1 in box sides; each round halves it [D]
WHOLE_IMAGE = "whole image"


@dataclass(frozen=True, slots=True)
class NavigatorConfig:
    """When to keep drilling and when to stop. [P] the paper, [C] only the released configuration."""

    gain_min: float = 0.15  # δ [P: the rule, C: the value]
    confident_at: float = 0.85  # ξ [P]
    looks_max: int = 4  # T_max [P]; 3 was the reported optimum

    def __post_init__(self) -> None:
        if self.looks_max < 1:
            raise ValueError(f"looks_max must be at least 1, got {self.looks_max}")
        if not math.isfinite(self.gain_min):
            raise ValueError(f"gain_min must be finite, got {self.gain_min}")
        if not 0 <= self.confident_at <= 1:
            raise ValueError(f"confident_at must be in [0, 1], got {self.confident_at}")


@dataclass(frozen=True, slots=True)
class Aim:
    """A drill the machine wants; `drill` is all that an expert is told. No choice after the first round."""

    region: int
    choice: Choice | None
    drill: Drill


class Fork(NamedTuple):
    """Regions of which one has to be chosen: all that a `Choose` is told."""

    candidates: tuple[int, ...]
    confidences: tuple[float, ...]
    n_before: int  # choices made before


@dataclass(frozen=True, slots=True)
class Stop:
    reason: str  # one of schemas.records.STOPS


@dataclass(frozen=True, slots=True)
class State:
    """ψ = (R, C, F): `regions` as they entered, `boxes` and `confidences` as they are now, `mode` scan or drill."""

    sizes: tuple[Size, ...]  # of the images, in the order of the question
    rescans: bool = False
    context: float = CONTEXT
    n_scanned: int = 0  # images scanned for the first time, in order
    fallback: str | None = None
    mode: str = "scan"
    regions: tuple[KnownRegion, ...] = ()
    boxes: tuple[Box, ...] = ()
    confidences: tuple[float, ...] = ()
    visited: tuple[int, ...] = ()
    focus: int | None = None  # region of the last drill
    round: int = 0  # of that drill
    steps: tuple[Step, ...] = ()

    @property
    def n_looks(self) -> int:
        return sum(step.mode != "scan" for step in self.steps)

    @property
    def has_scanned(self) -> bool:
        return self.n_scanned == len(self.sizes)

    @property
    def unvisited(self) -> tuple[int, ...]:
        """Ids of regions neither visited nor overlapping a visited one of their image as it is now, ascending."""
        seen = [self.boxes_of(self.visited, image) for image in range(len(self.sizes))]
        ids = (region for region in range(len(self.regions)) if region not in self.visited)
        return tuple(region for region in ids if not _is_known(self.boxes[region], seen[self.regions[region].image]))

    def boxes_of(self, ids: tuple[int, ...], image: int) -> list[Box]:
        """The boxes, as they are now, of those of the regions that lie on `image`."""
        return [self.boxes[region] for region in ids if self.regions[region].image == image]


def start(sizes: tuple[Size, ...], *, rescans: bool = False) -> State:
    """Nothing known of images of these sizes (width, height); `rescans` as the expert declares it."""
    return State(sizes, rescans)


def start_knowing(sizes: tuple[Size, ...], regions: tuple[KnownRegion, ...], *, context: float) -> State:
    """The search that never scans: it knows its regions already (ablations)."""
    return _join(State(sizes, context=context, n_scanned=len(sizes)), regions)


def delta_c(before: float, after: float) -> float:
    """Δc = (c' − c) / (c + ε), signed: a loss of confidence is no gain."""
    return (after - before) / (before + EPSILON)


def next_query(state: State, choose: Choose, rule: Rule) -> Scan | Aim | Stop:
    """What to ask next, or why not to: a pure function of its arguments."""
    move = ahead(state, rule)
    return aimed(state, choose(*move)) if isinstance(move, Fork) else move


def ahead(state: State, rule: Rule) -> Scan | Aim | Stop | Fork:
    """What is next as far as the state alone decides it."""
    if reason := _stop_reason(state, rule):
        return Stop(reason)
    if not state.has_scanned:
        return Scan(image=state.n_scanned)
    if state.mode == "drill" and state.focus is not None:
        return _aim(state, state.focus, state.round + 1, None)
    if ids := state.unvisited:
        return Fork(ids, tuple(state.confidences[region] for region in ids), len(state.visited))
    image = _n_scans_since_look(state)  # image after image, until a re-scan brings a new region
    if state.rescans and image < len(state.sizes):  # a round of them that brought nothing is not repeated
        return Scan(tuple(sorted(state.boxes_of(state.visited, image))), image)
    return Stop("exhausted")


def aimed(state: State, choice: Choice) -> Aim:
    """The first look at a chosen region."""
    return _aim(state, choice.region, 1, choice)


def advance(state: State, query: Scan | Aim, seen: Seen, rule: Rule, call_id: str | None = None) -> State:
    """The state after an answer, however odd; `call_id` is only carried into the step and the regions it names."""
    if isinstance(query, Aim):
        return _after_drill(state, query, seen, rule, call_id)
    return _after_scan(state, query, seen, call_id)


def glance(state: State, aim: Aim) -> State:
    """The state after looking without asking anybody (ablations): nothing is learned, and nothing is in focus."""
    step = _look_step(state, aim, "look", aim.drill.box_xyxy_px)
    return replace(state, steps=(*_steps_until(state, aim), step), visited=_visit(state, aim))


def _stop_reason(state: State, rule: Rule) -> str | None:
    if state.fallback and state.n_looks == len(state.sizes):
        return "exhausted"  # each whole image is looked at once, whatever was seen
    if not state.fallback and state.focus is not None and state.confidences[state.focus] > rule.confident_at:
        return "confident"  # the region in focus, so only after a drill
    return "length" if state.n_looks >= rule.looks_max else None


def _n_scans_since_look(state: State) -> int:
    scans = itertools.takewhile(lambda step: step.mode == "scan", reversed(state.steps))
    return sum(1 for _ in scans)


def _aim(state: State, region: int, round_: int, choice: Choice | None) -> Aim:
    box, known = state.boxes[region], state.regions[region]
    look = admit_box(grow(box, state.context * 0.5 ** (round_ - 1)), state.sizes[known.image]) or box
    return Aim(region, choice, Drill(box, known.label, look, round_, known.image))


def _after_scan(state: State, scan: Scan, seen: Seen, call_id: str | None) -> State:
    told = admit(scan, seen, state.sizes[scan.image])
    if state.has_scanned:
        told = _strangers(state, told, scan.image)
    n_scanned = min(state.n_scanned + 1, len(state.sizes))
    steps = (*state.steps, _scan_step(call_id, str(seen.text), scan.image))
    state = replace(state, n_scanned=n_scanned, mode="scan", steps=steps)
    regions = (KnownRegion(each.box_xyxy_px, each.label, each.confidence, call_id, scan.image) for each in told)
    state = _join(state, tuple(regions))
    if state.regions or not state.has_scanned:
        return state
    wholes = (KnownRegion(whole(size), WHOLE_IMAGE, 0.0, None, image) for image, size in enumerate(state.sizes))
    return _join(replace(state, fallback="whole_image"), tuple(wholes))


def _after_drill(state: State, aim: Aim, seen: Seen, rule: Rule, call_id: str | None) -> State:
    """An answer without a usable number tells nothing: confidence and box stay as they were."""
    region, before = aim.region, state.confidences[aim.region]
    told = admit(aim.drill, seen, state.sizes[aim.drill.image])
    after, box = (told[0].confidence, told[0].box_xyxy_px) if told else (before, aim.drill.box_xyxy_px)
    gain = delta_c(before, after)
    step = _look_step(state, aim, "drill", box, after, float32(gain), call_id, str(seen.text))
    return replace(
        state,
        mode="drill" if gain >= rule.gain_min and not state.fallback else "scan",
        boxes=_put(state.boxes, region, box),
        confidences=_put(state.confidences, region, after),
        visited=_visit(state, aim),
        focus=region,
        round=aim.drill.round,
        steps=(*_steps_until(state, aim), step),
    )


def _strangers(state: State, told: tuple[Candidate, ...], image: int) -> tuple[Candidate, ...]:
    """A re-scan's candidates that are no region visited or still open, nor one another; stored ones are kept."""
    known = state.boxes_of((*state.visited, *state.unvisited), image)
    new: list[Candidate] = []
    for candidate in told:
        if not _is_known(candidate.box_xyxy_px, [*known, *(each.box_xyxy_px for each in new)]):
            new.append(candidate)
    return tuple(new)


def _is_known(box: Box, others: list[Box]) -> bool:
    return any(iou(box, other) > SAME_IOU for other in others)


def _join(state: State, regions: tuple[KnownRegion, ...]) -> State:
    return replace(
        state,
        regions=state.regions + regions,
        boxes=state.boxes + tuple(region.box_xyxy_px for region in regions),
        confidences=state.confidences + tuple(region.confidence for region in regions),
    )


def _steps_until(state: State, aim: Aim) -> tuple[Step, ...]:
    """The steps, and a free re-scan when a region is chosen after a look, in a search that scans at all.

    It cites the last scan of the image that the region lies on.
    """
    scans = [step for step in state.steps if step.mode == "scan" and step.image == aim.drill.image]
    if aim.choice is None or not scans or state.steps[-1].mode == "scan":
        return state.steps
    return (*state.steps, _scan_step(scans[-1].call_id, "", aim.drill.image))


def _scan_step(call_id: str | None, text: str, image: int) -> Step:
    return Step("scan", 0, None, None, None, None, None, None, (), (), (), None, None, call_id, text, image)


def _look_step(
    state: State,
    aim: Aim,
    mode: str,
    box: Box,
    after: float | None = None,
    gain: float | None = None,
    call_id: str | None = None,
    text: str = "",
) -> Step:
    """`box` is the region after the look, so that the next look and the next choice follow from the row alone."""
    choice = aim.choice
    return Step(
        mode=mode,
        round=aim.drill.round,
        region=aim.region,
        box_xyxy_px=box,
        look_xyxy_px=aim.drill.look_xyxy_px,
        confidence_before=state.confidences[aim.region],
        confidence_after=after,
        delta_c=gain,
        candidates=choice.candidates if choice else (),
        candidate_confidences=choice.confidences if choice else (),
        nucleus=choice.nucleus if choice else (),
        probability=float32(choice.probability) if choice else None,
        rank=choice.rank if choice else None,
        call_id=call_id,
        text=text,
        image=aim.drill.image,
    )


def _visit(state: State, aim: Aim) -> tuple[int, ...]:
    return state.visited if aim.region in state.visited else (*state.visited, aim.region)


def _put(values: tuple, index: int, value: object) -> tuple:
    return (*values[:index], value, *values[index + 1 :])
