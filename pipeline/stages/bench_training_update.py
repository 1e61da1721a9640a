"""`fovea bench update`: forward and backward of one group of recorded rollouts, no optimizer.

The naive batch has the image encoded and the prompt run once for each rollout, and logits of all tokens after it.
"""

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
from pipeline.stages.reports import JsonOption

OURS = "tree"


def rows_of(runner: Runner, case: Case, against: str, rounds: int) -> list[Row]:
    sides = [Side(name, case) for name in (OURS, "vision once", "naive")]
    if against:
        sides.append(Side("trl update", case))
    ours, *others = zip(sides, runner.in_turns(sides, rounds), strict=True)
    return [row(f"update against {each[0].name}", ours, each) for each in reversed(others)]


def command(
    image_tokens: TokensOption = "64,256,1024",
    groups: GroupsOption = "8,14",
    vocabulary: VocabularyOption = "640",
    against: AgainstOption = "",
    settings: SetOption = None,
    rounds: RoundsOption = 2,
    repeats: RepeatsOption = 3,
    minutes: MinutesOption = 60.0,
    out: OutOption = None,
    plot_file: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Time an update against the naive batch, against encoding the image once, and TRL's.

    Example: fovea bench update --image-tokens 1024 --groups 14
    """
    refuse_rival(against)
    runner = Runner(out, minutes)
    all_cases = list(cases(image_tokens, groups, vocabulary, repeats, settings))
    apart = parity(runner, against, all_cases[0].crops)
    rows = [one for case in all_cases for one in rows_of(runner, case, against, rounds)]
    tell(report_of(rows, apart, against, rounds), plot_file, json=json)
