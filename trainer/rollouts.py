"""The policy's own episodes: many questions, several rollouts each, one live batch, one environment."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.environment import Environment, Episode, Scene
from trainer.rollout import Observation, RolloutEngine
from trainer.sequences import TokenRow


@dataclass(frozen=True)
class Rollout:
    """A finished episode with what was sampled: log-probs and entropies (nats) of its written tokens, in order."""

    episode: Episode
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]


@dataclass
class _Live:
    episode: Episode
    handle: int
    key: tuple[object, ...]
    logprobs: list[float]
    entropies: list[float]

    def done(self) -> Rollout:
        return Rollout(self.episode, tuple(self.logprobs), tuple(self.entropies))


def roll_out(
    environment: Environment,
    engine: RolloutEngine,
    scenes: Sequence[Scene],
    n: int,
    key: tuple[object, ...],
    *,
    is_greedy: bool = False,
) -> list[list[Rollout]]:
    """`n` episodes per scene, by scene; token noise is named by (*key, question, rollout, fork 0, token).

    A question that is asked again goes on counting its rollouts: the same noise would only make copies.
    """
    live = _start(environment, engine, scenes, n, key)
    everyone = list(live)
    stop, turn_tokens = environment.dialogue.marker("im_end"), environment.dialogue.config.turn_tokens_max
    while live:
        handles, keys = [one.handle for one in live], [one.key for one in live]
        turns = engine.decode(handles, [stop], turn_tokens, keys, is_greedy=is_greedy)
        going, observations = [], []
        for one, turn in zip(live, turns, strict=True):
            one.logprobs += turn.logprobs
            one.entropies += turn.entropies
            observation = environment.take(one.episode, turn.ids, is_whole=turn.is_stopped)
            if observation is not None:
                going.append(one)
                observations.append(Observation(*observation))
        engine.extend([one.handle for one in going], observations)
        staying = {one.handle for one in going}
        engine.drop([one.handle for one in live if one.handle not in staying])
        live = going
    return [[one.done() for one in everyone[start : start + n]] for start in range(0, len(everyone), n)]


def _start(
    environment: Environment, engine: RolloutEngine, scenes: Sequence[Scene], n: int, key: tuple[object, ...]
) -> list[_Live]:
    live = []
    names = [scene.question.question_id for scene in scenes]
    firsts = [environment.start(scene, "policy", name) for scene, name in zip(scenes, names, strict=True)]
    prompts = [TokenRow.prompt(first.ids, first.images, first.name) for first in firsts]
    asked: Counter[str] = Counter()
    for scene, name, root in zip(scenes, names, engine.prefill(prompts), strict=True):
        for number, handle in enumerate([root, *engine.fork(root, n - 1)], start=n * asked[name]):
            episode = environment.start(scene, "policy", f"{name} rollout {number}")
            live.append(_Live(episode, handle, (*key, name, number, 0), [], []))
        asked[name] += 1
    return live
