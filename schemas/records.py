"""Facts as frozen records: one class per table, so that a misspelt field fails where it is written.

Nothing here knows Arrow; `schemas.tables` turns records into rows and back.
"""

from dataclasses import dataclass

from schemas.boxes import Box

MODES = ("scan", "drill", "look")  # look = gazed at without asking the expert (ablations)
STOPS = ("confident", "length", "exhausted")
ORIGINS = ("grn", "cvs", "scan_only", "drill_only", "random")
ANSWER_KINDS = ("closed", "open", "choice")
SPLITS = ("train", "validation", "test")
POOL = "pool"  # the one split of images, findings and expert calls


@dataclass(frozen=True, slots=True)
class Region:
    """An annotated box of a question; `image` indexes the question's image_ids."""

    box_xyxy_px: Box
    label: str
    provenance: str
    image: int = 0


@dataclass(frozen=True, slots=True)
class Hashes:
    """What near copies of an image have nearly in common, in hex; all null where a picture has too little in it.

    An inverse needs no hash of its own: its bits are the complement. `trimmed` is without its uniform border.
    """

    pdq: str | None = None  # 64 digits
    pdq_mirror: str | None = None
    pdq_trimmed: str | None = None
    phash: str | None = None  # 16 digits
    phash_mirror: str | None = None
    phash_trimmed: str | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """One stored image; `data` are the bytes whose sha256 is `image_id`.

    `origin` is "family:name" of the picture this is a copy of (nih:00000550_000.png), `group_key` the article or
    volume it was taken from (article:PMC1064097), `patient_key` a keyed hash; each null when unknown.
    """

    image_id: str
    data: bytes
    path: str
    width: int
    height: int
    modality: str | None
    pixel_sha256: str
    source: str
    licence: str
    hashes: Hashes = Hashes()
    origin: str | None = None
    patient_key: str | None = None
    group_key: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    question_id: str
    source: str
    split: str
    image_ids: tuple[str, ...]
    question: str
    answer: str
    answer_kind: str
    options: tuple[str, ...] = ()
    question_type: str | None = None
    language: str = "en"
    phrase_type: str | None = None
    regions: tuple[Region, ...] = ()
    patient_key: str | None = None
    answer_type: str | None = None  # the source's own OPEN or CLOSED
    source_split: str | None = None  # where the source had it, if it was moved


@dataclass(frozen=True, slots=True)
class Finding:
    """What one annotator says of one image: 1 present, 0 absent, −1 uncertain, null not mentioned."""

    image_id: str
    finding: str
    value: int | None
    annotator: str
    source: str


@dataclass(frozen=True, slots=True)
class ExpertCall:
    call_id: str
    question_id: str
    image_id: str
    expert: str
    mode: str
    round: int
    box_xyxy_px: Box | None
    look_xyxy_px: Box | None
    raw: str
    text: str
    candidates: tuple[tuple[Box, str, float], ...]
    error_class: str | None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One scan (null box and look), one drill, or one unasked look, with all that its decision was made from.

    `candidates`, `candidate_confidences`, `nucleus`, `probability` and `rank` describe the choice of the region and
    are empty or null where nothing was chosen (scans, rounds after the first). `confidence_*` and `delta_c` are null
    for scans; `confidence_after` and `delta_c` also for unasked looks. `image` indexes the trajectory's image_ids.
    """

    mode: str
    round: int
    region: int | None
    box_xyxy_px: Box | None
    look_xyxy_px: Box | None
    confidence_before: float | None
    confidence_after: float | None
    delta_c: float | None
    candidates: tuple[int, ...]
    candidate_confidences: tuple[float, ...]
    nucleus: tuple[int, ...]
    probability: float | None
    rank: int | None
    call_id: str | None
    text: str
    image: int = 0


@dataclass(frozen=True, slots=True)
class KnownRegion:
    """A region of a trajectory; its index is its id. `box_xyxy_px` is the box it entered with, on image `image`."""

    box_xyxy_px: Box
    label: str
    confidence: float
    call_id: str | None
    image: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """The numbers a trajectory was decided with (MedEyes, arXiv:2511.22018; marks in `pipeline.core`)."""

    gain_min: float  # δ
    confident_at: float  # ξ
    looks_max: int  # T_max
    mass: float  # p₀
    temperature: float  # τ
    crossing: str  # "exclude" | "include"


@dataclass(frozen=True, slots=True)
class Trajectory:
    """`image_ids` are all images of the question, in its order."""

    question_id: str
    image_ids: tuple[str, ...]
    source: str
    split: str
    variant: int
    origin: str
    origin_fallback: str | None
    expert: str
    privileged: bool
    seed: int
    n_redraws: int
    rule: Rule
    regions: tuple[KnownRegion, ...]
    steps: tuple[Step, ...]
    stop_reason: str
    n_looks: int
    answer: str | None
    answer_source: str | None


@dataclass(frozen=True, slots=True)
class Reject:
    """One input row that did not make it; `row_key` finds it in the source."""

    stage: str
    source: str
    shard: str
    row_key: str
    error_class: str
    message: str
