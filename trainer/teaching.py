"""Episodes that the policy did not write: an expert's, and the warm start's with a loss weight for each token.

What the environment would not have let pass is left out and counted, never mended.
"""

from dataclasses import dataclass, field
from typing import Any

from schemas.errors import InputError
from schemas.reader import Snapshot
from schemas.records import Question
from trainer.data import TrainData, load_train_data, questions_of
from trainer.environment import Environment, Episode, Scene
from trainer.episodes import expert_episode, token_weights
from trainer.lessons import lesson, prior_answers
from trainer.recipe import Recipe

Weighted = tuple[Episode, list[float]]  # a loss weight per written token


@dataclass
class Teacher:
    """`pool` are the questions of the warm start; `n_untold` counts from when it was last set to 0."""

    recipe: Recipe
    environment: Environment
    data: TrainData
    pool: tuple[Question, ...]
    plain: TrainData | None = None  # plain GRN, which a warm start of kind `expert` imitates
    n_untold: int = 0
    prior: dict[str | None, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self.prior = prior_answers(self.pool)

    @classmethod
    def of(cls, recipe: Recipe, environment: Environment, snapshot: Snapshot, data: TrainData) -> "Teacher":
        if recipe.warm.kind == "format":
            slice_ = snapshot.slice(recipe.warm.slice)
            return cls(recipe, environment, data, questions_of(snapshot, slice_.key, "train"))
        is_plain = recipe.warm.kind == "expert"
        plain = load_train_data(snapshot, snapshot.slice(recipe.data.slice), "grn", 1) if is_plain else None
        return cls(recipe, environment, data, data.questions, plain)

    def experts(self, scene: Scene) -> list[Episode]:
        """The expert stream of a question's group."""
        return self._told(scene, self.data)

    def warm(self, scene: Scene, key: tuple[Any, ...]) -> list[Weighted]:
        """What the warm start says of a question; all chance comes from `key`."""
        warm = self.recipe.warm
        if warm.kind == "expert":
            told = self._told(scene, self.plain)
            return [(one, self._weights(one, warm.look_weight, warm.answer_weight)) for one in told]
        try:
            one = lesson(self.environment, scene, self.prior, warm, key)
        except InputError:
            self.n_untold += 1
            return []
        look = warm.look_weight if one.trains_looks else 0.0
        answer = warm.answer_weight if one.is_shown else warm.guess_weight
        return [(one.episode, self._weights(one.episode, look, answer))]

    def _weights(self, episode: Episode, look: float, answer: float) -> list[float]:
        n_answer = self.environment.dialogue.n_answer_tokens(episode.answer)
        return token_weights(episode, n_answer, look=look, words=self.recipe.warm.words_weight, answer=answer)

    def _told(self, scene: Scene, data: TrainData) -> list[Episode]:
        episodes = []
        for trajectory in data.trajectories.get(scene.question.question_id, ()):
            try:
                episodes.append(expert_episode(self.environment, scene, trajectory))
            except InputError:
                self.n_untold += 1
        return episodes
