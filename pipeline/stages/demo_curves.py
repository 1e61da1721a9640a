"""Which curves of a training run are shown, under which name and in which unit; the values are those of steps.jsonl."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.charts import Series, line_chart
from pipeline.core.markup import Markup

SHARE = (0.0, 1.0)
MEAN_OVER_MAX = 10  # steps; a longer mean would trail behind what it follows


@dataclass(frozen=True, slots=True)
class Curve:
    """`columns` are the keys of a step that share one chart; a fixed `low` or `high` only ever widens it."""

    title: str
    y_label: str
    phase: str
    columns: tuple[str, ...]
    low: float | None = 0.0
    high: float | None = None


CURVES = (
    Curve("Warm start: imitation loss", "loss (nats per token, weighted)", "warm", ("loss",)),
    Curve("GRPO: reward by stream", "mean reward per trajectory", "grpo", ("policy/reward", "expert/reward"), *SHARE),
    Curve("GRPO: accuracy of the policy", "share of rollouts right", "grpo", ("policy/accuracy",), *SHARE),
    Curve("GRPO: looks", "looks per trajectory", "grpo", ("policy/looks", "expert/looks")),
    Curve("GRPO: entropy of the policy", "entropy (nats per token)", "grpo", ("policy/entropy",)),
    Curve("GRPO: gradient norm by stream", "L2 norm", "grpo", ("policy/grad_norm", "expert/grad_norm")),
)


def curve(one: Curve, steps: Sequence[Mapping[str, Any]]) -> Markup:
    """The chart of one curve; steps without a value are passed over (gradient norms come every tenth step)."""
    own = [step for step in steps if step.get("phase") == one.phase]
    series = [Series(_name(column), _points(own, column)) for column in one.columns]
    longest = max(len(each.points) for each in series)
    return line_chart(
        series,
        title=one.title,
        x_label="optimizer step",
        y_label=one.y_label,
        low=one.low,
        high=one.high,
        mean_over=min(MEAN_OVER_MAX, max(1, longest // 10)),
    )


def _name(column: str) -> str:
    return column.partition("/")[0]


def _points(steps: Sequence[Mapping[str, Any]], column: str) -> tuple[tuple[float, float], ...]:
    known = ((step["step"], step.get(column)) for step in steps)
    return tuple((float(at), float(value)) for at, value in known if isinstance(value, int | float))
