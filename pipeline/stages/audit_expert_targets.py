"""Which questions an expert can be measured on: those with a region, and those on images stated to be without finding.

A question counts for recall only where an annotated region is its own: by words and sides (`asked`), as a finding
(`findings`), or as any region of its image (`all`). Without one it is left out: that nothing is annotated does not say
that nothing is there. An image is clear only where its source's findings say so.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace

from pipeline.adapters.experts.relevance import ASKED, is_normal, relevance, sides_named
from pipeline.core.detection import Truth, regions
from pipeline.stages.expert_options import RADIOLOGY
from schemas.boxes import Box, Size
from schemas.places import side
from schemas.reader import Snapshot
from schemas.records import Question, Region
from schemas.seeds import uniform

TRUTHS = {
    "asked": "annotated regions whose label, synonym or side occurs in the question or its answer",
    "findings": "annotated regions that are no normal structure",
    "all": "all annotated regions of the image",
}
NORMAL_CLASSES = frozenset({"no finding", "normal"})  # labels that say that there is none
FINDINGS_AT_ONCE = 1 << 16  # rows

Sizes = Mapping[str, Size]
Saying = tuple[bool, int | None]  # of a class for "no finding", value


@dataclass(frozen=True, slots=True)
class Target:
    """A question with its own regions by image id; without any, its images are clear."""

    question: Question
    truths: Mapping[str, tuple[Truth, ...]]
    provenances: tuple[str, ...] = ()  # who drew its boxes, by box


@dataclass(frozen=True, slots=True)
class Targets:
    """The questions of a slice, sorted out: those drawn, and how many there are of each kind."""

    annotated: tuple[Target, ...]
    clear: tuple[Target, ...]
    n_annotated: int
    n_clear: int
    n_other_regions: int  # questions on images with regions, none of which is theirs
    n_no_regions: int  # questions on images without any, not stated to be clear

    @property
    def chosen(self) -> tuple[Target, ...]:
        return self.annotated + self.clear

    @property
    def provenances(self) -> dict[str, int]:
        """Boxes that count, by who drew them."""
        counts = Counter(each for one in self.annotated for each in one.provenances)
        return dict(sorted(counts.items()))

    def without(self, question_ids: Set[str]) -> "Targets":
        """Without those annotated questions."""
        return replace(self, annotated=tuple(one for one in self.annotated if _id(one) not in question_ids))


@dataclass
class _Draw:
    """At most `n` of the questions met, drawn by their ids whatever the order; all for None. It holds few more."""

    n: int | None
    seed: int
    n_met: int = 0
    _held: list[tuple[float, str, Target]] = field(default_factory=list)

    def add(self, one: Target) -> None:
        self.n_met += 1
        self._held.append((uniform("audit expert", self.seed, _id(one)), _id(one), one))
        if self.n is not None and len(self._held) > 2 * self.n + 64:
            self._held = self._first()

    def drawn(self) -> tuple[Target, ...]:
        """By question id."""
        return tuple(sorted((one for *_, one in self._first()), key=_id))

    def _first(self) -> list[tuple[float, str, Target]]:
        return sorted(self._held, key=lambda each: each[:2])[: self.n]


def targets(
    snapshot: Snapshot,
    upstream: str,
    truth: str,
    sizes: Sizes,
    split: str | None = None,
    n: int | None = None,
    seed: int = 0,
) -> Targets:
    """The questions of an ingest slice; at most `n` with a region and `n` clear ones are drawn."""
    stated = _stated(snapshot, upstream)
    annotated, clear = _Draw(n, seed), _Draw(n, seed)
    n_other_regions = n_no_regions = 0
    for question in snapshot.each("questions", slices=[upstream], split=split):
        own = [region for region in question.regions if _is_own(question, region, sizes, truth)]
        if own:
            annotated.add(Target(question, _truths(question, own), tuple(region.provenance for region in own)))
        elif question.regions:
            n_other_regions += 1
        elif all(_is_clear(stated.get(image_id, frozenset())) for image_id in question.image_ids):
            clear.add(Target(question, {}))
        else:
            n_no_regions += 1
    return Targets(annotated.drawn(), clear.drawn(), annotated.n_met, clear.n_met, n_other_regions, n_no_regions)


def is_clear(stated: Iterable[tuple[str, int | None]]) -> bool:
    """Whether an image is stated to be without finding: by a class for that ("No Finding") at 1, or by 0 for all.

    `stated` is what every annotator says of it. One finding at 1 or −1, of any annotator, is enough for no.
    """
    return _is_clear(frozenset(_saying(finding, value) for finding, value in stated))


def _saying(finding: str, value: int | None) -> Saying:
    return finding.casefold() in NORMAL_CLASSES, value


def _is_clear(said: Set[Saying]) -> bool:
    values = {value for is_normal_class, value in said if not is_normal_class}
    normal = {value for is_normal_class, value in said if is_normal_class} - {None}
    return values <= {0, None} and (normal == {1} or (not normal and values == {0}))


def sizes_of(snapshot: Snapshot, upstream: str) -> dict[str, Size]:
    columns = ("image_id", "width", "height")
    table = snapshot.read("images", slices=[upstream], columns=list(columns))
    ids, widths, heights = (table.column(name).to_pylist() for name in columns)
    return dict(zip(ids, zip(widths, heights, strict=True), strict=True))


def _stated(snapshot: Snapshot, upstream: str) -> dict[str, frozenset[Saying]]:
    """What is said of each image by any annotator. A set for each kind of saying, not for each image, is in memory."""
    columns = ("image_id", "finding", "value")
    found: dict[str, frozenset[Saying]] = {}
    known: dict[tuple[frozenset[Saying], Saying], frozenset[Saying]] = {}
    for part in snapshot.parts("findings", slices=[upstream]):
        table = snapshot.read_part(part, list(columns))
        for batch in table.to_batches(max_chunksize=FINDINGS_AT_ONCE):
            rows = zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
            for image_id, finding, value in rows:
                before, said = found.get(image_id, frozenset()), _saying(finding, value)
                found[image_id] = known.setdefault((before, said), before | {said})
    return found


def _is_own(question: Question, region: Region, sizes: Sizes, truth: str) -> bool:
    if truth == "all":
        return True
    if truth == "findings":
        return not is_normal(region.label, region.provenance)
    named = sides_named(region.label)
    size = sizes[question.image_ids[region.image]]
    lies = side(region.box_xyxy_px, size, mirrored=question.source in RADIOLOGY)
    where = next(iter(named)) if len(named) == 1 else lies
    return relevance(region.label, region.provenance, where, question.question, question.answer) == ASKED


def _truths(question: Question, own: Iterable[Region]) -> Mapping[str, tuple[Truth, ...]]:
    marks: dict[str, list[tuple[str, Box]]] = {}
    for region in own:
        marks.setdefault(question.image_ids[region.image], []).append((region.label, region.box_xyxy_px))
    return {image_id: regions(each) for image_id, each in marks.items()}


def _id(one: Target) -> str:
    return one.question.question_id
