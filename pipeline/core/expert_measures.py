"""What an expert is worth: where it looks, what its confidences mean, and what a drill adds to a scan.

Recall counts annotated regions, precision boxes (`detection`); a confidence is right where its box overlaps an
annotated region at all well (`TRUE_IOU`), duplicates too. What nobody annotated counts as wrong here, so that
precision is a bound from below where the annotation is not exhaustive. Nothing here asks an expert.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.calibration import Calibration, Outcome, auroc_gain_se, calibration, mean
from pipeline.core.detection import IOUS, Scanned, chance_hits, hits
from pipeline.core.grn import delta_c
from pipeline.core.intervals import Share, gain, share

TRUE_IOU = 0.3
SURE_AT = 0.5  # a box on a clear image with at least this confidence is a false alarm


@dataclass(frozen=True, slots=True)
class Drilled:
    """A region of a scan and the first drill at it; `is_true` by the box that was asked about."""

    image_id: str
    before: float
    after: float
    is_true: bool

    @property
    def change(self) -> float:
        """c' − c; the machine's Δc is relative, and large where c is near 0."""
        return self.after - self.before

    @property
    def delta_c(self) -> float:
        return delta_c(self.before, self.after)


@dataclass(frozen=True, slots=True)
class AtIou:
    """One share at one IoU, the same of random boxes of the same sides, and the difference with its error."""

    iou: float
    share: Share
    random: float
    gain: float
    gain_se: float | None


@dataclass(frozen=True, slots=True)
class DrillGain:
    """The same regions by their scan and by their first drill; differences of `drilled` from `scanned`.

    Errors are over images, and None where nothing tells them; an ECE has none.
    """

    scanned: Calibration
    drilled: Calibration
    auroc_gain: float | None
    auroc_gain_se: float | None
    ece_gain: float
    brier_gain: float
    brier_gain_se: float | None
    change_true: float | None  # means of c' − c, of regions that are annotated
    change_false: float | None
    delta_c_true: float | None  # means of Δc
    delta_c_false: float | None


@dataclass(frozen=True, slots=True)
class Clear:
    """Images that the source states to be without finding: how often the expert sees something all the same."""

    any_box: Share
    sure_box: Share
    boxes_per_scan: float
    confidence: float | None  # mean


@dataclass(frozen=True, slots=True)
class Worth:
    n_regions: int
    n_boxes: int
    recall: tuple[AtIou, ...]
    precision: tuple[AtIou, ...]  # of all boxes; empty where there is none
    surest: tuple[AtIou, ...]  # precision of the surest box of each scan
    scan: Calibration | None
    drill: DrillGain | None
    clear: Clear | None


def worth(annotated: Sequence[Scanned], drilled: Sequence[Drilled], clear: Sequence[Scanned]) -> Worth:
    """All measures; `annotated` are images with a region for their question, of which `drilled` are regions."""
    own, chance = [hits(one) for one in annotated], [chance_hits(one) for one in annotated]
    images = [one.image_id for one in annotated]
    n_regions, n_boxes = [len(one.truths) for one in annotated], [len(one.found) for one in annotated]
    every, by_chance = [one.all for one in own], [one.all for one in chance]
    surest, surest_by_chance = [one.surest for one in own], [one.surest for one in chance]
    return Worth(
        n_regions=sum(n_regions),
        n_boxes=sum(n_boxes),
        recall=at_ious(images, every, by_chance, n_regions),
        precision=at_ious(images, every, by_chance, n_boxes),
        surest=at_ious(images, surest, surest_by_chance, [min(1, n) for n in n_boxes]),
        scan=calibration([outcome for one in annotated for outcome in outcomes(one)]),
        drill=drill_gain(drilled),
        clear=clear_images(clear),
    )


def outcomes(one: Scanned) -> list[Outcome]:
    return [Outcome(one.image_id, each.confidence, one.overlap(each.box_xyxy_px) >= TRUE_IOU) for each in one.found]


def at_ious(
    images: Sequence[str],
    found: Sequence[tuple[float, ...]],
    by_chance: Sequence[tuple[float, ...]],
    of: Sequence[int],
) -> tuple[AtIou, ...]:
    """Hits of `of` things on each image, of the expert and of random boxes, at each of `IOUS`."""
    rows = []
    for at, iou in enumerate(IOUS):
        pairs = list(zip(images, _at(found, at), _at(by_chance, at), of, strict=True))
        own, more = share((image, hit, n) for image, hit, _, n in pairs), gain(pairs)
        if own is not None and more is not None:
            rows.append(AtIou(iou, own, math.fsum(pair[2] for pair in pairs) / own.n, *more))
    return tuple(rows)


def _at(found: Sequence[tuple[float, ...]], at: int) -> list[float]:
    return [each[at] for each in found]


def drill_gain(drilled: Sequence[Drilled]) -> DrillGain | None:
    """None where nothing was drilled."""
    right, wrong = [one for one in drilled if one.is_true], [one for one in drilled if not one.is_true]
    scans = [Outcome(one.image_id, one.before, one.is_true) for one in drilled]
    drills = [Outcome(one.image_id, one.after, one.is_true) for one in drilled]
    before, after = calibration(scans), calibration(drills)
    brier = gain((one.image_id, (one.after - one.is_true) ** 2, (one.before - one.is_true) ** 2, 1) for one in drilled)
    if before is None or after is None or brier is None:
        return None
    is_told = before.auroc is not None and after.auroc is not None
    return DrillGain(
        scanned=before,
        drilled=after,
        auroc_gain=after.auroc - before.auroc if is_told else None,
        auroc_gain_se=auroc_gain_se(scans, drills) if is_told else None,
        ece_gain=after.ece - before.ece,
        brier_gain=after.brier - before.brier,
        brier_gain_se=brier[1],
        change_true=mean([one.change for one in right]),
        change_false=mean([one.change for one in wrong]),
        delta_c_true=mean([one.delta_c for one in right]),
        delta_c_false=mean([one.delta_c for one in wrong]),
    )


def clear_images(scans: Sequence[Scanned]) -> Clear | None:
    """None where the source states of no image that it is without finding."""
    any_box = share((one.image_id, float(bool(one.found)), 1) for one in scans)
    sure = share((one.image_id, float(any(each.confidence >= SURE_AT for each in one.found)), 1) for one in scans)
    if any_box is None or sure is None:
        return None
    confidences = [each.confidence for one in scans for each in one.found]
    return Clear(any_box, sure, len(confidences) / len(scans), mean(confidences))
