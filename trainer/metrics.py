"""Every name that `steps.jsonl` may hold, with its meaning and unit. The one table; nothing is computed here.

`policy/` and `expert/` tell the streams apart. A null is a number that the step did not have, never a zero.
"""

from typing import NamedTuple

STREAMS = ("policy", "expert")


class About(NamedTuple):
    unit: str
    meaning: str


EVERY_STEP = {
    "step": About("count", "optimizer step, from 0 over both phases"),
    "phase": About("name", "warm (imitation) or grpo"),
    "loss": About("nats", "the objective's value, of imitation or of both streams; null: not finite"),
    "lr": About("", "learning rate of the step"),
    "grad_norm": About("", "norm of the summed gradient before clipping"),
    "is_skipped": About("0/1", "the optimizer did not step: no gradient at all, or one that is not finite"),
    "is_finite": About("0/1", "loss and gradient are finite; 0: the batch lies in RUN/skipped"),
    "untold": About("trajectories", "expert trajectories and lessons that the environment would not have let pass"),
    "unshown": About("questions", "questions left out: their images cannot be shown, mostly for want of room"),
    "left_out": About("trajectories", "experts kept out of their group, mostly for a wrong answer of their own"),
    "seconds": About("s", "wall time of the step"),
}
WARM = {
    "rows": About("trajectories", "episodes imitated"),
    "tokens": About("tokens", "written tokens of the episodes imitated"),
}
GRPO = {
    "groups": About("groups", "questions of the step"),
    "groups_dropped": About("groups", "every advantage is 0: left out of the forward pass"),
    "expert_degenerate": About("groups", "advantage.expert_degenerate decided the expert stream"),
    "unscorable": About("trajectories", "reward NaN: counted in no mean, advantage 0"),
    "policy_tokens": About("tokens", "N_policy, divisor of the policy's term"),
    "expert_tokens": About("tokens", "N_expert, divisor of the expert's term"),
    "trajectories": About("trajectories", "both streams"),
    "sft_tokens": About("tokens", "N_sft, divisor of the cross-entropy on expert text"),
    "policy/kl": About("nats", "k3 estimate of KL(policy ‖ reference) per token; null: loss.kl is 0"),
    "policy/grad_norm": About("", "norm of the policy stream's own gradient, every tenth step"),
    "expert/grad_norm": About("", "norm of the expert stream's own gradient, every tenth step"),
    "seconds/rollout": About("s", "wall time of rollouts and rewards"),
    "seconds/update": About("s", "wall time of forward and backward"),
}
PER_STREAM = {
    "trajectories": About("trajectories", "members of the stream"),
    "reward": About("0 to 1", "mean of 0.7 accuracy + 0.2 grammar + 0.1 diversity, or of the recipe's weights"),
    "accuracy": About("share", "judged answers that are right, r_acc"),
    "grammar": About("share", "trajectories that the strict parser takes as a whole, r_grammar"),
    "diversity": About("0 to 1", "mean of r_div, whether or not it is paid"),
    "reward_std": About("", "mean over groups of σ, the population deviation of the stream's rewards"),
    "flat": About("groups", "two members or more, all of the same reward"),
    "floored": About("groups", "σ above 0 and below advantage.sigma_floor"),
    "alone": About("groups", "one scorable member only"),
    "advantage": About("", "mean advantage"),
    "advantage_abs": About("", "mean |advantage|"),
    "looks": About("per trajectory", "mean number of looks that were executed"),
    "turns": About("per trajectory", "mean number of written turns: looks, refused ones too, and the answer"),
    "tokens": About("per trajectory", "mean number of written tokens"),
    "tokens_max": About("tokens", "written tokens of the longest trajectory"),
    "length_max": About("tokens", "tokens of the longest row: prompt, images, crops and turns"),
    "answered": About("share", "trajectories that end with an answer"),
    "truncated": About("share", "trajectories with a turn that ran out of tokens"),
    "invalid": About("share", "trajectories with a turn that was refused for another reason"),
    "entropy": About(
        "nats", "per written token over the full vocabulary; policy: while sampling, expert: in the update"
    ),
    "token_probability": About("", "mean probability of a trained token under the policy"),
    "ratio_min": About("", "least unshaped ratio ρ of a trained token, π_expert = 1"),
    "ratio_max": About("", "largest unshaped ratio ρ of a trained token"),
    "clip_fraction": About("share", "trained tokens whose gradient the clip took"),
    "clamped": About("tokens", "|log ρ| beyond loss.log_ratio_clamp"),
    "zero_gradient_share": About(
        "share", "trained tokens without any gradient: clipped, clamped, underflowed or A = 0"
    ),
    "faint_gradient_share": About("share", "trained tokens with |∂J/∂ℓ| < 1e-3·|A|, those without any included"),
    "negatives_zeroed": About(
        "share", "of trained tokens with A < 0: those without any gradient; null: there are none"
    ),
}
METRICS = (
    EVERY_STEP | WARM | GRPO | {f"{stream}/{name}": about for stream in STREAMS for name, about in PER_STREAM.items()}
)


def is_clocked(name: str) -> bool:
    """Whether a clock made the number, so that no rerun can be asked for the same."""
    return name.startswith("seconds")


def table() -> str:
    """For people: a line per name, streams folded."""
    shown = EVERY_STEP | WARM | GRPO | {f"policy|expert/{name}": about for name, about in PER_STREAM.items()}
    return "\n".join(f"{name:<36} {about.unit:<15} {about.meaning}" for name, about in shown.items())
