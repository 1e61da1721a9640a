"""A finished demo without training: a real store by the real stages, and the files of a run written by hand.

The hand-written files have the shapes that `fovea train`, `evaluate` and `audit` write; `RIGHT` fixes who is right.
"""

import json
from pathlib import Path
from typing import Any

from pipeline.core.grn import NavigatorConfig
from pipeline.core.hunt import SearchConfig
from pipeline.stages.audit import audit
from pipeline.stages.build_trajectories import BuildTrajectories, build_trajectories
from pipeline.stages.demo_plan import EXPERT, QUESTIONS_SLICE, Demo, Sizes
from pipeline.stages.ingest import ingest
from pipeline.stages.phantom_source import PhantomSource
from schemas.reader import Store

SIZES = Sizes("short", n_train=12, n_test=8, warm_steps=24, grpo_steps=12, save_every=20, n_evaluated=8)
RIGHT = {"untrained": 0, "warm": 4, "trained": 8}  # of the eight test questions, the first ones by id


def finished_demo(out: Path) -> Demo:
    demo = Demo(out, SIZES, workers=1)
    searched_store(demo)
    write_results(demo)
    return demo


def searched_store(demo: Demo) -> None:
    store, sizes = Store(demo.store), demo.sizes
    ingest(store, PhantomSource(level=sizes.level, n_train=sizes.n_train, n_test=sizes.n_test, side_px=224))
    settings = (("view_px", sizes.view_px),)
    search = SearchConfig(NavigatorConfig(looks_max=sizes.looks_max))
    version = store.head().version
    build_trajectories(store, BuildTrajectories(demo.store, version, QUESTIONS_SLICE, EXPERT, settings, search, seed=0))


def write_results(demo: Demo) -> None:
    """run.json, steps.jsonl, audit.json and the three evaluations, all about the newest version of the store."""
    digest = Store(demo.store).head().digest
    put(demo.audit, audit(Store(demo.store)).to_json(demo.store))
    run = {"recipe": {}, "recipe_sha256": "c0ffee" * 10 + "abcd", "store_digest": digest, "threads": 1}
    run |= {"slice": "trajectories/phantom/annotations", "machine": "x86_64", "device": "cpu"}
    put(demo.run / "run.json", run | {"versions": {"torch": "2.13.0", "numpy": "2.4.0"}})
    lines = [json.dumps(line) for line in steps_written(demo.sizes)]
    (demo.run / "steps.jsonl").write_text("\n".join(lines) + "\n")
    for checkpoint in demo.checkpoints:
        put(demo.evaluation(checkpoint.name), evaluation(demo, checkpoint.name, checkpoint.step))
    put(demo.run / "checkpoints" / f"step-{demo.sizes.steps:06d}" / "state.json", {"steps_done": demo.sizes.steps})


def put(path: Path, plain: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain) + "\n")


def steps_written(sizes: Sizes) -> list[dict[str, Any]]:
    warm = [
        {"step": step, "phase": "warm", "loss": 6.0 / (step + 1), "grad_norm": 1.0, "seconds": 0.25}
        for step in range(sizes.warm_steps)
    ]
    return warm + [_grpo_step(sizes.warm_steps + place, place) for place in range(sizes.grpo_steps)]


def _grpo_step(step: int, place: int) -> dict[str, Any]:
    measured = {"policy/grad_norm": 0.5, "expert/grad_norm": 0.25} if place % 10 == 0 else {}
    return {
        "step": step,
        "phase": "grpo",
        "loss": -1.0,
        "policy/reward": 0.1 * place / 2,
        "policy/accuracy": 0.5,
        "policy/looks": 1.0,
        "policy/entropy": None if place == 3 else 0.4,
        "expert/reward": 0.95,
        "expert/looks": 1.5,
        "grad_norm": 1.0,
        "seconds": 1.0,
        **measured,
    }


def evaluation(demo: Demo, name: str, step: int) -> dict[str, Any]:
    questions = Store(demo.store).snapshot().records("questions", split="test")
    questions.sort(key=lambda one: one.question_id)
    is_right = [place < RIGHT[name] for place in range(len(questions))]
    types = sorted({one.question_type for one in questions})
    pairs = list(zip(questions, is_right, strict=True))
    by_type = {kind: [right for one, right in pairs if one.question_type == kind] for kind in types}
    return {
        "run": str(demo.run),
        "checkpoint": f"step-{step:06d}",
        "slice": QUESTIONS_SLICE,
        "split": "test",
        "store_digest": Store(demo.store).head().digest,
        "temperature": 0.7,
        "overall": _summary(is_right),
        "by_kind": {},
        "by_type": {kind: _summary(rights) for kind, rights in by_type.items()},
        "grammatical": 1.0,
        "looks_per_question": 1.0,
        "found": 0.5,
        "failures": [],
        "episodes": [_episode(one.question_id, one.answer, right) for one, right in pairs],
    }


def _summary(rights: list[bool]) -> dict[str, Any]:
    share = sum(rights) / len(rights)
    return {
        "n": len(rights),
        "accuracy": share,
        "interval_95": [max(0.0, share - 0.1), min(1.0, share + 0.1)],
        "majority": 0.5,
    }


def _episode(question_id: str, answer: str, is_right: bool) -> dict[str, Any]:
    if not is_right:
        return {
            "question_id": question_id,
            "answer": None,
            "is_correct": False,
            "looks_xyxy_px": [],
            "turns": ["no idea"],
        }
    look = '<reasoning>look</reasoning><action>{"name": "Gaze", "coordinate": [10, 12, 60, 70]}</action>'
    return {
        "question_id": question_id,
        "answer": answer,
        "is_correct": True,
        "looks_xyxy_px": [[20.0, 24.0, 120.0, 140.0]],
        "turns": [look, f"<reasoning></reasoning><answer>{answer}</answer>"],
    }
