"""An update of one process, with its metrics."""

from trainer.features import FeatureCache
from trainer.groups import counts
from trainer.updates import dual_stream, update_metrics


def updated(policy, groups, recipe, reference=None, *, split_streams=False):
    counted = counts(groups, recipe.loss.lambda_sft)
    norms_of = (lambda grads: grads) if split_streams else None
    features = FeatureCache(policy)
    done = dual_stream(policy, groups, recipe, counted, reference, features=features, norms_of=norms_of)
    return update_metrics(done.loss, done.rows, counted) | done.norms
