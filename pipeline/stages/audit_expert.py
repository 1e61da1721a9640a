"""`fovea audit --expert`: what an expert is worth, measured against annotated regions before anything is trained on it.

The expert is asked now (`--expert`), or its recorded answers are read (`--expert-slice`). An expert that reads the
annotations is measured like any other, and the report says so. No version of the store is made: of a costly expert the
answers are kept in its work/, as a build keeps them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.core.detection import DRAWS, SAME_IOU
from pipeline.core.expert_measures import SURE_AT, TRUE_IOU, Worth, worth
from pipeline.stages.audit_expert_answers import Answers, Met, ask, meet, recorded
from pipeline.stages.audit_expert_targets import TRUTHS, Targets, sizes_of, targets
from schemas.errors import ExpertError, InputError, UsageError
from schemas.experts import Expert
from schemas.manifest import Slice
from schemas.reader import Snapshot
from schemas.records import SPLITS

COUNTED = "counted_"  # before the names of what an expert counts itself
PRIVILEGED = "It reads the annotations that it is measured against: these figures are no evidence of skill."


@dataclass(frozen=True, slots=True)
class Which:
    """Which questions, against which regions. `n_questions` None: all."""

    split: str | None = None
    truth: str = "asked"
    n_questions: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.truth not in TRUTHS:
            raise UsageError(f"--truth {self.truth!r} is none of {', '.join(TRUTHS)}")
        if self.split not in (None, *SPLITS):
            raise UsageError(f"--split {self.split!r} is none of {', '.join(SPLITS)}")


@dataclass(frozen=True, slots=True)
class ExpertReport:
    """`how` is asked or recorded; `questions` and `cost` are counts that the measures rest on, `failures` of calls."""

    expert: str
    privileged: bool
    how: str
    slice: str
    version: str
    digest: str
    which: Which
    questions: Mapping[str, int]
    provenances: Mapping[str, int]
    worth: Worth
    cost: Mapping[str, Any]
    failures: Mapping[str, int]
    rules: tuple[str, ...]

    def to_json(self, store: object) -> dict[str, Any]:
        plain = asdict(self)
        return {"store": str(store), **plain.pop("which"), **plain.pop("worth"), **plain}


def audit_asked(snapshot: Snapshot, upstream: Slice, which: Which, expert: Expert, looks_max: int) -> ExpertReport:
    """Ask `expert` about the questions of an ingest slice."""
    sizes = sizes_of(snapshot, upstream.key)
    chosen = _targets(snapshot, upstream, which, sizes)
    answers = ask(snapshot, chosen.chosen, sizes, expert, looks_max)
    return _report(snapshot, upstream.key, which, chosen, answers, sizes, "asked")


def audit_recorded(snapshot: Snapshot, built: Slice, which: Which) -> ExpertReport:
    """Read the answers from the calls of a slice of trajectories."""
    upstream = _upstream(snapshot, built)
    sizes = sizes_of(snapshot, upstream.key)
    chosen = _targets(snapshot, upstream, which, sizes)
    answers = recorded(snapshot, built, chosen.chosen)
    return _report(snapshot, built.key, which, chosen, answers, sizes, "recorded")


def _upstream(snapshot: Snapshot, built: Slice) -> Slice:
    """The questions that a slice answers, as they were when it did; errors for another kind of slice or another day."""
    if built.stage != "trajectories" or len(built.inputs) != 1:
        raise UsageError(f"{built.key} holds no answers of an expert", fix="name a slice like trajectories/phantom/…")
    (key, digest), *_ = built.inputs.items()
    upstream = snapshot.manifest.slices.get(key)
    if upstream is None or upstream.digest != digest:
        fix = "build it again, or measure the version that it was made in: --version"
        raise InputError(f"{built.key} was made from another {key} than this version holds", fix=fix)
    return upstream


def _targets(snapshot: Snapshot, upstream: Slice, which: Which, sizes: Mapping[str, tuple[int, int]]) -> Targets:
    if upstream.stage != "ingest":
        raise UsageError(f"{upstream.key} holds no questions", fix="name a source that was ingested: --source slake")
    found = targets(snapshot, upstream.key, which.truth, sizes, which.split, which.n_questions, which.seed)
    if not found.chosen:
        what = f"no question of {upstream.key} has a region to measure against ({which.truth}: {TRUTHS[which.truth]})"
        raise InputError(what, fix="take a source with boxes, such as slake, nih-cxr14, rsna-pneumonia or phantom")
    return found


def _report(
    snapshot: Snapshot,
    slice_: str,
    which: Which,
    chosen: Targets,
    answers: Answers,
    sizes: Mapping[str, tuple[int, int]],
    how: str,
) -> ExpertReport:
    annotated, clear = (meet(each, sizes, answers.calls) for each in (chosen.annotated, chosen.clear))
    failures = dict(sorted(Counter(call.error_class for call in answers.calls if call.error_class).items()))
    if not annotated.scanned and not clear.scanned:
        raise ExpertError(f"{answers.expert} has answered none of the questions", where=slice_, fix=_told(failures))
    measured = worth(annotated.scanned, annotated.drilled, clear.scanned)
    return ExpertReport(
        expert=answers.expert,
        privileged=answers.privileged,
        how=how,
        slice=slice_,
        version=f"v{snapshot.manifest.version}",
        digest=snapshot.manifest.digest,
        which=which,
        questions=_questions(chosen, annotated, clear),
        provenances=chosen.without({*annotated.failed, *annotated.unasked}).provenances,
        worth=measured,
        cost=_cost(answers),
        failures=failures,
        rules=_rules(which, answers.privileged, measured, how),
    )


def _told(failures: Mapping[str, int]) -> str:
    why = ", ".join(f"{name} {n}" for name, n in failures.items())
    return f"mend why it fails ({why})" if why else "take a slice that was made from all of them"


def _questions(chosen: Targets, annotated: Met, clear: Met) -> dict[str, int]:
    gone = [len(each) for met in (annotated, clear) for each in (met.failed, met.unasked)]
    return {
        "annotated": chosen.n_annotated,
        "clear": chosen.n_clear,
        "left_out_other_regions": chosen.n_other_regions,
        "left_out_no_regions": chosen.n_no_regions,
        "measured": len(chosen.annotated) - gone[0] - gone[1],
        "measured_clear": len(chosen.clear) - gone[2] - gone[3],
        "failed": gone[0] + gone[2],
        "unasked": gone[1] + gone[3],
        "images": len({one.image_id for one in annotated.scanned}),
        "drills_mute": annotated.n_mute,
        "drills_unscanned": annotated.n_unscanned,
    }


def _cost(answers: Answers) -> dict[str, Any]:
    """Totals, and the same per question that was asked; what nobody counted is left out.

    Where some calls were known before, what the others took is told per call: no question has its whole cost then.
    """
    n_questions = len({call.question_id for call in answers.calls})
    n_calls, n_scans = len(answers.calls), sum(call.mode == "scan" for call in answers.calls)
    calls = {"calls": n_calls, "scans": n_scans, "drills": n_calls - n_scans}
    taken: dict[str, Any] = {} if answers.seconds is None else {"seconds": answers.seconds}
    taken |= {f"{COUNTED}{name}": value for name, value in (answers.usage or {}).items() if value is not None}
    if not answers.n_known:
        return {**calls, **taken, "per_question": _shared(calls | taken, n_questions)}
    n_asked = n_calls - answers.n_known
    known = {"calls_asked": n_asked, "calls_cached": answers.n_known}
    shares = {"per_question": _shared(calls, n_questions), "per_call_asked": _shared(taken, n_asked)}
    return {**calls, **known, **taken, **shares}


def _shared(totals: Mapping[str, Any], n: int) -> dict[str, float]:
    return {name: value / n for name, value in totals.items() if n and type(value) in (int, float)}


def _rules(which: Which, privileged: bool, measured: Worth, how: str) -> tuple[str, ...]:
    """What the figures mean, in words that go with them."""
    scan, drill = measured.scan, measured.drill
    rules = [
        f"Counted are {TRUTHS[which.truth]}, once for each question that they are counted for; boxes of one label "
        f"with IoU > {SAME_IOU:g} are one region. "
        "Questions without such a region are left out: that nothing is annotated does not say that nothing is there.",
        "Recall and precision: one-to-one, the surest box first. 95 % intervals are Wilson's, with the sample size "
        "that clusters of boxes on one image are worth.",
        f"Random: the mean of {DRAWS} draws of boxes of the same sides anywhere in the image; ± is one standard error, "
        "left out where no two images differ.",
        f"A confidence is right where its box has IoU ≥ {TRUE_IOU:g} with a region. What nobody annotated counts as "
        "wrong: where the annotation is not exhaustive, precision is a bound from below and calibration is off. "
        "Of few boxes an ECE is above 0 by chance alone.",
        f"Clear images are those whose source states that no finding is there; a false alarm has c ≥ {SURE_AT:g}.",
    ]
    if drill is not None and scan is not None and drill.drilled.n < scan.n:
        rules.append(
            f"Drilled are {drill.drilled.n:,} of {scan.n:,} boxes, chosen by the confidence of the scan: among those "
            "it tells right from wrong less well than among all, which flatters the drill."
        )
    if how == "recorded":
        rules.append("Answers are those that a build asked for: its drills follow its paths.")
    return (*([PRIVILEGED] if privileged else []), *rules)
