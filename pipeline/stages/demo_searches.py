"""How an expert searched: cards of recorded trajectories, with every step, confidence and word they hold.

Which are shown does not depend on how they ended well or badly: one of every length and ending, in the order of ids.
"""

from collections.abc import Iterable
from typing import Any

from pipeline.core.markup import Markup, tag
from pipeline.stages.demo_cases import Cases
from pipeline.stages.demo_overlays import Drawn, Style
from schemas.records import Step, Trajectory
from schemas.rows import trajectory_from

SHOWN = 6


def search_cards(cases: Cases, rows: Iterable[dict[str, Any]]) -> list[Markup]:
    """Cards of the first trajectories in `rows` that belong to different questions, short searches first."""
    chosen: dict[str, Trajectory] = {}
    for row in rows:
        if len(chosen) < SHOWN and row["question_id"] not in chosen:
            chosen[row["question_id"]] = trajectory_from(row)
    order = sorted(chosen.values(), key=lambda one: (one.n_looks, one.stop_reason, one.question_id))
    return [_card(cases, one) for one in order]


def _card(cases: Cases, one: Trajectory) -> Markup:
    looks = [step for step in one.steps if step.look_xyxy_px and step.region is not None]
    labels = [one.regions[step.region].label for step in looks]
    origin = "plain GRN" if one.origin == "grn" else f"{one.origin.upper()} variant {one.variant}"
    return cases.card(
        cases.case(one.question_id),
        verdict=f"→ “{one.answer}” ({one.answer_source} answer)",
        facts=f"{one.question_id} · {origin} · expert {one.expert} · stopped: {_stop(one)}",
        drawn=_drawn(one, looks),
        alt=f"{len(one.regions)} regions known to the expert; looks in order: {', '.join(labels)}",
        looks_xyxy_px=[step.look_xyxy_px for step in looks],
        told=[tag("h4", "What the expert did, step by step"), _steps(one)],
    )


def _drawn(one: Trajectory, looks: list[Step]) -> list[Drawn]:
    return [
        *(Drawn(region.box_xyxy_px, Style.REGION, region.label) for region in one.regions),
        *(Drawn(step.box_xyxy_px, Style.FOCUS) for step in looks),
        *(Drawn(step.look_xyxy_px, Style.LOOK, str(number)) for number, step in enumerate(looks, 1)),
    ]


def _steps(one: Trajectory) -> Markup:
    """Every step with its region, confidences, gain and words."""
    items: list[Markup] = []
    n_looks = 0
    for step in one.steps:
        if step.region is None:
            items.append(_item(step.mode, [] if step.text else ["as before, without what was looked at"], step.text))
            continue
        n_looks += 1
        facts = [f"{step.mode}, round {step.round}", one.regions[step.region].label, _confidences(step)]
        items.append(_item(f"look {n_looks}", [*facts, *_gain(step)], step.text))
    return tag("ul", *items, class_="steps")


def _item(name: str, facts: list[str], words: str) -> Markup:
    said = tag("span", f"“{words}”", class_="words") if words else None
    return tag("li", tag("b", name), " ", " · ".join(facts), said)


def _confidences(step: Step) -> str:
    before, after = (f"{c:.2f}" if c is not None else "–" for c in (step.confidence_before, step.confidence_after))
    return f"confidence {before} → {after}"


def _gain(step: Step) -> list[str]:
    return [] if step.delta_c is None else [f"Δc\u00a0{step.delta_c:+.2f}"]


def _stop(one: Trajectory) -> str:
    why = {
        "confident": f"confidence above ξ\u00a0=\u00a0{one.rule.confident_at:g}",
        "length": f"all of T_max\u00a0=\u00a0{one.rule.looks_max} looks taken",
        "exhausted": "nothing left to look at",
    }
    return f"{one.stop_reason}, {why[one.stop_reason]}"
