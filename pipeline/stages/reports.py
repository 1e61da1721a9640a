"""Options that several commands share, and how a build reports: one object on stdout, or a few lines for people."""

import json as jsonlib
from typing import Annotated, Any

import typer

from pipeline.stages.building import Built
from pipeline.stages.progress import note

StoreOption = Annotated[str, typer.Option(metavar="FOLDER", help="Folder of the store, or its URL: s3://, gs://.")]
NameOption = Annotated[str, typer.Option(help="Name of the slice this build makes.")]
WorkersOption = Annotated[int, typer.Option(min=1, help="Worker processes; the bytes are the same for any number.")]
EngineOption = Annotated[str, typer.Option("--engine", help="local, or ray: Ray actors on a cluster or this machine.")]
RayAddressOption = Annotated[
    str | None,
    typer.Option(help="ray: address of a running cluster whose machines see the store and have this fovea installed."),
]
GpusOption = Annotated[
    float, typer.Option("--gpus-per-worker", min=0, help="ray: GPUs of each worker, may be a fraction; 0 hides them.")
]
MaxRejectsOption = Annotated[
    float, typer.Option("--max-reject-rate", min=0, max=1, help="More rejects of rows in, and nothing is committed.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def print_json(plain: dict[str, Any]) -> None:
    typer.echo(jsonlib.dumps(plain, ensure_ascii=False, allow_nan=False))


def report_build(built: Built, json: bool, extra: dict[str, Any] | None = None) -> None:
    summary = built.summary() | (extra or {})
    if json:
        print_json(summary)
        return
    done, reused = summary["shards"] - summary["shards_reused"], summary["shards_reused"]
    if not summary["did_work"] and not summary["is_new_version"]:
        note(f"nothing to do: {summary['slice']} is unchanged ({reused} shards reused, {summary['version']})")
    else:
        version = f"{summary['version']} sha256:{summary['digest'][:12]}"
        note(f"{summary['slice']} → {version} ({done} shards done, {reused} reused)")
    for table, counts in sorted(summary["rows"].items()):
        note(f"  {table:<13} " + "  ".join(f"{split} {rows:,}" for split, rows in sorted(counts.items())))
    for key, value in (extra or {}).items():
        note(f"  {key}: {value}")
