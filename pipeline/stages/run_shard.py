"""`fovea run-shard`: one task of a job array does its share of a building command, and the command itself ends it.

The wrapped command is parsed and planned as ever, here and in every other task; nothing is handed from task to task
but finished work shards in the store.
"""

import importlib
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from pipeline.stages.progress import note
from pipeline.stages.reports import JsonOption, print_json
from pipeline.stages.shares import Share, ShareDone, only, share_from_environment, share_from_text
from schemas.errors import UsageError

BUILDERS = {  # commands that end in one `building.build`
    "ingest": "pipeline.stages.ingest",
    "build-trajectories": "pipeline.stages.build_trajectories",
}


def run_share(share: Share, words: Sequence[str]) -> ShareDone:
    """Run the building command `words` as far as its share goes."""
    name, *arguments = words
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name=name)(importlib.import_module(BUILDERS[name]).command)
    try:
        with only(share):
            get_command(app).main(arguments, prog_name=f"fovea {name}", standalone_mode=False)
    except ShareDone as done:
        return done
    raise UsageError(f"fovea {name} {' '.join(arguments)} builds nothing", fix="leave out what makes it print only")


def command(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[INDEX/COUNT] -- COMMAND ...",
            help=f"Which share, from 0; in a Slurm or AWS Batch array the task's own. Then {' or '.join(BUILDERS)}.",
        ),
    ],
    json: JsonOption = False,
) -> None:
    """Do every COUNT-th shard of a building command, from INDEX on, and neither pack nor commit.

    When all tasks have ended, run the command itself: it finds their shards finished, does what is missing, packs and
    commits. A task whose input has a new version meanwhile does no harm: shards are known by the bytes they are made
    from, and those that nobody asks for again are left to `fovea gc`.

    Example: fovea run-shard 0/8 -- build-trajectories --store store --source phantom --expert annotations
    """
    is_named = words[0] not in BUILDERS and "/" in words[0]
    share, rest = (share_from_text(words[0]), words[1:]) if is_named else (None, words)
    if not rest or rest[0] not in BUILDERS:
        given = rest[0] if rest else "nothing"
        raise UsageError(f"{given!a} is no building command", fix=f"after --: {' or '.join(BUILDERS)} and its options")
    share = share or share_from_environment()
    done = run_share(share, rest)
    n_fresh = done.n_shards - done.n_reused
    if json or "--json" in rest:
        print_json({"shards": done.n_shards, "done": n_fresh, "reused": done.n_reused})
    else:
        note(f"share {share} of {rest[0]}: {n_fresh} shards done, {done.n_reused} reused; nothing is committed yet")
