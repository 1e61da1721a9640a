"""How the trained policy played test questions: its own words, its looks, its answer, and what it said before training.

Which are shown follows a rule that does not look for success: one of every question type and verdict, by id.
"""

from pipeline.core.markup import Markup, tag
from pipeline.stages.demo_cases import Case, Cases
from pipeline.stages.demo_overlays import Drawn, Style
from pipeline.stages.demo_results import Evaluation, Played, Results
from schemas.boxes import inside

SHOWN = 4


def played_cards(cases: Cases, results: Results) -> list[Markup]:
    """Cards of test questions as the trained policy played them."""
    types = cases.question_types("test")
    return [_card(cases, one, results) for one in chosen(results.trained, types)]


def chosen(evaluation: Evaluation, types: dict[str, str | None]) -> list[Played]:
    """The first of every question type and verdict, then the second of each, and so on."""
    groups: dict[tuple[str, bool], list[Played]] = {}
    for one in sorted(evaluation.played, key=lambda each: each.question_id):
        groups.setdefault((str(types.get(one.question_id)), not one.is_correct), []).append(one)
    ranked = [(place, *key, one.question_id, one) for key, many in groups.items() for place, one in enumerate(many)]
    return [one for *_, one in sorted(ranked, key=lambda item: item[:4])[:SHOWN]]


def _card(cases: Cases, one: Played, results: Results) -> Markup:
    case = cases.case(one.question_id)
    looks = [look for look in one.looks_xyxy_px if inside(look, case.image.size)]
    regions = [Drawn(region.box_xyxy_px, Style.REGION, region.label) for region in case.question.regions]
    return cases.card(
        case,
        verdict=_verdict(one, case),
        facts=f"{one.question_id} · {_earlier(one.question_id, results)}",
        drawn=regions + [Drawn(look, Style.LOOK, str(number)) for number, look in enumerate(looks, 1)],
        alt=f"{len(regions)} annotated regions, which the policy is never told; {len(looks)} looks of the policy",
        looks_xyxy_px=looks,
        told=[tag("h4", "What the policy wrote, turn by turn"), _turns(one)],
    )


def _verdict(one: Played, case: Case) -> Markup:
    if one.is_correct:
        return tag("span", f"→ {_said(one)}: correct", class_="right")
    return tag("span", f"→ {_said(one)}: wrong, the answer is “{case.question.answer}”", class_="wrong")


def _said(one: Played) -> str:
    return "no answer" if one.answer is None else f"“{one.answer}”"


def _turns(one: Played) -> Markup:
    return tag("ol", *(tag("li", tag("pre", turn)) for turn in one.turns), class_="turns")


def _earlier(question_id: str, results: Results) -> str:
    """What the policies before said to the same question."""
    said = []
    for evaluation in results.evaluations[:-1]:
        known = next((one for one in evaluation.played if one.question_id == question_id), None)
        if known is not None:
            said.append(f"{evaluation.label}: {_said(known)}, {'correct' if known.is_correct else 'wrong'}")
    return " · ".join(said)
