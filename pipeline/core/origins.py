"""The searches that ablations compare GRN with, told in the same steps and with the same stop reasons.

* `scan_only` looks at the scanned regions in order of confidence and asks nobody about them.
* `drill_only` never scans: the four quadrants and the whole of each image are its regions, all of confidence 0.
* `random` looks as often as the GRN search of the question, at the same images through boxes of the same sizes,
  anywhere.

A box that nobody pointed at brings its own context: for quadrants and random boxes the look is the box itself.
(MedEyes, arXiv:2511.22018, names them; the details are ours.)
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pipeline.core.admission import float32
from pipeline.core.cvs import Choose
from pipeline.core.grn import WHOLE_IMAGE, Aim, State, glance, next_query, start_knowing
from pipeline.core.walks import Place, Walk, Walked, ended, navigate
from schemas.boxes import Box, Size, whole
from schemas.records import KnownRegion, Rule, Step
from schemas.seeds import uniform

ABLATIONS = ("scan_only", "drill_only", "random")


def scan_only(scanned: State, choose: Choose, rule: Rule) -> Walked:
    """From the state after a scan."""
    state = replace(scanned, rescans=False)
    while isinstance(move := next_query(state, choose, rule), Aim):
        state = glance(state, move)
    return ended(state, move)


def drill_only(sizes: Sequence[Size], choose: Choose, rule: Rule) -> Walk:
    """Quadrants are regions 0…3 in reading order, the whole image is 4; 5…9 of the next image; equals go by id."""
    regions = tuple(
        KnownRegion(box, label, 0.0, None, image) for image, size in enumerate(sizes) for label, box in _cells(size)
    )
    return navigate(Place(start_knowing(tuple(sizes), regions, context=0.0), rule), choose)


def at_random(grn: Walked, sizes: Sequence[Size], rule: Rule, seed: int, question_id: str) -> Walked:
    """Every look of `grn`, same width and height, moved to a place drawn uniformly inside its image."""
    looks = [(step.look_xyxy_px, step.image) for step in grn.steps if step.look_xyxy_px is not None]
    regions = tuple(
        KnownRegion(_moved(look, sizes[image], seed, question_id, number), "random box", 0.0, None, image)
        for number, (look, image) in enumerate(looks)
    )
    steps = tuple(_unasked(number, region) for number, region in enumerate(regions))
    return Walked(regions, steps, "length" if len(steps) >= rule.looks_max else "exhausted")


def _cells(size: Size) -> Iterable[tuple[str, Box]]:
    """Image sides are whole, so halves are float32-exact."""
    (x, y), (width, height) = (size[0] / 2, size[1] / 2), map(float, size)
    yield "upper left quadrant", (0.0, 0.0, x, y)
    yield "upper right quadrant", (x, 0.0, width, y)
    yield "lower left quadrant", (0.0, y, x, height)
    yield "lower right quadrant", (x, y, width, height)
    yield WHOLE_IMAGE, whole(size)


def _moved(look: Box, size: Size, seed: int, question_id: str, number: int) -> Box:
    edges = []
    for axis in (0, 1):
        side = look[axis + 2] - look[axis]
        low = uniform("random", seed, question_id, number, axis) * (size[axis] - side)
        edges.append((float32(low), float32(min(low + side, size[axis]))))
    (x0, x1), (y0, y1) = edges
    return x0, y0, x1, y1


def _unasked(number: int, region: KnownRegion) -> Step:
    box = region.box_xyxy_px
    return Step("look", 1, number, box, box, 0.0, None, None, (), (), (), None, None, None, "", region.image)
