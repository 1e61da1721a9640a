import math
from dataclasses import replace

import pytest
import torch

from schemas.grammar import Answer, Look
from trainer.core.advantages import AdvantageConfig, GroupAdvantages, StreamStatistics, advantages
from trainer.core.rewards import Reward, RewardConfig
from trainer.facts import GroupFacts, MemberFacts, facts, group_metrics, row_facts, row_metrics
from trainer.groups import group, member
from trainer.losses import LossConfig

RULE = AdvantageConfig()
NONE = StreamStatistics(0, None, None)


def told(stream="policy", total=0.2, advantage=0.0, **others):
    """A trajectory of one look, two turns and 10 written of 40 tokens."""
    reward = Reward(total, float(total >= 0.7), 1.0, 0.125)
    known = {"n_looks": 1, "n_turns": 2, "n_tokens": 10, "n_ids": 40, "problems": (), "has_answer": True}
    return MemberFacts(stream, reward, advantage, **(known | {"entropies": ()} | others))


def one_group(*members, policy=NONE, expert=NONE, is_degenerate=False, is_dropped=False):
    values = tuple(each.advantage for each in members)
    return GroupFacts(0, GroupAdvantages(values, is_degenerate, is_dropped, policy, expert, 0), tuple(members))


def test_the_streams_are_told_apart():
    short = told("policy", 0.9, 1.5, n_looks=2, n_turns=3, n_tokens=20, n_ids=90, entropies=(1.0, 3.0))
    cut = told("policy", 0.2, -0.5, has_answer=False, problems=("box", "length"), entropies=(2.0,))
    metrics = group_metrics([one_group(short, cut, told("expert", 0.9, -0.25)), one_group(told())], RULE)
    assert (metrics["groups"], metrics["policy/trajectories"], metrics["expert/trajectories"]) == (2, 3, 1)
    wanted = {
        "reward": (0.9 + 0.2 + 0.2) / 3,
        "accuracy": 1 / 3,
        "grammar": 1.0,
        "diversity": 0.125,
        "advantage": 1 / 3,
        "advantage_abs": 2 / 3,
        "looks": 4 / 3,
        "turns": 7 / 3,
        "tokens": 40 / 3,
        "tokens_max": 20,
        "length_max": 90,
        "answered": 2 / 3,
        "truncated": 1 / 3,
        "invalid": 1 / 3,
        "entropy": 2.0,
    }
    assert {name: metrics[f"policy/{name}"] for name in wanted} == pytest.approx(wanted)
    assert (metrics["expert/advantage"], metrics["expert/advantage_abs"]) == (-0.25, 0.25)
    assert metrics["expert/accuracy"] == metrics["expert/answered"] == 1.0
    assert metrics["expert/truncated"] == metrics["expert/invalid"] == 0.0


def test_what_an_absent_stream_has_not_is_unknown():
    metrics = group_metrics([one_group(told())], RULE)
    assert metrics["expert/trajectories"] == metrics["expert/alone"] == metrics["expert/flat"] == 0
    absent = ("reward", "accuracy", "advantage", "looks", "tokens_max", "length_max", "answered", "reward_std")
    assert [metrics[f"expert/{name}"] for name in absent] == [None] * len(absent)
    assert metrics["policy/entropy"] is None


@pytest.mark.parametrize(
    ("policy", "counted"),
    [
        (StreamStatistics(8, 0.4, 0.0), (1, 0, 0)),
        (StreamStatistics(8, 0.4, 0.04), (0, 1, 0)),  # the floor of 0.05 holds it
        (StreamStatistics(8, 0.4, 0.05), (0, 0, 0)),
        (StreamStatistics(1, 0.4, 0.0), (0, 0, 1)),  # flat by itself
        (NONE, (0, 0, 0)),
    ],
)
def test_spreads_are_counted(policy, counted):
    wide = one_group(policy=StreamStatistics(8, 0.4, 0.3), expert=StreamStatistics(6, 0.9, 0.1))
    metrics = group_metrics([one_group(policy=policy), wide], RULE)
    assert tuple(metrics[f"policy/{name}"] for name in ("flat", "floored", "alone")) == counted
    known = [one for one in (policy.sigma, 0.3) if one is not None]
    assert metrics["policy/reward_std"] == pytest.approx(sum(known) / len(known))
    assert metrics["expert/reward_std"] == 0.1  # a group without the stream does not thin it out


def test_degenerate_dropped_and_unscorable_are_counted():
    values = advantages(
        [0.9, 0.2, 0.2, math.nan], ["policy", "policy", "expert", "expert"], [True, False, False, None], RULE
    )
    groups = [
        one_group(is_degenerate=True, is_dropped=True),
        one_group(is_dropped=True),
        GroupFacts(0, values, (told(total=math.nan), told(total=0.3))),
    ]
    metrics = group_metrics(groups, RULE)
    assert metrics["groups_dropped"] == 2
    assert metrics["expert_degenerate"] == metrics["unscorable"] == 1
    assert metrics["policy/reward"] == 0.3


def test_facts_of_a_group_that_was_played(environment, scene_of, played):
    scene, look = scene_of(), Look("", (0, 0, 40, 40))
    turns = (look, Answer("", "yes")), ("<answer>yes",), (Look("", (9, 9, 5, 5)), Answer("", "no"))
    episodes = [played(scene, *each) for each in turns]
    cut = environment.start(scene, "policy", "cut")
    environment.take(cut, environment.dialogue.written("<reasoning>and so on")[:-1], is_whole=False)
    paid = RewardConfig()
    members = [member(environment, one, "policy", paid, (0.5,)) for one in (*episodes, cut)]
    made = group(members, RULE)
    known = facts(made, 3)
    assert (known.place, known.advantages, known.is_finite) == (3, made.advantages, True)
    assert [one.advantage for one in known.members] == list(made.advantages.values)
    assert [(one.n_looks, one.n_turns, one.has_answer) for one in known.members] == [
        (1, 2, True),
        (0, 1, False),
        (0, 2, True),
        (0, 1, False),
    ]
    for one, theirs in zip(known.members, members, strict=True):
        assert (one.n_tokens, one.n_ids) == (sum(theirs.episode.is_written), len(theirs.episode.ids))
    metrics = group_metrics([known], RULE)
    assert (metrics["policy/truncated"], metrics["policy/invalid"], metrics["policy/answered"]) == (0.25, 0.5, 0.5)
    spoilt = replace(known, members=(*known.members, told(entropies=(1.0, math.nan))))
    assert not spoilt.is_finite


PAPER = LossConfig()


def row(stream, advantage, *chances, reference=None):
    logs, entropies = torch.tensor(chances).log(), torch.full((len(chances),), 0.5 * len(chances))
    return row_facts(
        stream, advantage, PAPER, logs, entropies, None if reference is None else torch.tensor(reference).log()
    )


def test_shares_are_of_tokens_not_of_rows():
    """ρ = p of an expert: down to 0.8 the clip takes the gradient of what is pushed down."""
    rows = [
        row("expert", 1.0, 0.5, 0.0004),  # the second: a weight below 1e-3
        row("expert", -1.0, 0.9, 0.5, 0.25, 0.9, 0.9, 0.9),
        row("expert", 0.0, 0.9, 0.9),
        row("policy", 2.0, 0.5, 0.25),
    ]
    metrics = row_metrics(rows)
    assert metrics["expert/token_probability"] == pytest.approx((0.5004 + 4 * 0.9 + 0.75 + 1.8) / 10)
    assert metrics["expert/entropy"] == pytest.approx((2 * 1.0 + 6 * 3.0 + 2 * 1.0) / 10)
    assert metrics["expert/clip_fraction"] == pytest.approx(2 / 10)
    assert metrics["expert/zero_gradient_share"] == pytest.approx(4 / 10)
    assert metrics["expert/faint_gradient_share"] == pytest.approx(5 / 10)
    assert metrics["expert/negatives_zeroed"] == pytest.approx(2 / 6)
    assert (metrics["expert/ratio_min"], metrics["expert/ratio_max"]) == pytest.approx((0.0004, 0.9))
    assert (metrics["policy/ratio_min"], metrics["policy/ratio_max"]) == (1.0, 1.0)
    assert metrics["policy/negatives_zeroed"] is metrics["policy/kl"] is None


def test_clamped_tokens_are_summed_and_kl_is_per_token():
    rows = [row("expert", 1.0, 1e-10, 1e-12, 0.5), row("expert", 1.0, 1e-10)]
    rows += [row("policy", 1.0, 0.5, 0.5, 0.5, reference=(0.5, 0.5, 0.5)), row("policy", 1.0, 0.5, reference=(0.25,))]
    metrics = row_metrics(rows)
    assert metrics["expert/clamped"] == 3
    assert metrics["policy/kl"] == pytest.approx((0.5 - math.log(0.5) - 1) / 4)


def test_rows_that_were_not_trained_are_no_zeros():
    metrics = row_metrics([row("policy", 1.0)])
    counts = {name: value for name, value in metrics.items() if value is not None}
    assert counts == {"policy/clamped": 0, "expert/clamped": 0}
