"""The `fovea` command: registers every command by name and loads its code only when it is called.

Options and body of a command live beside its stage. A known failure prints what, where and how to fix it,
and exits 1 (2 for wrong usage); only a bug shows a traceback.
"""

import importlib
import sys

import typer
from typer.core import TyperGroup
from typer.main import get_command

from schemas.errors import FoveaError

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("pipeline.stages.demo", "Everything below on the phantom set, ending with a report page."),
    "ingest": ("pipeline.stages.ingest", "Read a data set into a store."),
    "build-trajectories": ("pipeline.stages.build_trajectories", "Let an expert search every question's image."),
    "run-shard": ("pipeline.stages.run_shard", "One task's share of a build, for job arrays."),
    "audit": ("pipeline.stages.audit", "Recompute and check everything a store claims."),
    "sql": ("pipeline.stages.sql", "Query a store with DuckDB."),
    "gc": ("pipeline.stages.gc", "Remove what no manifest names."),
    "bench": ("", "Measure how fast fovea is."),
    "train": ("trainer.commands", "Train a policy from a store."),
    "evaluate": ("trainer.evaluate_command", "Measure a policy on a split."),
}
BENCHES: dict[str, tuple[str, str]] = {
    "ingest": ("pipeline.stages.bench_ingest", "Images per second of ingest, against decoding and hashing alone."),
    "trajectories": ("pipeline.stages.bench_trajectories", "Searches per second when every answer is known."),
    "experts": ("pipeline.stages.bench_experts", "How busy the openai expert keeps an endpoint of known latency."),
    "update": ("pipeline.stages.bench_training_update", "The gradient of one group, shared against repeated prompts."),
    "rollout": ("pipeline.stages.bench_training_rollout", "Rollouts over many prompts, against generate."),
    "step": ("pipeline.stages.bench_training_step", "A whole training step, alone or against TRL."),
    "ladder": ("pipeline.stages.bench_training_ladder", "What each part of an update brings, and its growth with G."),
}


class LazyGroup(TyperGroup):
    """Knows all commands by name and one line of help; imports a command's module when it is used."""

    table = COMMANDS

    def list_commands(self, ctx):
        return list(self.table)

    def get_command(self, ctx, cmd_name):
        if cmd_name not in self.table:
            return None
        module, _ = self.table[cmd_name]
        if not module:
            return get_command(bench)
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name=cmd_name)(importlib.import_module(module).command)
        return get_command(app)

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in self.table.items()])


class BenchGroup(LazyGroup):
    table = BENCHES


bench = typer.Typer(cls=BenchGroup, add_completion=False, no_args_is_help=True, rich_markup_mode=None)


@bench.callback()
def benches() -> None:
    """Measure fovea; each prints what it compares with, on stderr or as JSON.

    Example: fovea bench ingest --images 1000
    """


app = typer.Typer(cls=LazyGroup, add_completion=False, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """fovea: expert visual-search trajectories for medical images, and a policy trained from them.

    Not for clinical use.
    """


def recorded_judge(*of):
    """The judge that `evaluate` may ask: trainer and pipeline meet here alone, and only when one is wanted."""
    return importlib.import_module("pipeline.adapters.judge_endpoint").recorded_judge(*of)


def main() -> None:
    try:
        app(prog_name="fovea", obj=recorded_judge)
    except FoveaError as error:
        print(f"error {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
