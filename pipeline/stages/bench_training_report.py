"""What the training benches say: one object, a table for people, a plot; and the options that they share."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.stages.bench_plot import Panel, plot
from pipeline.stages.bench_training import MODELS, Case, Measured, Runner, Side
from pipeline.stages.progress import note
from pipeline.stages.reports import print_json
from schemas.errors import FoveaError, UsageError

CHOICES = {"model": ("small", "3b"), "trained": ("all", "text", "lora"), "dtype": ("float32", "bfloat16"), "device": ()}
COUNTS = ("crops", "crop_tokens", "turn_tokens", "prompts", "live", "micro_batch", "warmup", "threads")
SETTINGS = (*COUNTS, *CHOICES)  # fields of a case that --set may name
PARITY = Case(image_tokens=16, group=4, turn_tokens=40, crop_tokens=16, first_looks=2)

TokensOption = Annotated[str, typer.Option("--image-tokens", help="Tokens of the prompt's image; square numbers.")]
GroupsOption = Annotated[str, typer.Option("--groups", help="Rollouts of one prompt.")]
VocabularyOption = Annotated[str, typer.Option("--vocabulary", help="Rows of the embedding of the small model.")]
AgainstOption = Annotated[str, typer.Option(help="trl; needs the extra `bench`.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help=f"name=value, more than once; names: {', '.join(SETTINGS)}.")
]
RoundsOption = Annotated[int, typer.Option(min=1, help="Processes of each side, in turns.")]
RepeatsOption = Annotated[int, typer.Option(min=1, help="Timed runs of each process, after those to warm up.")]
MinutesOption = Annotated[float, typer.Option(min=0, help="No process runs on after this; --out keeps the others.")]
OutOption = Annotated[
    Path | None,
    typer.Option(help="Results, line by line; what is there is not measured again: begin a new one for other code."),
]
PlotOption = Annotated[Path | None, typer.Option("--plot", help="Seconds as an SVG.")]


@dataclass(frozen=True, slots=True)
class Row:
    """Our `side` and the other on one case. `ratio`: their CPU seconds over ours, `ratio_wall` of wall seconds,

    `ratio_memory`: our `above_mb` over theirs. `swept`: CPU seconds and `above_mb` by TRL's micro-batch.
    """

    name: str
    case: Case
    side: str
    ours: Measured
    their_side: str | None = None
    theirs: Measured | None = None
    ratio: float | None = None
    ratio_wall: float | None = None
    ratio_memory: float | None = None
    swept: dict[int, tuple[float, float]] | None = None


def row(name: str, ours: tuple[Side, Measured], theirs: tuple[Side, Measured] | None = None) -> Row:
    side, own = ours
    if theirs is None:
        return Row(name, side.case, side.name, own)
    their_side, other = theirs
    ratios = (round(other.cpu_s / own.cpu_s, 2), round(other.seconds / own.seconds, 2))
    memory = round(own.above_mb / other.above_mb, 3) if other.above_mb > 0 else None
    rows = their_side.case.micro_batch
    told = f"{their_side.name}, {rows} rows at once" if rows else their_side.name
    return Row(name, side.case, side.name, own, told, other, *ratios, memory)


@dataclass(frozen=True, slots=True)
class Config:
    against: str
    rounds: int
    trl: dict[str, Any]  # TRL's settings in the last row


@dataclass(frozen=True, slots=True)
class BenchReport:
    """`ratio`, `seconds` (wall) and `peak_mb` are the last row's; `growth`: CPU seconds (fixed, of a completion)."""

    ratio: float | None
    seconds: float
    peak_mb: float
    parity: dict[str, float]
    rows: tuple[Row, ...]
    config: Config
    growth: tuple[float, float] | None = None


def report_of(rows: Sequence[Row], apart: Mapping[str, float], against: str, rounds: int) -> BenchReport:
    last = rows[-1]
    config = Config(against, rounds, last.case.trl())
    return BenchReport(last.ratio, last.ours.seconds, last.ours.peak_mb, dict(apart), tuple(rows), config)


def parity(runner: Runner, against: str, crops: int) -> dict[str, float]:
    """How far gradients are apart; FoveaError where that is too far, as then there is nothing to be timed."""
    return runner.run(Side("parity", replace(PARITY, crops=crops, against=against)))


def cases(
    image_tokens: str, groups: str, vocabulary: str, repeats: int, settings: Sequence[str] | None
) -> Iterator[Case]:
    """Every combination of the sizes."""
    fixed = dict(_setting(one) for one in settings or ())
    vocabulary = str(MODELS["3b"]["vocab_size"]) if fixed.get("model") == "3b" else vocabulary
    for rows, group, tokens in product(*(numbers(text) for text in (vocabulary, groups, image_tokens))):
        if math.isqrt(tokens) ** 2 != tokens:
            raise UsageError(f"{tokens} tokens make no square image", where="--image-tokens", fix="64,256,1024")
        yield Case(tokens, group, rows, repeats=repeats, **fixed)


def numbers(text: str) -> list[int]:
    if not all(one.isascii() and one.isdigit() and int(one) for one in text.split(",")):
        raise UsageError(f"{text!a} are no numbers above 0", fix="64,256,1024")
    return [int(one) for one in text.split(",")]


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if name in COUNTS and value.isascii() and value.isdigit():
        return name, int(value)
    if name in CHOICES and value and value in (CHOICES[name] or (value,)):
        return name, value
    raise UsageError(f"{text!a} sets nothing", where="--set", fix=f"name=value, of {', '.join(SETTINGS)}")


def refuse_rival(against: str) -> None:
    if against not in ("", "trl"):
        raise UsageError(f"{against!a} is no rival known here", where="--against", fix="--against trl")
    if against and find_spec(against) is None:
        raise UsageError(f"{against} is not installed", where="--against", fix="pip install 'fovea[bench]'")


def same_tokens(ours: Measured, theirs: Measured) -> None:
    """FoveaError unless both had as many tokens to read and write, and as many weights to train."""
    other = {name: value for name, value in ours.facts.items() if theirs.facts.get(name) != value}
    if other:
        raise FoveaError(f"the sides do not do the same: ours {other}, theirs {theirs.facts}")


def tell(report: BenchReport, plot_file: Path | None, *, json: bool) -> None:
    if plot_file is not None:
        plot_file.write_text(picture(report.rows), encoding="utf-8")
    if json:
        print_json(asdict(report))
    else:
        show(report)


def show(report: BenchReport) -> None:
    """The report for people, on stderr."""
    for name, apart in report.parity.items():
        note(f"parity, {name}: {apart:.1e}")
    note("                                    image   G     vocab   CPU s   (least … most)   theirs   ratio  memory")
    for one in report.rows:
        sizes = f"{one.case.image_tokens:6}  {one.case.group:2}  {one.case.vocabulary:8,}"
        low, high = one.ours.spread_cpu_s
        ours = f"{one.ours.cpu_s:6.2f}  ({low:6.2f} … {high:6.2f})"
        theirs = (
            "" if one.theirs is None else f"  {one.theirs.cpu_s:7.2f}  {one.ratio:6.2f}  {one.ratio_memory or 0:6.2f}"
        )
        note(f"  {one.name:<32}  {sizes}  {ours}{theirs}")
        for who, each in (("ours", one.ours), (one.their_side, one.theirs)):
            if each is not None:
                spent = ", ".join(f"{name} {seconds:.2f}" for name, seconds in each.phases_cpu_s.items())
                memory = f"wall {each.seconds:.2f} s; {each.above_mb:,.0f} MB above the model"
                read = f"; {each.facts['forwarded']:,} tokens forwarded" if "forwarded" in each.facts else ""
                note(f"      {who}: {spent} s; {memory}{read}")
        for rows, (seconds, above_mb) in (one.swept or {}).items():
            note(f"      trl, {rows} rows at once: {seconds:.2f} s, {above_mb:,.0f} MB above the model")
    if report.growth is not None:
        fixed, each = report.growth
        note(f"  growth: {fixed:.3f} CPU s for the prefix, {each:.4f} for each completion")


def picture(rows: Sequence[Row], size: str = "image_tokens") -> str:
    """CPU seconds against a size, ours and theirs, of the rows that bear the first row's name."""
    own = [one for one in rows if one.name == rows[0].name]
    panels = [Panel(f"CPU s, {own[0].side}", tuple((float(getattr(one.case, size)), one.ours.cpu_s) for one in own))]
    if own[0].theirs is not None:
        points = tuple((float(getattr(one.case, size)), one.theirs.cpu_s) for one in own if one.theirs is not None)
        panels.append(Panel(f"CPU s, {own[0].their_side}", points))
    return plot(panels, size.replace("_", " "))
