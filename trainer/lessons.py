"""Warm-start lessons of kind `format`: how to look, what is seen and how to read a crop; never which box to look at.

Two kinds of row. A *form* row looks at a uniformly random box and carries loss on it; when the box misses what the
question is about, the answer is drawn from the prior of its question type. A *reading* row looks at a random box
that does contain it, with no loss on the look, so that the box teaches nothing about where. Ours: it stands for the
papers' instruct model, which knows how to follow a format and what a finding looks like.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from schemas.boxes import Box, Size, area, intersection
from schemas.places import SIDES, side, zone
from schemas.records import Question, Region
from schemas.seeds import digest_int, uniform
from trainer.environment import Environment, Episode, Scene
from trainer.episodes import tell
from trainer.recipe import WarmConfig

COVERED_MIN = 0.9  # share of a region that a crop must hold to show it
ABSENT = "nothing here"  # what a lesson says of a crop that does not show what the question names


@dataclass(frozen=True)
class Lesson:
    """An episode, whether its look turns carry loss, and whether its crop shows what the answer says."""

    episode: Episode
    trains_looks: bool
    is_shown: bool


def prior_answers(questions: Sequence[Question]) -> dict[str | None, tuple[str, ...]]:
    """Gold answers by question type, with their multiplicity: what a guess is drawn from."""
    answers: dict[str | None, list[str]] = {}
    for question in sorted(questions, key=lambda one: one.question_id):
        answers.setdefault(question.question_type, []).append(question.answer)
    return {kind: tuple(values) for kind, values in answers.items()}


def named_regions(scene: Scene) -> list[Region]:
    """Findings that the question calls by name, of one side (of their image) alone where it names one alone."""
    words = scene.question.question.casefold()
    sides = [one for one in SIDES if re.search(rf"\b{one}\b", words)]
    findings = [region for region in scene.question.regions if region.provenance == "finding"]
    called = [one for one in findings if re.search(rf"\b{re.escape(one.label.casefold())}\b", words)]
    return [one for one in called if len(sides) != 1 or side(one.box_xyxy_px, scene.size(one.image)) in sides]


def is_shown(region: Region, looks: Iterable[tuple[int, Box]]) -> bool:
    """Whether some look at the region's image holds it."""
    box = region.box_xyxy_px
    return any(image == region.image and intersection(look, box) >= COVERED_MIN * area(box) for image, look in looks)


def lesson(
    environment: Environment, scene: Scene, prior: Mapping[str | None, tuple[str, ...]], config: WarmConfig, key: tuple
) -> Lesson:
    """One lesson about the scene's question; all its chance comes from `key`."""
    question, named = scene.question, named_regions(scene)
    is_reading = bool(named) and uniform(*key, "kind") < config.reading_share
    target = named[digest_int(*key, "target") % len(named)] if is_reading else None
    image = target.image if target else digest_int(*key, "image") % len(scene.images)
    look = random_look(scene.size(image), config, key, around=target.box_xyxy_px if target else None)
    shows = not named or any(is_shown(region, [(image, look)]) for region in named)
    guesses = prior[question.question_type]
    answer = question.answer if shows else guesses[digest_int(*key, "guess") % len(guesses)]
    episode = environment.start(scene, "expert", f"{question.question_id} lesson")
    seen, seen_closely = words(named, scene, shows)
    return Lesson(tell(environment, episode, [(seen, image, look)], seen_closely, answer), not is_reading, shows)


def words(named: Sequence[Region], scene: Scene, shows: bool) -> tuple[str, str]:
    """What is said of the whole images, and of the crop: what there is and in which sixth, never a coordinate."""
    places = [f"{one.label} on the {_place(one, scene)}" for one in named]
    whole = ", ".join(f"likely {place}" for place in places)
    if not named:
        return whole, ""
    return whole, f"clear {places[0]}" if shows else ABSENT


def random_look(size: Size, config: WarmConfig, key: tuple, *, around: Box | None = None) -> Box:
    """A box with uniform sides, placed uniformly in the image, or uniformly among the places that contain `around`."""
    low, high = config.look_side_share_min, config.look_side_share_max
    edges = []
    for axis, extent in enumerate(size):
        side = extent * (low + (high - low) * uniform(*key, "side", axis))
        first, last = 0.0, extent - side
        if around is not None:
            side = min(float(extent), max(side, around[axis + 2] - around[axis]))
            first, last = max(0.0, around[axis + 2] - side), min(extent - side, around[axis])
        start = first + (max(first, last) - first) * uniform(*key, "place", axis)
        edges.append((start, start + side))
    (x0, x1), (y0, y1) = edges
    return x0, y0, x1, y1


def _place(region: Region, scene: Scene) -> str:
    size = scene.size(region.image)
    sixth = f"{zone(region.box_xyxy_px, size)} {side(region.box_xyxy_px, size)}"
    return f"{sixth} of image {region.image + 1}" if scene.has_several else sixth
