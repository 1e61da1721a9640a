"""`fovea bench experts`: how busy the `openai` expert keeps an endpoint, against calls × latency ÷ concurrency.

A build of the phantom as people run it, against a scripted endpoint on loopback that answers each call after a fixed
time. Its seconds begin with the start of Python and end with the commit; the endpoint's own begin with the first call.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from pipeline.stages.bench_endpoint import MODEL, Served, scripted_endpoint
from pipeline.stages.ingest import ingest
from pipeline.stages.phantom_source import PhantomSource
from pipeline.stages.progress import note
from pipeline.stages.reports import JsonOption, print_json
from schemas.errors import FoveaError
from schemas.reader import Store

PROGRAM = Path(__file__).resolve().parents[2] / "cli.py"  # beside our packages, in a clone and when installed


@dataclass(frozen=True, slots=True)
class Config:
    questions: int
    side_px: int  # of the stored images
    view_px: int
    latency_ms: float
    concurrency: int  # of each worker
    workers: int


@dataclass(frozen=True, slots=True)
class BenchReport:
    """`over_ideal` is `seconds` over `seconds_ideal` = calls × latency ÷ calls in flight: 1 cannot be beaten."""

    over_ideal: float
    over_ideal_asking: float  # of the time between the first call and the last answer
    seconds: float
    seconds_asking: float
    seconds_ideal: float
    calls: int
    calls_at_once: int  # the most
    mb_per_call: float  # sent
    cpu_ms_per_call: float  # of the build, the start of Python included
    cpu_ms_per_call_endpoint: float
    config: Config


def bench(folder: Path, config: Config) -> BenchReport:
    """Makes a store in an empty folder, and asks about every question of it."""
    ingest(Store(folder), PhantomSource(n_train=config.questions, side_px=config.side_px))
    with scripted_endpoint(config.latency_ms / 1000) as served:
        seconds, cpu_s = build(folder, served.url, config)
    return report_of(served, seconds, cpu_s, config)


def build(store: Path, url: str, config: Config) -> tuple[float, float]:
    """Wall and CPU seconds of `fovea build-trajectories`."""
    told = {"url": url, "model": MODEL, "coordinates": "thousand", "check": "false"}
    told |= {"concurrency": config.concurrency, "view_px": config.view_px}
    words = ["build-trajectories", "--source", "phantom", "--expert", "openai", "--json"]
    words += [f"--expert-set={name}={value}" for name, value in told.items()]
    return _timed([*words, f"--store={store}", f"--workers={config.workers}"])


def _timed(words: Sequence[str]) -> tuple[float, float]:
    started_s = time.perf_counter()
    running = subprocess.Popen([sys.executable, str(PROGRAM), *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(running.pid, 0)  # of the process and of all that it waited for
    seconds = time.perf_counter() - started_s
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise FoveaError(f"fovea {words[0]} ended with exit code {running.returncode}; what it said stands above")
    return seconds, usage.ru_utime + usage.ru_stime


def report_of(served: Served, seconds: float, cpu_s: float, config: Config) -> BenchReport:
    n_calls = served.n_requests
    ideal_s = n_calls * config.latency_ms / 1000 / (config.concurrency * config.workers)
    return BenchReport(
        over_ideal=round(seconds / ideal_s, 3),
        over_ideal_asking=round(served.asked_s / ideal_s, 3),
        seconds=round(seconds, 2),
        seconds_asking=round(served.asked_s, 2),
        seconds_ideal=round(ideal_s, 2),
        calls=n_calls,
        calls_at_once=served.n_together,
        mb_per_call=round(served.n_bytes / n_calls / 1e6, 3),
        cpu_ms_per_call=round(1000 * cpu_s / n_calls, 2),
        cpu_ms_per_call_endpoint=round(1000 * served.cpu_s / n_calls, 2),
        config=config,
    )


def show(report: BenchReport) -> None:
    """The report for people, on stderr."""
    config = report.config
    note(
        f"{report.calls:,} calls of {report.mb_per_call:g} MB about {config.questions:,} images of {config.side_px} px"
    )
    note(f"{config.latency_ms:g} ms latency, {config.workers} × {config.concurrency} in flight")
    note("                    seconds  over ideal")
    note(f"  ideal             {report.seconds_ideal:7.2f}       1.000  (calls × latency ÷ calls in flight)")
    note(f"  first to last     {report.seconds_asking:7.2f}  {report.over_ideal_asking:10.3f}")
    note(f"  the whole build   {report.seconds:7.2f}  {report.over_ideal:10.3f}")
    cpu = f"{report.cpu_ms_per_call:.2f} ms a call, and {report.cpu_ms_per_call_endpoint:.2f} ms of the endpoint"
    note(f"  CPU               {cpu}; at most {report.calls_at_once} calls at once")


def command(
    questions: Annotated[int, typer.Option(min=1, help="How many questions, each on an image of its own.")] = 2048,
    side_px: Annotated[int, typer.Option(min=112, help="Side of each image in pixels.")] = 448,
    view_px: Annotated[int, typer.Option(min=28, help="Longest side of what a scan sends.")] = 1008,
    latency_ms: Annotated[float, typer.Option(min=1, help="How long the endpoint takes for each answer.")] = 200.0,
    concurrency: Annotated[int, typer.Option(min=1, help="Calls in flight, of each worker.")] = 64,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    json: JsonOption = False,
) -> None:
    """Time a build whose expert is a scripted endpoint of fixed latency.

    Example: fovea bench experts --questions 512
    """
    config = Config(questions, side_px, view_px, latency_ms, concurrency, workers)
    with TemporaryDirectory(prefix="fovea-bench-") as folder:
        report = bench(Path(folder) / "store", config)
    if json:
        print_json(asdict(report))
    else:
        show(report)
