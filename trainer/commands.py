"""`fovea train`: begin a run, or go on with one."""

from pathlib import Path
from typing import Annotated

import typer

StoreOption = Annotated[str, typer.Option(metavar="FOLDER", help="Folder of the store, or its URL: s3://, gs://.")]


def command(
    store: StoreOption,
    out: Annotated[Path, typer.Option(help="Folder of the run; made when it is not there.")],
    recipe: Annotated[str, typer.Option(help="tiny, medeyes, medeyes-literal, luffy, or a .toml file.")] = "tiny",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: section.key=value.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint of --out.")] = False,
    stop_after: Annotated[
        int | None, typer.Option(min=0, help="Stop after this many steps in all; --resume goes on.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Version of the store: v3 or a digest; default newest.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Torch threads; part of what a resumed run must agree on.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Train a policy from a store.

    Example: fovea train --store store --recipe tiny --out run --set run.steps=50
    """
    from trainer.running import start

    start(
        store,
        out,
        recipe,
        set_ or [],
        is_resumed=resume,
        stop_after=stop_after,
        version=version,
        device=device,
        threads=threads,
        json=json,
    )
