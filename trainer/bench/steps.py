"""Our side of a whole step: scenes, rollouts, groups, dual-stream update and AdamW, as `trainer.loop` does them."""

import torch

from trainer.bench.case import Case, make_environment, make_policy, pictures
from trainer.bench.meter import Meter
from trainer.checkpoints import trained_parameters
from trainer.core.advantages import advantages
from trainer.core.rewards import Reward
from trainer.features import GRAPH_TOKENS_MAX, FeatureCache
from trainer.groups import Group, Member, counts
from trainer.optimizer import MasterAdamW
from trainer.recipe import Recipe
from trainer.rollout.local import LocalRollout
from trainer.rollouts import Rollout, roll_out
from trainer.updates import dual_stream


def run(case: Case, _side: str) -> dict:
    policy, images = make_policy(case), pictures(case)
    weights = list(trained_parameters(policy).values())
    optimizer, recipe = MasterAdamW(weights, lr=case.rate), Recipe()
    environment, features = make_environment(case, policy), FeatureCache(policy, graph_tokens_max=GRAPH_TOKENS_MAX)
    meter = Meter(case.device)
    for at, shown in enumerate(images):
        meter.start()
        scenes = environment.scenes(shown)
        engine = LocalRollout(policy, features=features)
        rolled = list(roll_out(environment, engine, scenes, case.group, ("bench", at)))
        groups = [_group(each, recipe) for each in rolled]
        meter.lap("rollout")
        optimizer.zero_grad(set_to_none=True)
        dual_stream(policy, groups, recipe, counts(groups, 0.0), features=features)
        torch.nn.utils.clip_grad_norm_(weights, case.grad_norm_max)
        meter.lap("update")
        optimizer.step()
        features.forget()
        meter.lap("optimizer")
    row = rolled[0][0].episode.row
    tokens = {"prompt": row.n_prompt, "row": len(row.ids), "written": sum(row.is_written)}
    return meter.result(optimizer, trained=sum(one.numel() for one in weights), **tokens)


def _group(rolled: list[Rollout], recipe: Recipe) -> Group:
    """Rewards that differ, by the rollout's number."""
    paid = [Reward(number / len(rolled), 0.0, 1.0, 0.0) for number in range(len(rolled))]
    values = advantages([one.total for one in paid], ["policy"] * len(paid), [True] * len(paid), recipe.advantage)
    pairs = zip(rolled, paid, strict=True)
    return Group(tuple(Member(one.episode, "policy", True, reward, one.entropies) for one, reward in pairs), values)
