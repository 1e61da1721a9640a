"""`fovea bench rollout`: prefill, fork and decode against `model.generate(num_return_sequences=G)`, over eight prompts.

Four rows a case: all of it, decoding alone, rows of unequal length of which `live` are written at a time, and several
turns, where `generate` reads everything again: the tokens that went through the decoder are in `facts`.
"""

from dataclasses import replace

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
    tell,
)
from pipeline.stages.bench_training_step import row_of as step_row
from pipeline.stages.reports import JsonOption

PROMPTS = 8


def rows_of(runner: Runner, case: Case, rounds: int) -> list[Row]:
    n_rows = case.prompts * case.group
    uneven = replace(case, lengths="uneven", live=case.live or max(case.group, n_rows // 4))
    return [
        _row(runner, "prefill and decode", case, rounds),
        _row(runner, "decode", case, rounds, ("decode",)),
        _row(runner, f"unequal, {uneven.live} live: decode", uneven, rounds, ("decode",)),
        _row(runner, "three turns, two crops", replace(case, crops=2), rounds),
    ]


def _row(runner: Runner, name: str, case: Case, rounds: int, phases: tuple[str, ...] = ()) -> Row:
    sides = [Side("fork", case), Side("generate", case)]
    return row(name, *zip(sides, runner.in_turns(sides, rounds, phases), strict=True))


def command(
    image_tokens: TokensOption = "256",
    groups: GroupsOption = "8",
    vocabulary: VocabularyOption = "640",
    against: AgainstOption = "",
    settings: SetOption = None,
    rounds: RoundsOption = 2,
    repeats: RepeatsOption = 2,
    minutes: MinutesOption = 60.0,
    out: OutOption = None,
    plot_file: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Time rollouts against `generate`; --against trl adds the rollouts of a whole step of TRL's.

    Example: fovea bench rollout --image-tokens 256,1024
    """
    refuse_rival(against)
    runner = Runner(out, minutes)
    all_cases = list(cases(image_tokens, groups, vocabulary, repeats, [f"prompts={PROMPTS}", *(settings or ())]))
    apart = parity(runner, against, 0)
    rows = [one for case in all_cases for one in rows_of(runner, case, rounds)]
    for case in all_cases if against else ():
        rows.append(step_row(runner, replace(case, prompts=1), against, rounds, "of a step", ("rollout",)))
    tell(report_of(rows, apart, against, rounds), plot_file, json=json)
