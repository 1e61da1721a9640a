from itertools import chain

import pytest
import torch

from schemas.grammar import Answer, Look
from trainer import rollouts
from trainer.batched import score_rows
from trainer.environment import Environment
from trainer.rollout import Forwarded
from trainer.rollout.local import LocalRollout
from trainer.sequences import distinct_images

T = 0.8


def roll_out(*asked):
    return list(rollouts.roll_out(*asked))


def assert_scored(policy, rollout):
    """Log-probabilities and entropies of the rollout are those of a full forward of what the episode kept."""
    (score,) = score_rows(policy, [rollout.episode.row], T)
    assert len(rollout.logprobs) == sum(rollout.episode.is_written)
    torch.testing.assert_close(torch.tensor(rollout.logprobs, dtype=torch.float64), score.logprobs.detach())
    torch.testing.assert_close(torch.tensor(rollout.entropies, dtype=torch.float64), score.entropies)


def test_rollouts_by_scene_and_what_was_sampled(exact, environment, scene_of):
    scenes = [scene_of(seed=seed, question_id=f"q{seed}") for seed in (1, 2)]
    rolled = roll_out(environment, LocalRollout(exact, T), scenes, 3, ("test", 0))
    assert [len(group) for group in rolled] == [3, 3]
    for scene, group in zip(scenes, rolled, strict=True):
        for number, one in enumerate(group):
            assert one.episode.scene is scene
            assert one.episode.name == f"{scene.question.question_id} rollout {number}"
            assert one.episode.is_over
            assert_scored(exact, one)
    assert len({tuple(one.episode.ids) for group in rolled for one in group}) == 6


def test_a_rollout_depends_on_its_own_name_alone(exact, environment, scene_of):
    scenes = [scene_of(seed=seed, question_id=f"q{seed}") for seed in (1, 2)]
    together = roll_out(environment, LocalRollout(exact, T), scenes, 3, ("test", 0))
    alone = roll_out(environment, LocalRollout(exact, T), scenes[1:], 2, ("test", 0))
    assert [one.episode.ids for one in alone[0]] == [one.episode.ids for one in together[1][:2]]
    later = roll_out(environment, LocalRollout(exact, T), scenes[1:], 2, ("test", 1))
    assert [one.episode.ids for one in later[0]] != [one.episode.ids for one in alone[0]]


def test_a_question_that_is_asked_twice_is_not_answered_alike(exact, environment, scene_of):
    """The second group goes on where the first one's numbers end."""
    scene = scene_of(seed=1)
    twice = roll_out(environment, LocalRollout(exact, T), [scene, scene], 2, ("test", 0))
    once = roll_out(environment, LocalRollout(exact, T), [scene], 4, ("test", 0))
    ids, known = ([tuple(one.episode.ids) for group in rolled for one in group] for rolled in (twice, once))
    assert ids == known
    assert len(set(ids)) == 4


def test_a_turn_that_does_not_end_ends_the_episode(exact, environment, scene_of):
    ((one,),) = roll_out(environment, LocalRollout(exact, T, is_greedy=True), [scene_of()], 1, ("test", 0))
    assert one.episode.problems
    assert one.episode.answer is None
    assert sum(one.episode.is_written) <= environment.dialogue.config.turn_tokens_max


def test_episodes_of_several_looks_go_on_from_what_they_were_shown(exact, environment, scene_of, dictated):
    """Two images, so different crops; one look is refused, and the engine still holds just what the episode does."""
    scenes = [scene_of(seed=seed, question_id=f"q{seed}") for seed in (1, 2)]
    ids = dictated(Look("", (0, 0, 40, 40)), Look("", (9, 9, 3, 3)), Look("", (50, 50, 90, 90)), Answer("so", "yes"))
    engine = LocalRollout(exact, T)
    rolled = [one for group in roll_out(environment, engine, scenes, 2, ("test",)) for one in group]
    for one in rolled:
        episode = one.episode
        assert (len(episode.looks), episode.answer, episode.problems) == (2, "yes", ["box"])
        assert [token for token, own in zip(episode.ids, episode.is_written, strict=True) if own] == ids
        assert_scored(exact, one)
    first, _, second, _ = rolled
    assert first.episode.images[1].key != second.episode.images[1].key
    assert not engine._rows  # every row was given back
    assert not engine._prompts
    assert not len(engine._live.past.prompts)


@pytest.mark.parametrize("live_rows", [1, 2, 5, 100])
def test_what_is_written_does_not_depend_on_how_many_write_at_once(exact, environment, scene_of, live_rows):
    """Fed one by one, with turns of unequal length, some of which are answered, so that rows come and go."""
    answering = Answering(environment.dialogue, environment.view)
    scenes = [scene_of(seed=seed, question_id=f"q{seed}") for seed in range(4)]
    begun = []
    engine = LocalRollout(exact, T, live_rows=live_rows)
    rolled = roll_out(answering, engine, (begun.append(one) or one for one in scenes), 3, ("test", 0))
    known = roll_out(answering, LocalRollout(exact, T, live_rows=12), scenes, 3, ("test", 0))
    assert begun == scenes
    for ours, theirs in zip(chain(*rolled), chain(*known), strict=True):
        assert ours.episode.ids == theirs.episode.ids
        assert_scored(exact, ours)
    n_turns = {len(one.episode.turns) for one in chain(*rolled)}
    assert {1, 3} <= n_turns


def test_a_scene_is_begun_when_there_is_room(exact, environment, scene_of, monkeypatch):
    """Never more prompts in memory than rows may write, whatever waits."""
    held = []
    engine = LocalRollout(exact, T, live_rows=2)
    step = engine._live.step
    monkeypatch.setattr(engine._live, "step", lambda: held.append(len(engine._live.past.prompts)) or step())
    roll_out(environment, engine, [scene_of(seed=seed, question_id=f"q{seed}") for seed in range(5)], 1, ("test", 0))
    assert max(held) == 2


def test_a_group_is_given_when_it_and_those_before_it_are_over(exact, environment, scene_of):
    """While later ones are still written, so that who judges them need not wait, or hold them all."""
    scenes = [scene_of(seed=seed, question_id=f"q{seed}") for seed in range(4)]
    begun, answering = [], Answering(environment.dialogue, environment.view)
    feed = (begun.append(one) or one for one in scenes)
    given = rollouts.roll_out(answering, LocalRollout(exact, T, live_rows=1), feed, 2, ("test", 0))
    for place, group in enumerate(given):
        assert [one.episode.scene for one in group] == [scenes[place]] * 2
        assert all(one.episode.is_over for one in group)
        assert len(begun) <= place + 2
    assert begun == scenes


@pytest.mark.parametrize("n_looks", [0, 1, 3])
def test_nothing_is_read_twice(exact, environment, scene_of, dictated, n_looks):
    """Each distinct prompt once, each observation and each written token once, whatever the number of turns."""
    dictated(*[Look("", (0, 0, 40 + 8 * look, 40)) for look in range(n_looks)], Answer("so", "yes"))
    scenes = [scene_of(seed=seed, question_id=f"q{seed}") for seed in (1, 2)]
    engine = LocalRollout(exact, T)
    rows = [one.episode.row for group in roll_out(environment, engine, scenes, 3, ("test",)) for one in group]
    n_after = sum(len(row.ids) - row.n_prompt for row in rows)
    n_written = sum(sum(row.is_written) for row in rows)
    assert engine.forwarded == Forwarded(
        prompt=sum(row.n_prompt for row in (rows[0], rows[3])),
        observed=n_after - n_written,
        written=n_written - len(rows),  # the last token of an episode predicts nothing
        encoded=sum(image.n_tokens for image in distinct_images(rows)),
    )


class Answering(Environment):
    """Whatever is written, every other rollout is shown something, twice."""

    def take(self, episode, ids, *, is_whole=True):
        episode.write(ids, "")
        if len(episode.turns) > 2 or int(episode.name.split()[-1]) % 2:
            episode.is_over = True
            return None
        crop = self.processor.encode_image(
            episode.scene.images[0].crop((0, 0, 90 * len(episode.turns), 90)), 3136, 3136
        )
        seen = self.dialogue.observation("Look.", crop)
        episode.observe(seen)
        return seen
