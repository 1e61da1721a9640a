"""What a demo left behind, read back into frozen records; a piece that is missing or broken is named.

It reads the files that `train`, `evaluate` and `audit` write for programs, and judges nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.stages.demo_plan import Demo
from schemas.boxes import Box, as_box
from schemas.errors import InputError


@dataclass(frozen=True, slots=True)
class Score:
    """Share of right answers with its 95 % interval; `majority` is that of a reader who never sees the image."""

    n: int
    accuracy: float
    interval: tuple[float, float]
    majority: float | None


@dataclass(frozen=True, slots=True)
class Played:
    """One question as a policy played it; looks in pixels of the stored image."""

    question_id: str
    answer: str | None
    is_correct: bool
    looks_xyxy_px: tuple[Box, ...]
    turns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    label: str
    checkpoint: str
    store_digest: str
    temperature: float  # its episodes were sampled at; 0 is greedy
    overall: Score
    by_type: Mapping[str, Score]
    played: tuple[Played, ...]


@dataclass(frozen=True, slots=True)
class Audited:
    version: str
    digest: str
    problems: tuple[Mapping[str, Any], ...]
    findings: tuple[Mapping[str, Any], ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """`run` is what run.json says; `steps` are the lines of steps.jsonl, in order."""

    run: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...]
    evaluations: tuple[Evaluation, ...]
    audit: Audited

    @property
    def store_digest(self) -> str:
        return self.run["store_digest"]

    @property
    def trained(self) -> Evaluation:
        return self.evaluations[-1]


def read_results(demo: Demo) -> Results:
    """InputError when a file is missing, cannot be read, or is about another version of the store than the run."""
    run_path = demo.run / "run.json"
    run = _checked(run_path, demo, lambda plain: plain | {"store_digest": str(plain["store_digest"])})
    audit = _checked(demo.audit, demo, _audited)
    evaluations = tuple(
        _checked(demo.evaluation(one.name), demo, lambda plain, label=one.label: _evaluation(plain, label))
        for one in demo.checkpoints
    )
    results = Results(run, _steps(demo.run / "steps.jsonl", demo), evaluations, audit)
    paths = [demo.evaluation(one.name) for one in demo.checkpoints]
    about = zip([demo.audit, *paths], [audit.digest, *(one.store_digest for one in evaluations)], strict=True)
    for path, digest in about:
        if digest != results.store_digest:
            what = f"about version {digest[:12]} of the store, but the run was trained on {results.store_digest[:12]}"
            raise InputError(what, where=path, fix="remove the file and run the demo again, or use another --out")
    return results


def _checked(path: Path, demo: Demo, make: Any) -> Any:
    """What `make` makes of the JSON object in a file."""
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError("this piece of the demo is missing", where=path, fix=_again(demo)) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        what = f"not what the demo writes there: {type(error).__name__} {error}"
        raise InputError(what, where=path, fix=f"remove it; {_again(demo)}") from error


def _again(demo: Demo) -> str:
    return f"fovea demo --out {demo.out}{' --short' if demo.sizes.form == 'short' else ''}"


def _steps(path: Path, demo: Demo) -> tuple[Mapping[str, Any], ...]:
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return tuple(sorted(lines, key=lambda one: one["step"]))
    except FileNotFoundError:
        raise InputError("this piece of the demo is missing", where=path, fix=_again(demo)) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"not the steps of a run: {error}", where=path, fix="train again in another --out") from error


def _audited(plain: Mapping[str, Any]) -> Audited:
    lists = {name: tuple(plain[name]) for name in ("problems", "findings", "skipped")}
    return Audited(str(plain["version"]), str(plain["digest"]), **lists)


def _evaluation(plain: Mapping[str, Any], label: str) -> Evaluation:
    return Evaluation(
        label=label,
        checkpoint=plain["checkpoint"],
        store_digest=plain["store_digest"],
        temperature=float(plain["temperature"]),
        overall=_score(plain["overall"]),
        by_type={name: _score(one) for name, one in plain["by_type"].items()},
        played=tuple(map(_played, plain["episodes"])),
    )


def _score(plain: Mapping[str, Any]) -> Score:
    low, high = plain["interval_95"]
    majority = plain["majority"]
    return Score(
        n=int(plain["n"]),
        accuracy=float(plain["accuracy"]),
        interval=(float(low), float(high)),
        majority=None if majority is None else float(majority),
    )


def _played(plain: Mapping[str, Any]) -> Played:
    return Played(
        question_id=str(plain["question_id"]),
        answer=None if plain["answer"] is None else str(plain["answer"]),
        is_correct=bool(plain["is_correct"]),
        looks_xyxy_px=tuple(as_box(box) for box in plain["looks_xyxy_px"]),
        turns=tuple(str(turn) for turn in plain["turns"]),
    )
