"""`fovea bench ingest`: images per second of `fovea ingest`, against plain Pillow decoding and two sha256 of each file.

Both read the same files with as many processes, one after the other in one run, and both are timed with the start of
their processes. Ours also writes a store twice over: work shards, then parts.
"""

import hashlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from PIL import Image as Pillow

from pipeline.stages.bench_pictures import link_folder, write_folder
from pipeline.stages.progress import note
from pipeline.stages.reports import JsonOption, print_json
from schemas.errors import FoveaError

PROGRAM = Path(__file__).resolve().parents[2] / "cli.py"  # beside our packages, in a clone and when installed
FILES_AT_ONCE = 64  # as many as a work shard has
KIB_PER_MB = 1024


@dataclass(frozen=True, slots=True)
class Config:
    images: int
    side_px: int
    workers: int
    mean_kb: float  # of a file


@dataclass(frozen=True, slots=True)
class BenchReport:
    """`ratio` is their seconds over ours; `peak_mb` is the most resident memory that one of our processes had."""

    ratio: float
    seconds: float
    peak_mb: float
    seconds_plain: float
    images_per_s: float
    images_per_s_plain: float
    peak_mb_half: float  # of half the images: what the number of images costs in memory
    config: Config


def bench(folder: Path, n_images: int, side_px: int, workers: int) -> BenchReport:
    """Makes the files, and a store of half of them and of all of them, in an empty folder."""
    whole, half = folder / "whole", folder / "half"
    write_folder(whole, n_images, side_px, workers)
    link_folder(half, whole, max(1, n_images // 2))
    files = sorted((whole / "images").iterdir())
    mean_kb = sum(file.stat().st_size for file in files) / len(files) / 1000
    seconds_plain = plain(files, workers)
    _, peak_mb_half = ingest(half, folder / "half store", workers)
    seconds, peak_mb = ingest(whole, folder / "whole store", workers)
    return BenchReport(
        ratio=round(seconds_plain / seconds, 3),
        seconds=round(seconds, 2),
        peak_mb=round(peak_mb),
        seconds_plain=round(seconds_plain, 2),
        images_per_s=round(n_images / seconds, 1),
        images_per_s_plain=round(n_images / seconds_plain, 1),
        peak_mb_half=round(peak_mb_half),
        config=Config(n_images, side_px, workers, round(mean_kb, 1)),
    )


def plain(files: Sequence[Path], workers: int) -> float:
    """Seconds to decode all files and hash their bytes and pixels, in `workers` processes."""
    runs = [files[start : start + FILES_AT_ONCE] for start in range(0, len(files), FILES_AT_ONCE)]
    started_s = time.perf_counter()
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        n_done = sum(map(len, pool.map(decode_and_hash, runs)))
    seconds = time.perf_counter() - started_s
    assert n_done == len(files)
    return seconds


def decode_and_hash(files: Sequence[Path]) -> list[tuple[str, str]]:
    """sha256 of the bytes and of the pixels of each file."""
    hashes = []
    for file in files:
        data = file.read_bytes()
        with Pillow.open(io.BytesIO(data)) as image:
            pixels = image.tobytes()
        hashes.append((hashlib.sha256(data).hexdigest(), hashlib.sha256(pixels).hexdigest()))
    return hashes


def ingest(root: Path, store: Path, workers: int) -> tuple[float, float]:
    """Seconds and peak resident MB of `fovea ingest` as people run it, the start of Python included."""
    words = ["ingest", "vqa-rad", "--root", root, "--store", store, "--workers", workers, "--json"]
    started_s = time.perf_counter()
    running = subprocess.Popen([sys.executable, str(PROGRAM), *map(str, words)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(running.pid, 0)  # the greatest of the process and of all that it waited for
    seconds = time.perf_counter() - started_s
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise FoveaError(f"fovea ingest ended with exit code {running.returncode}; what it said stands above")
    return seconds, usage.ru_maxrss / KIB_PER_MB


def show(report: BenchReport) -> None:
    """The report for people, on stderr."""
    config = report.config
    note(f"{config.images:,} JPEGs of {config.side_px} px, {config.mean_kb:g} kB each, {config.workers} processes")
    note("                     seconds  images/s  peak MB  peak MB for half of them")
    ours = f"{report.seconds:7.2f}  {report.images_per_s:8.1f}  {report.peak_mb:7.0f}  {report.peak_mb_half:7.0f}"
    note(f"  fovea ingest       {ours}")
    note(f"  decode and sha256  {report.seconds_plain:7.2f}  {report.images_per_s_plain:8.1f}")
    note(f"  ratio              {report.ratio:7.3f}  (theirs / ours: 1 is as fast, 0.5 takes twice as long)")


def command(
    images: Annotated[int, typer.Option(min=1, help="How many JPEGs to make and read.")] = 10_000,
    side: Annotated[int, typer.Option(min=16, help="Side of each in pixels.")] = 512,
    workers: Annotated[int, typer.Option(min=1, help="Processes, ours and theirs.")] = 2,
    json: JsonOption = False,
) -> None:
    """Time `fovea ingest` against plain decoding and hashing of the same files.

    Example: fovea bench ingest --images 1000
    """
    with TemporaryDirectory(prefix="fovea-bench-") as folder:
        report = bench(Path(folder), images, side, workers)
    if json:
        print_json(asdict(report))
    else:
        show(report)
