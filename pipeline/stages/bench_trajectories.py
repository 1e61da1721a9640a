"""`fovea bench trajectories`: searches per second of `build-trajectories` when every answer is known.

For each size it makes a store, has a costless expert search all questions, and times `build-trajectories --from-calls`
as people run it, without a finished shard: the start of Python, reading questions, image sizes and recorded calls, GRN
and CVS, rows, work shards and completion records, pack, commit. Its rows must be those of the first build.
"""

import json as jsonlib
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from pipeline.adapters.engine import Engine
from pipeline.core.hunt import SearchConfig
from pipeline.stages.bench_plot import Panel, plot, straight
from pipeline.stages.bench_profile import profiled
from pipeline.stages.bench_synthetic import BenchExpert, BenchSource
from pipeline.stages.bench_watch import watched
from pipeline.stages.build_trajectories import build_trajectories
from pipeline.stages.ingest import ingest
from pipeline.stages.progress import note
from pipeline.stages.reports import JsonOption, print_json
from pipeline.stages.trajectory_stage import BuildTrajectories
from schemas.errors import FoveaError, UsageError
from schemas.reader import Store

PROGRAM = Path(__file__).resolve().parents[2] / "cli.py"  # beside our packages, in a clone and when installed
SIZE = re.compile("[1-9][0-9]{0,6}")
TASKS = {
    "pipeline.stages.trajectory_stage.items": "questions and image sizes",
    "pipeline.adapters.call_rows": "recorded calls",
    "schemas.experts": "names of calls",
    "pipeline.core.search": "search",
    "pipeline.core.hunt": "search",
    "pipeline.core.walks": "search",
    "pipeline.core.grn": "GRN",
    "pipeline.core.cvs": "CVS",
    "pipeline.core.admission": "admission",
    "pipeline.stages.trajectory_stage._output": "rows",
    "pipeline.adapters.work": "work shards",
    "pipeline.adapters.pack": "pack",
}


@dataclass(frozen=True)
class _Asking(BuildTrajectories):
    """The first build, by an expert that no registry knows."""

    @property
    def expert(self) -> BenchExpert:
        return BenchExpert()


@dataclass(frozen=True, slots=True)
class Run:
    """`cpu_s` of all processes together; `peak_mb`: the most resident memory that one of them had."""

    questions: int
    trajectories: int
    calls: int
    seconds: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Config:
    sizes: tuple[int, ...]
    workers: int


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Rates of the largest size. There is no rival, so no ratio.

    `growth`: CPU seconds of a further question among the largest two sizes over those among the smallest two; 1 where
    time is linear, None for fewer than three sizes. `profile`: shares of one more build of the smallest size.
    """

    trajectories_per_s: float
    questions_per_s_per_core: float
    questions_per_cpu_s: float
    seconds: float
    peak_mb: float
    growth: float | None
    mb_per_100k: float | None  # of the straight line that fits the peaks best
    profile: dict[str, float]
    runs: tuple[Run, ...]
    config: Config


def bench(folder: Path, sizes: Sequence[int], workers: int) -> BenchReport:
    """One store after the other, in an empty folder."""
    runs, profile = [], dict[str, float]()
    for size in sorted(sizes):
        store = make_store(folder / str(size), size, workers)
        runs.append(timed(store, workers))
        profile = profile or profiled(lambda store=store: _repeat(store), TASKS)
        shutil.rmtree(store.root)
    last, peaks = runs[-1], [(run.questions, run.peak_mb) for run in runs]
    return BenchReport(
        trajectories_per_s=round(last.trajectories / last.seconds, 1),
        questions_per_s_per_core=round(last.questions / last.seconds / workers, 1),
        questions_per_cpu_s=round(last.questions / last.cpu_s, 1),
        seconds=last.seconds,
        peak_mb=last.peak_mb,
        growth=_growth(runs),
        mb_per_100k=round(straight(peaks)[1] * 100_000) if len(runs) > 1 else None,
        profile=profile,
        runs=tuple(runs),
        config=Config(tuple(sorted(sizes)), workers),
    )


def _growth(runs: Sequence[Run]) -> float | None:
    if len(runs) < 3:
        return None
    each = [(b.cpu_s - a.cpu_s) / (b.questions - a.questions) for a, b in (runs[:2], runs[-2:])]
    return round(each[1] / each[0], 3)


def make_store(root: Path, n_questions: int, workers: int) -> Store:
    """Questions, and the searches whose calls are to be repeated."""
    store = Store(root)
    ingest(store, BenchSource(n_questions), engine=Engine(workers))
    build_trajectories(store, _stage(store, _Asking), engine=Engine(workers))
    return store


def _stage(store: Store, kind: type[BuildTrajectories], **which: Any) -> BuildTrajectories:
    where = {"root": store.root, "version": store.head().version, "upstream": "ingest/bench/default"}
    what = {"expert_name": "bench", "expert_settings": (), "search": SearchConfig(), "seed": 0}
    return kind(**where, **what, **which)


def _repeat(store: Store) -> None:
    """What `timed` runs, in this process."""
    shutil.rmtree(store.root / "work" / "trajectories")
    build_trajectories(store, _stage(store, BuildTrajectories, slice_name="mine", calls_of="trajectories/bench/bench"))


def timed(store: Store, workers: int) -> Run:
    """FoveaError when the command fails, or gives other rows than the first build."""
    shutil.rmtree(store.root / "work" / "trajectories")
    words = ["build-trajectories", "--store", store.root, "--source", "bench", "--from-calls", "bench"]
    words += ["--name", "again", "--workers", workers, "--json"]
    run = watched([sys.executable, str(PROGRAM), *map(str, words)])
    if run.code:
        raise FoveaError(f"build-trajectories ended with exit code {run.code}; what it said stands above")
    slices = store.head().slices
    if slices["trajectories/bench/again"].parts != slices["trajectories/bench/bench"].parts:
        raise FoveaError("the same calls have given other rows: figures of that are worth nothing")
    rows = {table: sum(of_split.values()) for table, of_split in jsonlib.loads(run.out)["rows"].items()}
    return Run(
        questions=sum(part.rows for _, part in store.head().parts("questions")),
        trajectories=rows["trajectories"],
        calls=rows["expert_calls"],
        seconds=run.seconds,
        cpu_s=run.cpu_s,
        peak_mb=run.peak_mb,
    )


def show(report: BenchReport) -> None:
    """The report for people, on stderr."""
    note(f"searches of known answers, {report.config.workers} processes")
    note("  questions  trajectories    seconds   CPU s  peak MB  trajectories/s  questions/s per core")
    for run in report.runs:
        rates = f"{run.trajectories / run.seconds:14,.0f}  {run.questions / run.seconds / report.config.workers:20,.0f}"
        costs = f"{run.seconds:9.2f}  {run.cpu_s:6.1f}  {run.peak_mb:7.0f}"
        note(f"  {run.questions:9,}  {run.trajectories:12,}  {costs}  {rates}")
    if report.growth is not None:
        note(f"  CPU time of a further question, large over small: {report.growth:.2f} (1 is linear)")
    if report.mb_per_100k is not None:
        note(f"  memory of 100,000 further questions: {report.mb_per_100k:,} MB")
    note("  where the time goes: " + ", ".join(f"{task} {share:.0%}" for task, share in report.profile.items()))


def picture(report: BenchReport) -> str:
    """SVG of seconds and memory against questions."""
    seconds = tuple((float(run.questions), run.seconds) for run in report.runs)
    peaks = tuple((float(run.questions), run.peak_mb) for run in report.runs)
    return plot([Panel("seconds", seconds), Panel("peak MB of a process", peaks)], "questions")


def sizes_from(text: str) -> tuple[int, ...]:
    sizes = text.split(",")
    if not all(map(SIZE.fullmatch, sizes)) or len(set(sizes)) < len(sizes):
        raise UsageError(f"{text!a} are no numbers of questions", fix="--sizes 1000,10000,100000")
    return tuple(map(int, sizes))


def command(
    sizes: Annotated[str, typer.Option(help="Numbers of questions.")] = "1000,10000",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Time and memory against size, as SVG.")] = None,
    json: JsonOption = False,
) -> None:
    """Time `fovea build-trajectories --from-calls`: searches when every answer of the expert is known.

    Example: fovea bench trajectories --sizes 1000,10000,100000 --plot trajectories.svg
    """
    with TemporaryDirectory(prefix="fovea-bench-") as folder:
        report = bench(Path(folder), sizes_from(sizes), workers)
    if plot_file is not None:
        plot_file.write_text(picture(report), encoding="utf-8")
    if json:
        print_json(asdict(report))
    else:
        show(report)
