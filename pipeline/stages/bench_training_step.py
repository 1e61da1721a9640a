"""`fovea bench step`: one whole step – rollouts, rewards, update, AdamW – against TRL's GRPOTrainer.

Both sides train the same random model on the same pixels with the same number of tokens. TRL gets the micro-batch that
is fastest for it. The row of cached features has a frozen tower on both sides and shows the same images again.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from pipeline.stages.bench_training import Case, Runner, Side
from pipeline.stages.bench_training_report import (
    AgainstOption,
    GroupsOption,
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
    parity,
    refuse_rival,
    report_of,
    row,
    same_tokens,
    tell,
)
from pipeline.stages.reports import JsonOption


def row_of(runner: Runner, case: Case, against: str, rounds: int, name: str, phases: Sequence[str] = ()) -> Row:
    """One case; of `phases` alone if there are any."""
    ours = Side("ours", case)
    if not against:
        return row(name, (ours, runner.in_turns([ours], rounds, phases)[0]))
    rivals = [Side(against, replace(case, micro_batch=rows)) for rows in micro_batches(case)]
    swept = {side.case.micro_batch: runner.once(side) for side in rivals} if len(rivals) > 1 else {}
    theirs = min(rivals, key=lambda side: swept[side.case.micro_batch].cpu_s if swept else 0.0)
    own, other = runner.in_turns([ours, theirs], rounds, phases)
    same_tokens(own, other)
    figures = {rows: (one.cpu_s, one.above_mb) for rows, one in swept.items()}
    return replace(row(name, (ours, own), (theirs, other)), swept=figures)


def micro_batches(case: Case) -> list[int]:
    """Rows that TRL takes at once: all of a step, half, a quarter, as far as that goes; or what the case says."""
    n_rows = case.group * case.prompts
    return [case.micro_batch] if case.micro_batch else [n_rows // part for part in (1, 2, 4) if n_rows % part == 0]


def command(
    image_tokens: TokensOption = "64,256,1024",
    groups: GroupsOption = "8",
    vocabulary: VocabularyOption = "640",
    against: AgainstOption = "",
    cached: Annotated[bool, typer.Option(help="Also with a frozen tower, and with its features cached.")] = False,
    settings: SetOption = None,
    rounds: RoundsOption = 2,
    repeats: RepeatsOption = 2,
    minutes: MinutesOption = 60.0,
    out: OutOption = None,
    plot_file: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Time a whole training step, alone or against TRL.

    Example: fovea bench step --against trl --image-tokens 256 --groups 8,14 --out step.jsonl
    """
    refuse_rival(against)
    runner = Runner(out, minutes)
    all_cases = list(cases(image_tokens, groups, vocabulary, repeats, settings))
    apart = parity(runner, against, all_cases[0].crops)
    rows = [row_of(runner, case, against, rounds, "step") for case in all_cases]
    for case in all_cases if cached else ():
        frozen = replace(case, trained="text")
        rows.append(row_of(runner, frozen, against, rounds, "frozen tower"))
        rows.append(row_of(runner, replace(frozen, is_repeated=True), against, rounds, "features cached across steps"))
    tell(report_of(rows, apart, against, rounds), plot_file, json=json)
