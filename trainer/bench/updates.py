"""Forward and backward of one group of recorded rollouts, with our parts put in one by one."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainer.batched import collate, lay_out, score_rows
from trainer.bench.case import Case, advantages, make_policy, recorded
from trainer.bench.meter import Meter
from trainer.features import FeatureCache
from trainer.head import token_scores
from trainer.losses import LossConfig, Sums, token_loss
from trainer.policy import Policy
from trainer.sequences import TokenRow
from trainer.tree_update import LossOf, Segment, Settings, tree_backward


def run(case: Case, side: str) -> dict:
    policy = make_policy(case)
    rows = recorded(case, policy)
    backward = _side(case, side, policy, rows, dapo(rows))
    meter = Meter(case.device)
    for _ in range(case.warmup + case.repeats):
        policy.model.zero_grad(set_to_none=True)
        meter.start()
        backward()
        meter.lap("update")
    return meter.result(tokens=sum(len(row.ids) for row in rows))


def dapo(rows: Sequence[TokenRow]) -> LossOf:
    """The clipped objective over all written tokens."""
    worth, n_written = advantages(len(rows)), sum(len(row.written_at) for row in rows)

    def loss_of(segment: Segment, logprobs: Tensor, _entropies: Tensor) -> Tensor:
        sums = Sums.of([worth[row] for row in segment.rows], [1 / n_written] * len(segment.rows))
        return token_loss(logprobs, None, sums, "policy", LossConfig())

    return loss_of


def _side(case: Case, side: str, policy: Policy, rows: Sequence[TokenRow], loss_of: LossOf) -> Callable[[], object]:
    features = FeatureCache(policy)
    if side == "trl update":
        from trainer.bench.trl_steps import loss_asked

        asked = loss_asked(case, policy, rows)
        return lambda: asked().backward()
    return {
        "full logits": lambda: _stock(policy, rows, loss_of, "full"),
        "naive": lambda: _stock(policy, rows, loss_of, "continuations"),
        "packed head": lambda: _stock(policy, rows, loss_of, "written"),
        "vision once": lambda: _one_by_one(loss_of, [one.logprobs for one in score_rows(policy, rows)]),
        "shared prompt": lambda: tree_backward(policy, rows, loss_of, Settings(is_flat=True)),
        "tree": lambda: tree_backward(policy, rows, loss_of),
        "cached features": lambda: tree_backward(policy, rows, loss_of, features=features),
    }[side]


def _one_by_one(loss_of: LossOf, logprobs: Sequence[Tensor]) -> None:
    sum(loss_of(Segment((row,), 0, len(one)), one, one) for row, one in enumerate(logprobs)).backward()


def _stock(policy: Policy, rows: Sequence[TokenRow], loss_of: LossOf, logits_of: str) -> None:
    """The model as the library runs it: padded rows, each with its own copy of the image."""
    policy.language_model.config._attn_implementation = "sdpa"
    batch = collate([lay_out(row, policy.image_id) for row in rows])
    ends = torch.tensor([row.written_at[-1] for row in rows])[:, None]
    mask = (torch.arange(batch.ids.shape[1]) < ends).long()
    hidden = policy.model.model(**model_inputs(policy, batch.ids, mask, rows), use_cache=False).last_hidden_state
    (at_row, at_column), targets = batch.predictors.unbind(1), batch.targets.to(policy.device)
    if logits_of == "written":
        flat, _ = token_scores(hidden[at_row, at_column], policy.head_weight, targets, policy.banned)
    else:
        first = 0 if logits_of == "full" else rows[0].n_prompt - 1
        logprobs = policy.model.lm_head(hidden[:, first:]).float().log_softmax(-1)
        flat = logprobs[at_row, at_column - first, targets]
    _one_by_one(loss_of, flat.split(batch.counts))


def model_inputs(policy: Policy, ids: Tensor, mask: Tensor, rows: Sequence[TokenRow]) -> dict[str, Tensor]:
    """What the library's forward and `generate` take; every row brings its images."""
    images = [image for row in rows for image in row.images]
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "mm_token_type_ids": (ids == policy.image_id).int(),
        "pixel_values": torch.cat([image.pixel_values for image in images]).to(policy.visual.dtype),
        "image_grid_thw": torch.tensor([image.grid_thw for image in images]),
    }
    return {name: one.to(policy.device) for name, one in inputs.items()}
