"""`fovea evaluate`: a run's checkpoint on one split of the questions it was made for, judged by one protocol."""

import json as jsonlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.errors import UsageError
from schemas.protocols.base import Protocol
from schemas.protocols.fovea import FOVEA
from schemas.protocols.registry import PROTOCOLS, protocol_named
from schemas.reader import Snapshot, Store
from trainer.commands import StoreOption

LLM_JUDGE = "llm-judge"
_PROTOCOL_HELP = f"How answers are judged: {', '.join(PROTOCOLS)}, or {LLM_JUDGE} with the three options below."
_URL_HELP = "OpenAI-compatible endpoint (…/v1), key in FOVEA_JUDGE_API_KEY; without it --judge-log is replayed."


def command(
    context: typer.Context,  # its object makes a judge, which lies outside the trainer
    run: Annotated[Path, typer.Option(help="Folder of a fovea train run.")],
    store: StoreOption,
    split: Annotated[str, typer.Option(help="validation, test or train.")] = "test",
    checkpoint: Annotated[str, typer.Option(help="latest, or a number of steps.")] = "latest",
    source_slice: Annotated[str | None, typer.Option("--slice", help="Ingest slice; default that of the run.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy; else episodes are sampled.")] = 0.0,
    protocol: Annotated[str, typer.Option(help=_PROTOCOL_HELP)] = "fovea",
    judge_url: Annotated[str | None, typer.Option(help=_URL_HELP)] = None,
    judge_model: Annotated[str | None, typer.Option(help="Name of the judging model.")] = None,
    judge_log: Annotated[Path | None, typer.Option(help="JSON lines of its verdicts, appended and replayed.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Also write every episode to this JSON file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Measure a policy on a split.

    Example: fovea evaluate --run run --store store --split test --json
    """
    import torch

    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise UsageError("no file can be written there", where=out, fix="--out: a file in a folder that exists")
    torch.set_num_threads(threads)
    chosen = choose_protocol(protocol, judge_url, judge_model, judge_log, context.obj)
    result, episodes = evaluate(run, store, split, checkpoint, source_slice, limit, temperature, device, chosen)
    if out is not None:
        out.write_text(jsonlib.dumps({**result, "episodes": episodes}) + "\n")
    if json:
        print(jsonlib.dumps(result))
    else:
        _tell(result)


def choose_protocol(
    name: str,
    judge_url: str | None,
    judge_model: str | None,
    judge_log: Path | None,
    judge: Callable[[str, Path, str | None], Protocol],
) -> Protocol:
    """The protocol called `name`; the judge's options belong to llm-judge alone, which needs a model and a log."""
    if name != LLM_JUDGE:
        if any((judge_url, judge_model, judge_log)):
            raise UsageError(f"protocol {name} asks no model", fix=f"--protocol {LLM_JUDGE}, or leave --judge-… out")
        return protocol_named(name)
    if judge_model is None or judge_log is None:
        raise UsageError(f"{LLM_JUDGE} needs to know its model and its log", fix="--judge-model NAME --judge-log FILE")
    return judge(judge_model, judge_log, judge_url)


def evaluate(
    run: Path,
    store: str | Path,
    split: str,
    checkpoint: str,
    source_slice: str | None,
    limit: int | None,
    temperature: float,
    device: str,
    protocol: Protocol = FOVEA,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(report, one plain object per episode) of a checkpoint on a split."""
    import torch

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
    for question in questions:
        protocol.part_of(question)  # refused before any work is done
    path = Checkpoints(run).find(checkpoint)
    policy = Policy.load(path, getattr(torch, recipe.model.dtype), device, base=Checkpoints(run).base(recipe))
    environment = Environment(Dialogue(policy.processor, recipe.dialogue), recipe.view)
    train = snapshot.records("questions", split="train", slices=[key])
    scenes = Scenes(snapshot, environment)
    results = list(outcomes(policy, environment, scenes, questions, train, temperature, protocol))
    head = {
        "run": str(run),
        "checkpoint": path.name,
        "slice": key,
        "split": split,
        "temperature": temperature,
        "store_digest": snapshot.manifest.digest,
        "run_store_digest": about["store_digest"],  # of the version trained on; another one is no error
    }
    return head | report(results, protocol, _modalities(snapshot)), [_plain(one) for one in results]


def _modalities(snapshot: Snapshot) -> dict[str, str | None]:
    """Modality by image id, of all images of the store."""
    images = snapshot.read("images", columns=["image_id", "modality"])
    return dict(zip(images["image_id"].to_pylist(), images["modality"].to_pylist(), strict=True))


def _plain(one: Any) -> dict[str, Any]:
    return {
        "question_id": one.question.question_id,
        "answer": one.answer,
        "is_correct": one.is_correct,
        "score": one.verdict.score,
        "rule": one.verdict.rule,
        "fallback": one.verdict.fallback,
        "looks_xyxy_px": [look.box_xyxy_px for look in one.looks],
        "look_images": [look.image for look in one.looks],
        "turns": [] if one.episode is None else one.episode.turns,
    }


def _tell(result: dict[str, Any]) -> None:
    typer.echo(f"protocol {result['protocol']}: {result['headline']}")
    tables = [table for name, table in result.items() if name.startswith("by_")]
    for name, one in [("overall", result["overall"]), *(row for table in tables for row in table.items())]:
        metric = next(key for key in one if key not in ("n", "interval_95", "majority", "also"))
        low, high = one["interval_95"] or (None, None)
        typer.echo(
            f"{name:<14} n {one['n']:<5} {metric} {_number(one[metric])} [{_number(low)}, {_number(high)}]"
            f"  question-only majority {_number(one['majority'])}"
        )
    for reason, ids in result["fallbacks"].items():
        typer.echo(f"{len(ids)} counted as wrong: {reason}")
    looks, found = result["looks_per_question"], _number(result["found"])
    typer.echo(f"grammatical {result['grammatical']:.3f}  looks {looks:.2f}  found {found}")


def _number(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.3f}"
