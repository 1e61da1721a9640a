"""Text for training a tiny tokenizer: the questions, the experts' words and the frame of a dialogue, from the store."""

from collections.abc import Iterable, Sequence

from schemas.grammar import DIALECTS, Answer, Look, clean_reasoning, render
from schemas.records import Question, Trajectory
from trainer.dialogue import question_text
from trainer.lessons import ABSENT
from trainer.recipe import DialogueConfig

TRAJECTORIES_READ = 500  # enough to meet every word an expert uses; the tokenizer falls back to bytes anyway


def corpus(questions: Sequence[Question], trajectories: Iterable[Trajectory], config: DialogueConfig) -> list[str]:
    """Lines in a fixed order: the same store gives the same tokenizer."""
    dialect = DIALECTS[config.dialect]
    box = (10, 23, 45, 67)
    lines = [config.system, "system\n", "user\n", "assistant\n"]
    lines += [
        render(Look(ABSENT, box), dialect),
        f"<feedback>Look 1 of {config.looks_max}. Box {list(box)}.",
        "</feedback>",
    ]
    for question in questions[:TRAJECTORIES_READ]:
        lines += [question_text(question), render(Answer("", question.answer), dialect)]
    said = (step.text for one in sorted(trajectories, key=_key)[:TRAJECTORIES_READ] for step in one.steps)
    for text in map(clean_reasoning, said):
        lines += [render(Look(text, box), dialect), text]
    return lines


def _key(trajectory: Trajectory) -> tuple[str, str, int]:
    return trajectory.question_id, trajectory.origin, trajectory.variant
