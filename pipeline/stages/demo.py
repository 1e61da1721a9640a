"""`fovea demo`: from nothing to a report page by ordinary commands, each printed as a person would type it.

Finished steps are skipped, as long as everything before them is finished too; the first failure ends the demo with the
exit code of the command that failed. The figures on the page are those the commands left behind.
"""

import json as jsonlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.stages.demo_plan import FULL, SHORT, Demo, Sizes, Step, steps
from pipeline.stages.demo_report import write_report
from pipeline.stages.demo_results import Results
from pipeline.stages.demo_verdict import lines, summary
from pipeline.stages.progress import note
from pipeline.stages.reports import JsonOption, WorkersOption, print_json
from schemas.errors import FoveaError, UsageError

PROGRAM = Path(__file__).resolve().parents[2] / "cli.py"  # beside our packages, in a clone and when installed
RECORD = "demo.json"  # the sizes of the demo in a folder, and the seconds each step took


class StepError(FoveaError):
    """A command of the demo failed; the demo exits as the command did."""

    def __init__(self, step: Step, code: int, out: Path) -> None:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        kept = f" and in {step.json_to}" if step.json_to else ""
        super().__init__(
            f"{step.command}\n  {how}; what it said stands above{kept}",
            where=out,
            fix="mend that and start the same demo again: finished steps are skipped",
        )
        self.exit_code = 128 - code if code < 0 else code


@dataclass(frozen=True, slots=True)
class Finished:
    """A demo that is done; `seconds` by name of step, as far as they are known."""

    plan: Demo
    results: Results
    seconds: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return {
            "page": str(self.plan.page),
            "form": self.plan.sizes.form,
            "seconds": dict(self.seconds),
            **summary(self.results),
        }


def demo(out: Path, sizes: Sizes, workers: int = 2) -> Finished:
    """Run what is not done yet, and write the page."""
    plan = Demo(out, sizes, workers)
    seconds = _begun(plan)
    may_skip = True
    for step in steps(plan):
        may_skip = may_skip and step.is_done()
        if may_skip:
            note(f"done already: {step.command}")
            continue
        seconds[step.name] = run(step, out)
        _record(plan, seconds)
    started_s = time.perf_counter()
    results = write_report(plan, seconds)
    note(f"{plan.page}  ({time.perf_counter() - started_s:.1f} s)")
    return Finished(plan, results, seconds)


def run(step: Step, out: Path) -> float:
    """Run one command; its seconds. What it prints is kept where it is for programs. StepError when it fails."""
    note(f"$ {step.command}")
    started_s = time.perf_counter()
    done = subprocess.run([sys.executable, str(PROGRAM), *step.arguments], stdout=subprocess.PIPE, check=False)
    seconds = round(time.perf_counter() - started_s, 2)
    if step.json_to is None:
        sys.stderr.write(done.stdout.decode(errors="replace"))
    elif done.stdout.strip():
        _write(step.json_to, done.stdout)
    if done.returncode != 0:
        raise StepError(step, done.returncode, out)
    note(f"  {seconds:.1f} s")
    return seconds


def _begun(plan: Demo) -> dict[str, float]:
    """Seconds of the steps that were run before; refuses a folder that holds a demo of other sizes."""
    path = plan.out / RECORD
    if not path.exists():
        if plan.out.exists() and (not plan.out.is_dir() or any(plan.out.iterdir())):
            raise UsageError("there is something here that is no demo", where=plan.out, fix="choose another --out")
        _record(plan, {})
    try:
        found = jsonlib.loads(path.read_text(encoding="utf-8"))
        sizes, seconds = found["sizes"], {str(name): float(value) for name, value in found["seconds"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"not the record of a demo: {error}", where=path, fix="choose another --out") from error
    if sizes != plan.sizes.plain():
        raise UsageError(
            "here is a demo of other sizes", where=plan.out, fix="choose another --out, or remove this one"
        )
    return seconds


def _record(plan: Demo, seconds: dict[str, float]) -> None:
    plan.out.mkdir(parents=True, exist_ok=True)
    text = jsonlib.dumps({"sizes": plan.sizes.plain(), "seconds": seconds}, indent=1)
    _write(plan.out / RECORD, text.encode() + b"\n")


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(data)
    os.replace(fresh, path)


def command(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo"),
    short: Annotated[bool, typer.Option("--short", help="Small sizes: every part runs, nothing is learned.")] = False,
    workers: WorkersOption = 2,
    json: JsonOption = False,
) -> None:
    """Phantom images, expert trajectories, audit, training, evaluation and a report page, from nothing.

    Example: fovea demo --out demo
    """
    done = demo(out, SHORT if short else FULL, workers)
    if json:
        print_json(done.to_json())
    else:
        typer.echo("\n".join([*lines(done.results), f"page: {done.plan.page}"]))
