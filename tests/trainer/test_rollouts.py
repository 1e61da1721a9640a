import torch

from schemas.grammar import Answer, Look
from trainer.batched import score_rows
from trainer.rollout.local import LocalRollout
from trainer.rollouts import roll_out

T = 0.8


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
    ((one,),) = roll_out(environment, LocalRollout(exact, T), [scene_of()], 1, ("test", 0), is_greedy=True)
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
    assert not engine._features  # and with the last of them, what the images looked like
