"""`fovea bench ladder`: an update with our parts put in one by one, and how its cost grows with the group.

The recorded rollouts look twice: rows that share their first look are a tree, as the variants of one search are.
"""

from dataclasses import replace
from typing import Annotated

import typer

from pipeline.stages.bench_plot import straight
from pipeline.stages.bench_training import Case, Runner, Side
from pipeline.stages.bench_training_report import (
    MinutesOption,
    OutOption,
    PlotOption,
    RepeatsOption,
    RoundsOption,
    Row,
    SetOption,
    TokensOption,
    VocabularyOption,
    cases,
    numbers,
    parity,
    picture,
    report_of,
    row,
    tell,
)
from pipeline.stages.reports import JsonOption

RUNGS = ("full logits", "naive", "packed head", "vision once", "shared prompt", "tree")
FROZEN_RUNGS = ("tree", "cached features")
CROPS, CROP_TOKENS, TURN_TOKENS = 1, 16, 48


def ladder(runner: Runner, case: Case, rounds: int) -> list[Row]:
    """Each rung against the first; the last two against each other, with a frozen tower."""
    looked = replace(case, crops=CROPS, crop_tokens=CROP_TOKENS, turn_tokens=TURN_TOKENS, first_looks=case.group // 4)
    sides = [Side(name, looked) for name in RUNGS]
    first, *rungs = zip(sides, runner.in_turns(sides, rounds), strict=True)
    rows = [row(f"{number}. {each[0].name}", each, first) for number, each in enumerate((first, *rungs), start=1)]
    sides = [Side(name, replace(looked, trained="text")) for name in FROZEN_RUNGS]
    without, cached = zip(sides, runner.in_turns(sides, rounds), strict=True)
    return [*rows, row("frozen tower, features cached", cached, without)]


def growth(runner: Runner, case: Case, groups: list[int], rounds: int) -> list[Row]:
    rows = []
    for group in groups:
        sides = [Side(name, replace(case, group=group)) for name in ("tree", "naive")]
        rows.append(row("growth", *zip(sides, runner.in_turns(sides, rounds), strict=True)))
    return rows


def command(
    image_tokens: TokensOption = "256",
    groups: Annotated[str, typer.Option(help="Sizes of the group for the growth; the ladder has 8.")] = "2,4,8,16,32",
    vocabulary: VocabularyOption = "640",
    settings: SetOption = None,
    rounds: RoundsOption = 2,
    repeats: RepeatsOption = 2,
    minutes: MinutesOption = 60.0,
    out: OutOption = None,
    plot_file: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Time an update with our parts put in one by one, and for groups of several sizes.

    Example: fovea bench ladder --plot growth.svg
    """
    runner = Runner(out, minutes)
    (case,) = cases(image_tokens, "8", vocabulary, repeats, settings)
    apart = parity(runner, "", CROPS)
    grown = growth(runner, case, numbers(groups), rounds)
    if plot_file is not None:
        plot_file.write_text(picture(grown, "group"), encoding="utf-8")
    line = straight([(float(one.case.group), one.ours.cpu_s) for one in grown])
    report = report_of([*ladder(runner, case, rounds), *grown], apart, "", rounds)
    tell(replace(report, growth=line), None, json=json)
