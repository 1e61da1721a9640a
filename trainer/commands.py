"""`fovea train`: begin a run, go on with one, or do one again and compare."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import UsageError


def _print_metrics(is_asked: bool) -> None:
    if is_asked:
        from trainer.metrics import table

        typer.echo(table())
        raise typer.Exit


StoreOption = Annotated[str, typer.Option(metavar="FOLDER", help="Folder of the store, or its URL: s3://, gs://.")]


def command(
    store: StoreOption,
    out: Annotated[Path, typer.Option(help="Folder of the run; made when it is not there.")],
    recipe: Annotated[
        str | None, typer.Option(help="tiny (default), medeyes, medeyes-literal, luffy, or a .toml file.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: section.key=value.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint of --out.")] = False,
    stop_after: Annotated[
        int | None, typer.Option(min=0, help="Stop after this many steps in all; --resume goes on.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Version of the store: v3 or a digest; default newest.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Torch threads; part of what a resumed run must agree on.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print parameters and memory, per process of WORLD_SIZE; load nothing.")
    ] = False,
    replay: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Do this recorded run again and stop at the first difference.")
    ] = None,
    writer: Annotated[
        list[str] | None, typer.Option(help="Mirror the log: tensorboard or trackio, each an extra; may be repeated.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
    help_metrics: Annotated[
        bool,
        typer.Option("--help-metrics", callback=_print_metrics, is_eager=True, help="Say what the log's names mean."),
    ] = False,
) -> None:
    """Train a policy from a store.

    Example: fovea train --store store --recipe tiny --out run --set run.steps=50
    """
    if dry_run:
        from trainer.dry_run import dry_run as estimated

        estimated(recipe or "tiny", set_ or [], device, json=json)
        return
    from trainer.running import start
    from trainer.writers import open_writer

    how = {"stop_after": stop_after, "device": device, "threads": threads, "json": json}
    how["followers"] = [open_writer(name) for name in writer or []]
    if replay is None:
        start(store, out, recipe or "tiny", set_ or [], is_resumed=resume, version=version, **how)
        return
    if recipe or set_ or resume or version:
        raise UsageError(
            "--replay takes recipe and version of the store from the recorded run",
            fix="leave out --recipe, --set, --resume and --version",
        )
    from trainer.replaying import replay as do_again

    do_again(replay, store, out, **how)
