"""Expert trajectories and warm-start lessons as episodes, told through the same environment as the policy's own.

The reasoning of a turn is what the expert had said by then: scan findings before the next look, drill findings in
the turn after the crop. The environment alone crops and answers.
"""

from collections.abc import Iterable

from schemas.boxes import Box
from schemas.errors import InputError
from schemas.grammar import Answer, Look, clean_reasoning, render
from schemas.records import Step, Trajectory
from trainer.environment import Environment, Episode, Scene


def expert_episode(environment: Environment, scene: Scene, trajectory: Trajectory) -> Episode:
    """The trajectory as its expert would have written it; InputError when it cannot be told to the end."""
    name = f"{trajectory.question_id} {trajectory.origin} {trajectory.variant}"
    if trajectory.answer is None:
        raise InputError("trajectory has no answer to end with", where=name, fix="train on splits with gold answers")
    looks = [(words, step.image, step.look_xyxy_px) for words, step in told(trajectory.steps) if step is not None]
    *_, (last_words, _) = told(trajectory.steps)
    return tell(environment, environment.start(scene, "expert", name), looks, last_words, trajectory.answer)


def told(steps: Iterable[Step]) -> list[tuple[str, Step | None]]:
    """(what was said since the last look, the look) for each look, then what was said after the last one."""
    said: list[str] = []
    turns: list[tuple[str, Step | None]] = []
    for step in steps:
        if step.look_xyxy_px is not None:
            turns.append((" ".join(said), step))
            said = []
        if step.text and step.text not in said:
            said.append(step.text)
    return [*turns, (" ".join(said), None)]


def tell(
    environment: Environment, episode: Episode, looks: Iterable[tuple[str, int, Box]], last_words: str, answer: str
) -> Episode:
    """Write looks (words, image, box) and answer into `episode`; InputError where the environment would refuse them."""
    scene, looks = episode.scene, list(looks)
    if any(not 0 <= image < len(scene.images) for _, image, _ in looks):
        raise InputError(f"it looks at an image beyond the question's {len(scene.images)}", where=episode.name)
    try:
        turns: list[Look | Answer] = [
            environment.look(scene, _words(environment, words), image, box) for words, image, box in looks
        ]
        turns.append(Answer(_words(environment, last_words), answer))
        texts = [render(turn, environment.dialogue.dialect) for turn in turns]
    except ValueError as error:
        raise InputError(f"cannot be written: {error}", where=episode.name) from error
    for text in texts:
        environment.take(episode, environment.dialogue.written(text))
    if episode.problems or episode.answer is None:
        raise InputError(
            f"the environment refuses it: {', '.join(episode.problems) or 'no answer'}", where=episode.name
        )
    return episode


def token_weights(episode: Episode, n_answer: int, *, look: float, words: float, answer: float) -> list[float]:
    """A loss weight per written token: of look turns, of the words before the answer, and of the answer to the end."""
    *looks, (first, last) = episode.turn_spans
    n_words = last - first - n_answer
    return [look] * sum(stop - start for start, stop in looks) + [words] * n_words + [answer] * n_answer


def _words(environment: Environment, words: str) -> str:
    return environment.dialogue.cut(clean_reasoning(words), environment.dialogue.config.reasoning_tokens_max)
