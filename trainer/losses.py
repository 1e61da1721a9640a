"""Token losses of dual-stream GRPO: log-probs and advantages in, one number per run of shared tokens out.

Only *policy-written* tokens arrive here, already picked by the loss mask, never prompt, feedback, crop or image.
Tokens that several rows share count once, with the rows' weighted advantages as two sums. No model, no reduction
across ranks: `normalisers` counts, the caller sums the counts, `row_weight` applies them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from schemas.errors import UsageError
from trainer.core.advantages import Stream

OffRatio = Literal["token", "shaped", "sequence_mean", "sequence", "ce"]
OffNegative = Literal["clip", "ratio"]
LossNorm = Literal["token_mean", "trajectory_mean"]


@dataclass(frozen=True, slots=True)
class LossConfig:
    """The objective. [P] paper, [C] released configuration only, [D] ours (MedEyes, arXiv:2511.22018).

    off_ratio, the expert's x(ℓ) for A > 0 with π_expert = 1 and p = e^ℓ; in brackets its gradient weight on ∇ℓ:
    `token` p [p] · `shaped` p/(p + γ) [γp/(p + γ)²] · `sequence_mean` exp(mean ℓ), the same for each token of the row
    · `sequence` exp(Σ ℓ), underflows: 200 tokens at p = 0.7 make 1e-31 · `ce` ℓ [1].
    off_negative, for A < 0: `clip` the paper's max(ρ, 1 − ε) on the unshaped ratio, exactly no gradient while
    p < 1 − ε, so nothing rare is unlearned · `ratio` the same x(ℓ), unclipped (LUFFY, arXiv:2504.14945).
    """

    clip: float = 0.2  # ε; symbol [P], value [C]
    off_ratio: OffRatio = "token"  # [P]; `shaped` is LUFFY's, the others [D]
    off_negative: OffNegative = "clip"  # [P] for `token`, [D] for the others
    shaping_gamma: float = 0.1  # γ of `shaped` (LUFFY, `p_div_p_0.1`)
    loss_norm: LossNorm = "token_mean"  # [D]; `trajectory_mean` is the paper's 1/N Σ 1/|τ_i|
    lambda_off: float = 1.0  # weight of the expert stream [D]; the paper has none
    lambda_sft: float = 0.0  # weight of plain cross-entropy on expert text [D]
    kl: float = 0.0  # β of the k3 estimator, policy rows only; the paper mentions none [C: 0]
    entropy_bonus: float = 0.0  # per token and nat, policy rows only; the paper mentions none [D]
    log_ratio_clamp: float = 20.0  # every log-ratio is clamped to ± this before exp [D]
    allow_sequence_ratio: bool = False  # [D]; must be said aloud, since `sequence` trains nothing

    def __post_init__(self) -> None:
        choices = {"off_ratio": OffRatio, "off_negative": OffNegative, "loss_norm": LossNorm}
        for name, known in choices.items():
            if getattr(self, name) not in get_args(known):
                raise ValueError(f"{name} must be one of {', '.join(get_args(known))}, got {getattr(self, name)!r}")
        for name in ("lambda_off", "lambda_sft", "kl", "entropy_bonus"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if not 0 < self.clip < 1:
            raise ValueError(f"clip must be in (0, 1), got {self.clip}")
        if not 0 < self.shaping_gamma < math.inf:
            raise ValueError(f"shaping_gamma must be finite and positive, got {self.shaping_gamma}")
        if not 0 < self.log_ratio_clamp <= 80:  # exp(88.7) is the largest float32
            raise ValueError(f"log_ratio_clamp must be in (0, 80], got {self.log_ratio_clamp}")
        if self.off_ratio == "sequence" and not self.allow_sequence_ratio:
            raise UsageError(
                "off_ratio 'sequence' multiplies the probabilities of a whole trajectory and underflows",
                where="loss.off_ratio",
                fix="use 'token', 'shaped' or 'sequence_mean', or set loss.allow_sequence_ratio = true",
            )

    @property
    def needs_whole_rows(self) -> bool:
        """Whether an expert token's ratio depends on its whole row, so that nodes of a prefix tree cannot share it."""
        return self.off_ratio in ("sequence_mean", "sequence")


def clipped_shared(logratio: Tensor, sum_positive: Tensor | float, sum_negative: Tensor | float, clip: float) -> Tensor:
    """Σ_i min(ρA_i, clip(ρ, 1 − ε, 1 + ε)A_i) = min(ρ, 1 + ε)·ΣA⁺ + max(ρ, 1 − ε)·ΣA⁻ per token, ρ = exp(logratio).

    Exact for any number of rows i through a shared token, with any weights folded into the
    two sums (ΣA⁺ ≥ 0 ≥ ΣA⁻). `logratio` comes clamped.
    """
    ratio = logratio.exp()
    return ratio.clamp(max=1 + clip) * sum_positive + ratio.clamp(min=1 - clip) * sum_negative


def objective(
    logprobs: Tensor,
    old_logprobs: Tensor | None,
    sum_positive: Tensor | float,
    sum_negative: Tensor | float,
    stream: Stream,
    config: LossConfig,
) -> Tensor:
    """Of tokens [T] that all rows of the sums share, per token and to be maximised.

    Policy: the clipped surrogate; no old log-probs = one update per batch, ρ ≡ 1 with its gradient. Replayed own
    rollouts are policy tokens too and bring theirs. Expert, with π_expert = 1: x₊(ℓ)·ΣA⁺ + x₋(ℓ)·ΣA⁻ (`LossConfig`),
    of one whole row where `config.needs_whole_rows`.
    """
    (n_tokens,) = logprobs.shape
    if logprobs.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"log-probs must be float32 or float64, got {logprobs.dtype}: a ratio has no digits in half")
    if stream == "expert" and old_logprobs is not None:
        raise ValueError("an expert row has no old log-probs (π_expert = 1); replayed rollouts are policy rows")
    if old_logprobs is not None and old_logprobs.shape != (n_tokens,):
        raise ValueError(f"{n_tokens} log-probs but old log-probs of shape {tuple(old_logprobs.shape)}")
    clamped = _clamped(_log_ratio(logprobs, old_logprobs, stream, config), config)
    if stream == "policy":
        return clipped_shared(clamped, sum_positive, sum_negative, config.clip)
    if config.off_ratio == "shaped":
        taught = torch.sigmoid(logprobs - math.log(config.shaping_gamma))  # = p/(p + γ), safe at any ℓ
    elif config.off_ratio == "ce":
        taught = logprobs
    else:
        taught = clamped.exp()  # ≤ 1: the upper clip never acts
    untaught = taught if config.off_negative == "ratio" else clamped.exp().clamp(min=1 - config.clip)
    return taught * sum_positive + untaught * sum_negative


def _clamped(log_ratio: Tensor, config: LossConfig) -> Tensor:
    return log_ratio.clamp(-config.log_ratio_clamp, config.log_ratio_clamp)


def _log_ratio(logprobs: Tensor, old_logprobs: Tensor | None, stream: Stream, config: LossConfig) -> Tensor:
    """log ρ per token [T]; the sequence ratios give every token of the row the same value."""
    if stream == "policy":
        return logprobs - (logprobs if old_logprobs is None else old_logprobs).detach()
    if config.off_ratio == "sequence_mean":
        return logprobs.mean().expand_as(logprobs)
    if config.off_ratio == "sequence":
        return logprobs.sum().expand_as(logprobs)
    return logprobs


class Sums(NamedTuple):
    """Of the rows through some tokens, weighted by c_i: Σ c_i·max(A_i, 0), Σ c_i·min(A_i, 0), Σ c_i."""

    positive: float
    negative: float
    weight: float

    @classmethod
    def of(cls, advantages: Iterable[float], weights: Iterable[float]) -> "Sums":
        pairs = list(zip(advantages, weights, strict=True))
        if any(not math.isfinite(advantage) for advantage, _ in pairs):
            raise ValueError(f"advantages must be finite, got {[advantage for advantage, _ in pairs]}")
        positive, negative = (math.fsum(c * side(a, 0.0) for a, c in pairs) for side in (max, min))
        return cls(positive, negative, math.fsum(c for _, c in pairs))


def token_loss(
    logprobs: Tensor,
    old_logprobs: Tensor | None,
    sums: Sums,
    stream: Stream,
    config: LossConfig,
    *,
    reference_logprobs: Tensor | None = None,
    entropies: Tensor | None = None,
) -> Tensor:
    """−Σ_t of the objective of tokens that the rows of `sums` share, a scalar: minimising it maximises J.

    With the weights c_i = `row_weight` it is their share of the step's loss. Policy tokens also carry β·k3 and
    −entropy_bonus·H, times Σ c_i, where the config asks for them.
    """
    loss = -objective(logprobs, old_logprobs, sums.positive, sums.negative, stream, config).sum()
    if stream == "policy" and config.kl > 0:
        if reference_logprobs is None:
            raise ValueError(f"kl = {config.kl} needs reference_logprobs")
        loss = loss + config.kl * sums.weight * kl_k3(logprobs, reference_logprobs, config).sum()
    if stream == "policy" and config.entropy_bonus > 0:
        if entropies is None or entropies.requires_grad != logprobs.requires_grad:
            raise ValueError(
                f"entropy_bonus = {config.entropy_bonus} needs entropies with a gradient, as logprobs have"
            )
        loss = loss - config.entropy_bonus * sums.weight * entropies.sum()
    return loss


def kl_k3(logprobs: Tensor, reference_logprobs: Tensor, config: LossConfig) -> Tensor:
    """e^d − d − 1 ≥ 0 per token, d = clamp(ℓ_ref − ℓ): Schulman's k3 estimate of KL(π_θ ‖ π_ref), in nats."""
    d = _clamped(reference_logprobs - logprobs, config)
    return d.exp() - d - 1


def imitation_loss(logprobs: Tensor, token_weights: Tensor | None = None) -> Tensor:
    """−Σ_t w_t ℓ_t, a scalar; scale it by `sft_scale`, whose N_sft is Σ w_t over all rows."""
    return -(logprobs if token_weights is None else token_weights * logprobs).sum()


class Counts(NamedTuple):
    """What the loss is divided by, over *all* ranks and micro-batches of a step: every field is a plain sum."""

    policy_tokens: int = 0
    expert_tokens: int = 0
    trajectories: int = 0
    sft_tokens: float = 0.0  # Σ of token weights


def normalisers(n_tokens: Sequence[int], streams: Sequence[Stream], sft_tokens: float = 0.0) -> Counts:
    """Counts of rows with `n_tokens` written tokens each; several are added field by field, `map(sum, zip(*counts))`.

    Count rows of dropped groups as well: leaving them out of the forward pass is then a
    saving and not a change of the objective.
    """
    tokens = dict.fromkeys(get_args(Stream), 0)
    for n, stream in zip(n_tokens, streams, strict=True):
        tokens[stream] += n
    return Counts(tokens["policy"], tokens["expert"], len(n_tokens), sft_tokens)


def row_weight(n_tokens: int, stream: Stream, counts: Counts, config: LossConfig) -> float:
    """The factor c_i of one row's tokens in the step's loss.

    token_mean:      L = −(J_policy/N_policy + λ_off·J_expert/N_expert), N = written tokens of the stream
    trajectory_mean: L = −1/N Σ_i λ_s(i)/|τ_i| J_i, N = trajectories of both streams
    """
    weight = config.lambda_off if stream == "expert" else 1.0
    if config.loss_norm == "trajectory_mean":
        return weight / (max(counts.trajectories, 1) * max(n_tokens, 1))
    return weight / max(counts.expert_tokens if stream == "expert" else counts.policy_tokens, 1)


def sft_scale(counts: Counts, config: LossConfig) -> float:
    """λ_sft/N_sft, 0 when there is no such token."""
    return config.lambda_sft / counts.sft_tokens if counts.sft_tokens > 0 else 0.0


@dataclass(frozen=True, slots=True)
class RowDiagnostics:
    """How one row fared. ρ is the unshaped ratio (π_expert = 1), after the clamp; NaN for a row without tokens."""

    n_tokens: int
    clip_fraction: float  # tokens whose gradient the clip took
    ratio_min: float
    ratio_max: float
    n_clamped: int  # tokens with |log ρ| beyond log_ratio_clamp
    zero_gradient_share: float  # tokens that teach nothing: clipped, clamped, underflowed or A = 0
    faint_gradient_share: float  # tokens with |∂J/∂ℓ| < 1e-3·|A|, zeros included


def gradient_weights(
    logprobs: Tensor, old_logprobs: Tensor | None, advantage: float, stream: Stream, config: LossConfig
) -> Tensor:
    """∂J/∂ℓ_t of one row [T], without KL and entropy: how hard each token is pushed up or down."""
    with torch.enable_grad():
        leaf = logprobs.detach().requires_grad_()
        pulled = objective(leaf, old_logprobs, max(advantage, 0.0), min(advantage, 0.0), stream, config)
        return torch.autograd.grad(pulled.sum(), leaf)[0]


@torch.no_grad()
def row_diagnostics(
    logprobs: Tensor, old_logprobs: Tensor | None, advantage: float, stream: Stream, config: LossConfig
) -> RowDiagnostics:
    """Diagnostics of one row, from the same terms as `token_loss`; one transfer from the device."""
    if len(logprobs) == 0:
        return RowDiagnostics(0, 0.0, math.nan, math.nan, 0, 0.0, 0.0)
    log_ratio = _log_ratio(logprobs, old_logprobs, stream, config)
    ratio = _clamped(log_ratio, config).exp()
    is_clipped = torch.zeros_like(ratio, dtype=torch.bool)
    if advantage > 0 and stream == "policy":
        is_clipped = ratio > 1 + config.clip
    elif advantage < 0 and (stream == "policy" or config.off_negative == "clip"):
        is_clipped = ratio < 1 - config.clip
    weights = gradient_weights(logprobs, old_logprobs, advantage, stream, config).abs()
    n_clamped = (log_ratio.abs() > config.log_ratio_clamp).sum()
    is_zero = weights == 0
    masks = (is_clipped, is_zero, is_zero | (weights < 1e-3 * abs(advantage)))
    shares = [mask.double().mean() for mask in masks]
    numbers = torch.stack([*shares, ratio.min().double(), ratio.max().double(), n_clamped.double()]).tolist()
    clipped, zero, faint, low, high, clamped = numbers
    return RowDiagnostics(len(logprobs), clipped, low, high, int(clamped), zero, faint)
