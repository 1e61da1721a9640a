import math

import pytest

from schemas.grammar import Answer, Look
from trainer.core.advantages import AdvantageConfig
from trainer.core.rewards import RewardConfig
from trainer.groups import counts, group, mean, member
from trainer.losses import Counts

CORNER, MIDDLE = Look("", (0, 0, 40, 40)), Look("", (50, 50, 90, 90))
PAID = RewardConfig(looks_max=4)


@pytest.fixture(scope="module")
def members(environment, scene_of, played):
    """Members of one group: turns and stream of each, judged against the gold answer "yes"."""

    def make(*written):
        scene = scene_of()
        return [member(environment, played(scene, *turns, stream=stream), stream, PAID) for stream, turns in written]

    return make


RIGHT, WRONG = ("policy", (CORNER, Answer("", "yes"))), ("policy", (Answer("", "no"),))
SILENT, EXPERT = ("policy", ("<answer>yes",)), ("expert", (CORNER, MIDDLE, Answer("so", "yes")))


@pytest.mark.parametrize(
    ("written", "total", "parts"),
    [
        (RIGHT, 0.9125, (True, 1.0, 0.125)),  # one look of four: 0.7 + 0.2 + 0.1 · ½ · ¼
        (WRONG, 0.2, (False, 1.0, 0.0)),
        (SILENT, 0.0, (False, 0.0, 0.0)),  # no answer is a wrong answer
        (EXPERT, 0.975, (True, 1.0, 0.75)),  # two apart of four: ½ · ½ + ½
        (("policy", (Look("", (9, 9, 5, 5)), Answer("", "Yes."))), 0.7, (True, 0.0, 0.0)),  # right, after a bad box
        (("policy", (CORNER, CORNER, CORNER, CORNER)), 0.0125, (False, 0.0, 0.125)),  # too many looks, no answer
    ],
)
def test_members_are_judged_and_paid(members, written, total, parts):
    (one,) = members(written)
    assert one.reward.total == pytest.approx(total)
    assert (one.is_correct, one.reward.grammar, one.reward.diversity) == parts
    assert one.stream == written[0]


def test_one_box_on_two_images_is_two_regions(environment, scene_of_three, played):
    first, second = (Look("", (0, 0, 56, 56), image=image) for image in (1, 2))
    for looks, diversity in (((first, second), 0.75), ((first, first), 0.125)):
        episode = played(scene_of_three(), *looks, Answer("", "yes"))
        assert member(environment, episode, "policy", PAID).reward.diversity == diversity


def test_options_decide_where_there_are_some(environment, scene_of, played):
    scene = scene_of(question="Where?", answer="left", answer_kind="choice", options=("left", "right"))
    told = [played(scene, Answer("", said)) for said in ("A", "left", "B", "right", "left or right")]
    judged = [member(environment, one, "policy", PAID).is_correct for one in told]
    assert judged == [True, True, False, False, False]


def test_streams_are_compared_apart(members):
    made = group(members(RIGHT, WRONG, SILENT, EXPERT, EXPERT), AdvantageConfig())
    policy, expert = made.advantages.values[:3], made.advantages.values[3:]
    assert sum(policy) == pytest.approx(0)
    assert policy[0] > 0 > policy[1] > policy[2]
    assert expert[0] == expert[1] > 0  # equal and right: measured against the policy's mean
    assert made.advantages.is_degenerate_expert
    assert [len(made.of(stream)) for stream in ("policy", "expert")] == [3, 2]
    assert not made.advantages.is_dropped


def test_a_group_without_a_difference_is_dropped(members):
    assert group(members(WRONG, WRONG), AdvantageConfig()).advantages.is_dropped
    made = group(members(RIGHT, RIGHT, EXPERT, EXPERT), AdvantageConfig(expert_degenerate="zero"))
    assert made.advantages.is_dropped


def test_counts_hold_the_written_tokens_of_every_group(members):
    made = [group(members(*some), AdvantageConfig()) for some in ((RIGHT, WRONG, EXPERT), (WRONG, WRONG), (EXPERT,))]
    n = {"policy": 0, "expert": 0}
    for each in made:
        for one in each.members:
            n[one.stream] += sum(one.episode.is_written)
    assert min(n.values()) > 100
    assert counts(made, 0.0) == Counts(n["policy"], n["expert"], 6, 0.0)
    assert counts(made, 0.5) == Counts(n["policy"], n["expert"], 6, float(n["expert"]))


def test_the_mean_leaves_out_what_is_unknown():
    assert mean([1.0, math.nan, 3.0]) == 2.0
    assert mean([math.nan]) is mean([]) is None
