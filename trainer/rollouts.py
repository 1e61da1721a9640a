"""The policy's own episodes: many questions, several rollouts each; a turn meets its environment as soon as it ends."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from trainer.environment import Environment, Episode, Scene
from trainer.rollout import Key, Observation, RolloutEngine, Turn
from trainer.sequences import TokenRow


@dataclass(frozen=True)
class Rollout:
    """A finished episode with what was sampled: log-probs and entropies (nats) of its written tokens, in order."""

    episode: Episode
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]


@dataclass(frozen=True)
class _Going:
    episode: Episode
    key: Key
    turns: list[Turn] = field(default_factory=list)

    def done(self) -> Rollout:
        logprobs = tuple(one for turn in self.turns for one in turn.logprobs)
        return Rollout(self.episode, logprobs, tuple(one for turn in self.turns for one in turn.entropies))


def roll_out(
    environment: Environment, engine: RolloutEngine, scenes: Iterable[Scene], n: int, key: Key
) -> Iterator[list[Rollout]]:
    """`n` episodes per scene, in order of scenes; token noise is named by (*key, question, rollout, fork 0, token).

    A scene is begun when the engine has room for it; a group is given when it and all before it are over. A question
    that is asked again goes on counting its rollouts: the same noise would only make copies.
    """
    waiting, asked = iter(scenes), Counter()
    groups: deque[list[_Going]] = deque()
    live: dict[int, _Going] = {}
    turn_tokens = environment.dialogue.config.turn_tokens_max

    def write(handles: Iterable[int]) -> None:
        asking = list(handles)
        engine.write(asking, [live[handle].key for handle in asking], turn_tokens)

    while True:
        while engine.has_room and (scene := next(waiting, None)) is not None:
            begun = _begin(environment, engine, scene, n, key, asked)
            groups.append(list(begun.values()))
            live |= begun
            write(begun)
        if not (finished := engine.finished()):
            return
        going = {}
        for handle, turn in finished:
            live[handle].turns.append(turn)
            seen = environment.take(live[handle].episode, turn.ids, is_whole=turn.is_stopped)
            if seen is not None:
                going[handle] = Observation(*seen)
            else:
                del live[handle]
                engine.drop([handle])
        engine.extend(list(going), list(going.values()))
        write(going)
        while groups and all(one.episode.is_over for one in groups[0]):
            yield [one.done() for one in groups.popleft()]


def _begin(
    environment: Environment, engine: RolloutEngine, scene: Scene, n: int, key: Key, asked: Counter[str]
) -> dict[int, _Going]:
    name = scene.question.question_id
    numbers = range(asked[name], asked[name] + n)
    asked[name] += n
    episodes = [environment.start(scene, "policy", f"{name} rollout {number}") for number in numbers]
    (root,) = engine.prefill([TokenRow.prompt(episodes[0].ids, episodes[0].images, name)])
    handles = [root, *engine.fork(root, n - 1)]
    keys = [(*key, name, number, 0) for number in numbers]
    return {one: _Going(*rest) for one, *rest in zip(handles, episodes, keys, strict=True)}
