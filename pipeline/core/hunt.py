"""All searches of one question: GRN, its CVS variants and the ablations asked for, as one coroutine.

It yields the distinct queries of a round and is sent what was recorded of them; it knows no other question, no
batch and no expert. Variants that repeat another are drawn again here, and what is kept becomes `Trajectory` records.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.cvs import SamplerConfig, greedy, sampled
from pipeline.core.grn import NavigatorConfig, State, advance, start
from pipeline.core.origins import ABLATIONS, at_random, drill_only, scan_only
from pipeline.core.walks import Place, Reply, Walk, Walked, navigate, together
from schemas.boxes import Size
from schemas.experts import ExpertIdentity, Query, Scan
from schemas.records import Question, Rule, Trajectory


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """`origins` are ablations to run beside GRN and CVS; the other two records quote their sources."""

    navigator: NavigatorConfig = field(default_factory=NavigatorConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.origins) - set(ABLATIONS)):
            raise ValueError(f"unknown origins {unknown}; known are {list(ABLATIONS)}")

    @property
    def rule(self) -> Rule:
        """The numbers that rows record."""
        return Rule(
            gain_min=self.navigator.gain_min,
            confident_at=self.navigator.confident_at,
            looks_max=self.navigator.looks_max,
            mass=self.sampler.mass,
            temperature=self.sampler.temperature,
            crossing=self.sampler.crossing,
        )


@dataclass(frozen=True, slots=True)
class SearchImage:
    """One image of a question; `decoded` gives its PIL image of `size` (width, height) when an expert is to see it."""

    image_id: str
    size: Size
    decoded: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class SearchItem:
    """One question with all of its images, in its order."""

    question: Question
    images: tuple[SearchImage, ...]

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError(f"question {self.question.question_id} has no image to search")

    @property
    def sizes(self) -> tuple[Size, ...]:
        return tuple(image.size for image in self.images)


@dataclass(frozen=True, slots=True)
class Found:
    """A finished search under the name its row gets."""

    origin: str
    variant: int
    n_redraws: int
    walked: Walked


Hunt = Generator[frozenset[Query], Mapping[Query, Reply], tuple[Trajectory, ...]]


def hunt(item: SearchItem, identity: ExpertIdentity, config: SearchConfig, source: str, seed: int) -> Hunt:
    """One scan of each image for all; then GRN, first draws and ablations at once; then redraws. Rows in that order."""
    rule, sizes, question_id = config.rule, item.sizes, item.question.question_id
    scanned = yield from _scanned(start(sizes, rescans=identity.rescans), rule)
    place, known = Place(scanned, rule), dict[Query, Reply]()

    def cvs(variant: int, redraw: int) -> Walk:
        return navigate(place, sampled(rule, seed, question_id, variant, redraw))

    walks: dict[object, Walk] = {"grn": navigate(place, greedy(rule))}
    walks |= {variant: cvs(variant, 0) for variant in range(1, config.sampler.variants + 1)}
    if "drill_only" in config.origins:
        walks["drill_only"] = drill_only(sizes, greedy(rule), rule)
    walked = yield from together(walks, known)

    kept, pending = _new_paths({}, range(1, config.sampler.variants + 1), walked, 0)
    for redraw in range(1, config.sampler.redraws + 1):
        drawn = yield from together({variant: cvs(variant, redraw) for variant in pending}, known)
        kept, pending = _new_paths(kept, pending, drawn, redraw)

    if "scan_only" in config.origins:
        walked["scan_only"] = scan_only(scanned, greedy(rule), rule)
    if "random" in config.origins:
        walked["random"] = at_random(walked["grn"], sizes, rule, seed, question_id)
    found = [Found("grn", 0, 0, walked["grn"]), *(kept[variant] for variant in sorted(kept))]
    found += [Found(name, 0, 0, walked[name]) for name in ABLATIONS if name in config.origins]
    return tuple(_trajectories(found, item, identity, rule, source, seed))


def _scanned(state: State, rule: Rule) -> Generator[frozenset[Query], Mapping[Query, Reply], State]:
    scans = [Scan(image=image) for image in range(len(state.sizes))]
    replies = yield frozenset(scans)
    for scan in scans:
        state = advance(state, scan, replies[scan].seen, rule, replies[scan].call_id)
    return state


def _new_paths(
    kept: Mapping[int, Found], variants: Sequence[int], drawn: Mapping[Any, Walked], redraw: int
) -> tuple[dict[int, Found], list[int]]:
    """(kept and every variant with a path not kept yet, variants to draw again); GRN's own path does not count.

    A repeated path on which every nucleus held one region is left out at once: no draw can change it.
    """
    kept, again = dict(kept), []
    paths = {found.walked.path for found in kept.values()}
    for variant in variants:
        walked = drawn[variant]
        if walked.path not in paths:
            paths.add(walked.path)
            kept[variant] = Found("cvs", variant, redraw, walked)
        elif not walked.is_certain:
            again.append(variant)
    return kept, again


def _trajectories(
    found: Sequence[Found], item: SearchItem, identity: ExpertIdentity, rule: Rule, source: str, seed: int
) -> Iterator[Trajectory]:
    """They end with the gold answer on the train split; elsewhere nobody answers."""
    question, expert, image_ids = item.question, identity.id, tuple(image.image_id for image in item.images)
    is_gold = question.split == "train"
    for each in found:
        walked = each.walked
        yield Trajectory(
            question_id=question.question_id,
            image_ids=image_ids,
            source=source,
            split=question.split,
            variant=each.variant,
            origin=each.origin,
            origin_fallback=walked.fallback,
            expert=expert,
            privileged=identity.privileged,
            seed=seed,
            n_redraws=each.n_redraws,
            rule=rule,
            regions=walked.regions,
            steps=walked.steps,
            stop_reason=walked.stop_reason,
            n_looks=sum(step.mode != "scan" for step in walked.steps),
            answer=question.answer if is_gold else None,
            answer_source="gold" if is_gold else None,
        )
