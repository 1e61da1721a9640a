"""`fovea evaluate`: a run's checkpoint on one split of the questions it was made for."""

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any

import typer

from trainer.commands import StoreOption


def command(
    run: Annotated[Path, typer.Option(help="Folder of a fovea train run.")],
    store: StoreOption,
    split: Annotated[str, typer.Option(help="validation, test or train.")] = "test",
    checkpoint: Annotated[str, typer.Option(help="latest, or a number of steps.")] = "latest",
    source_slice: Annotated[str | None, typer.Option("--slice", help="Ingest slice; default that of the run.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy; else episodes are sampled.")] = 0.0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Also write every episode to this JSON file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Measure a policy on a split.

    Example: fovea evaluate --run run --store store --split test --json
    """
    import torch

    torch.set_num_threads(threads)
    result, episodes = evaluate(run, store, split, checkpoint, source_slice, limit, temperature, device)
    if out is not None:
        out.write_text(jsonlib.dumps({**result, "episodes": episodes}) + "\n")
    if json:
        print(jsonlib.dumps(result))
    else:
        _tell(result)


def evaluate(
    run: Path,
    store: Path,
    split: str,
    checkpoint: str,
    source_slice: str | None,
    limit: int | None,
    temperature: float,
    device: str,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(report, one plain object per episode) of a checkpoint on a split."""
    import torch

    from schemas.reader import Store
    from trainer.checkpoints import Checkpoints
    from trainer.data import Scenes, ingest_of, questions_of
    from trainer.dialogue import Dialogue
    from trainer.environment import Environment
    from trainer.evaluation import outcomes, report
    from trainer.policy import Policy
    from trainer.recipe import recipe_from
    from trainer.runlog import RunLog

    about = RunLog(run).read()
    recipe = recipe_from(about["recipe"])
    snapshot = Store(store).snapshot()
    key = snapshot.slice(source_slice).key if source_slice else ingest_of(snapshot.slice(about["slice"]))
    questions = questions_of(snapshot, key, split)[:limit]
    path = Checkpoints(run).find(checkpoint)
    policy = Policy.load(path, getattr(torch, recipe.model.dtype), device)
    environment = Environment(Dialogue(policy.processor, recipe.dialogue), recipe.view)
    train = snapshot.records("questions", split="train", slices=[key])
    scenes = Scenes(snapshot, environment)
    results = list(outcomes(policy, environment, scenes, questions, train, temperature))
    head = {
        "run": str(run),
        "checkpoint": path.name,
        "slice": key,
        "split": split,
        "temperature": temperature,
        "store_digest": snapshot.manifest.digest,
        "run_store_digest": about["store_digest"],  # of the version trained on; another one is no error
    }
    return head | report(results), [_plain(one) for one in results]


def _plain(one: Any) -> dict[str, Any]:
    return {
        "question_id": one.question.question_id,
        "answer": one.episode.answer,
        "is_correct": one.is_correct,
        "looks_xyxy_px": one.episode.look_boxes,
        "turns": one.episode.turns,
    }


def _tell(result: dict[str, Any]) -> None:
    for name, one in [("overall", result["overall"]), *result["by_type"].items()]:
        low, high = one["interval_95"]
        typer.echo(
            f"{name:<14} n {one['n']:<5} accuracy {one['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
            f"  question-only majority {_number(one['majority'])}"
        )
    looks, found = result["looks_per_question"], _number(result["found"])
    typer.echo(f"grammatical {result['grammatical']:.3f}  looks {looks:.2f}  found {found}")


def _number(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.3f}"
