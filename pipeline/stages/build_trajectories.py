"""`fovea build-trajectories`: an expert searches the images of every question; its paths become trajectory shards.

Each answer of an expert that costs something is kept as it comes, so that no build, interrupted or repeated or with
another rule, asks twice. `--from-calls` repeats the recorded calls of a slice and asks nobody.
"""

from dataclasses import dataclass
from typing import Any

import typer

from pipeline.adapters.call_cache import join_segments
from pipeline.adapters.engine import LOCAL, Engine
from pipeline.core.hunt import SearchConfig
from pipeline.stages import trajectory_options as options
from pipeline.stages.building import Built, RejectLimit, build
from pipeline.stages.consent import check_consent
from pipeline.stages.expert_options import expert_settings
from pipeline.stages.progress import note
from pipeline.stages.replays import is_changed, replayed_slice
from pipeline.stages.reports import (
    EngineOption,
    GpusOption,
    JsonOption,
    MaxRejectsOption,
    RayAddressOption,
    StoreOption,
    WorkersOption,
    report_build,
)
from pipeline.stages.shares import asked_share
from pipeline.stages.trajectory_counts import counts, n_not_recorded
from pipeline.stages.trajectory_records import calls_made, put_rejected_aside, records_of
from pipeline.stages.trajectory_stage import BuildTrajectories, shards_of
from schemas.errors import UsageError
from schemas.reader import Snapshot, Store

MAX_REJECT_RATE = 0.05
TOO_MANY_REJECTS = "mend the cause and run again with --redo-rejected, or allow more with --max-reject-rate"
TOO_FEW_CALLS = "build it with its expert, which is asked only what is new; or allow more with --max-reject-rate"


@dataclass(frozen=True, slots=True)
class Searched:
    """A build and the calls of the shards that were done in it: asked of the expert, or known from before."""

    built: Built
    calls: dict[str, int]


def build_trajectories(
    store: Store,
    stage: BuildTrajectories,
    *,
    engine: Engine = LOCAL,
    max_reject_rate: float = MAX_REJECT_RATE,
    redo_rejected: bool = False,
) -> Built:
    return search_all(store, stage, engine, max_reject_rate, redo_rejected).built


def search_all(
    store: Store, stage: BuildTrajectories, engine: Engine, max_reject_rate: float, redo_rejected: bool
) -> Searched:
    parts = [part for part in store.load(stage.version).slices[stage.upstream].parts if part.table == "questions"]
    shards = list(shards_of(parts))
    share = asked_share()
    before = records_of(store.folder, stage, shards if share is None else share.of(shards))
    if redo_rejected:
        note(f"{len(put_rejected_aside(store.folder, before))} shards with rejects are done again")
    if stage.is_costly:
        join_segments(store.folder, stage.config()["expert"])
    limit = RejectLimit(max_reject_rate, TOO_MANY_REJECTS if stage.calls_of is None else TOO_FEW_CALLS)
    built = build(store, stage, shards, engine=engine, limit=limit)
    return Searched(built, calls_made(before, records_of(store.folder, stage, shards)))


def command(
    context: typer.Context,
    store: StoreOption,
    source: options.Source,
    expert: options.Expert = None,
    from_calls: options.FromCalls = None,
    ingest_name: options.IngestName = "default",
    name: options.Name = None,
    workers: WorkersOption = 1,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    gpus_per_worker: GpusOption = 0.0,
    max_reject_rate: MaxRejectsOption = MAX_REJECT_RATE,
    redo_rejected: options.RedoRejected = False,
    seed: options.Seed = 0,
    variants: options.Variants = 6,
    looks_max: options.LooksMax = 4,
    gain_min: options.GainMin = 0.15,
    confident_at: options.ConfidentAt = 0.85,
    mass: options.Mass = 0.9,
    temperature: options.Temperature = 0.2,
    crossing: options.Crossing = "exclude",
    origins: options.Origins = "",
    expert_set: options.ExpertSet = None,
    send_restricted: options.SendRestricted = False,
    json: JsonOption = False,
) -> None:
    """Let an expert search the images of every question.

    Answers of openai, hf and medplib are kept as they come: whatever is built later in this store, the same question
    about the same picture is not asked again. With --from-calls nobody is asked at all.

    Example: fovea build-trajectories --store store --source phantom --expert annotations
    """
    opened = Store(store)
    snapshot = opened.snapshot()
    if (expert is None) == (from_calls is None):
        raise UsageError("who answers?", fix="--expert NAME for a new build, or --from-calls SLICE to repeat one")
    if from_calls is None:
        stage = _searching(opened, snapshot, context.params)
    else:
        stage = _repeating(opened, snapshot, context.params, options.given(context))
    how = Engine(workers, engine, ray_address, gpus_per_worker)
    searched = search_all(opened, stage, how, max_reject_rate, redo_rejected)
    _report(opened, stage, searched, json)


def _searching(opened: Store, snapshot: Snapshot, params: dict[str, Any]) -> BuildTrajectories:
    asked = snapshot.slice(f"ingest/{params['source']}/{params['ingest_name']}")
    settings = expert_settings(params["expert_set"] or [], params["expert"], asked.source)
    if "url" in dict(settings) and not params["send_restricted"]:
        check_consent(str(dict(settings)["url"]), asked.licences)
    return BuildTrajectories(
        root=opened.folder,
        version=snapshot.manifest.version,
        upstream=asked.key,
        expert_name=params["expert"],
        expert_settings=settings,
        search=options.search_config(SearchConfig(), params),
        seed=params["seed"],
        slice_name=params["name"],
    )


def _repeating(opened: Store, snapshot: Snapshot, params: dict[str, Any], given: dict[str, Any]) -> BuildTrajectories:
    """The replay of a slice; UsageError for one that would put another rule's rows in the place of its own calls."""
    if unfit := sorted({"expert_set", "redo_rejected", "send_restricted"} & given.keys()):
        what = f"--{unfit[0].replace('_', '-')} is for an expert, and --from-calls asks none"
        raise UsageError(what, fix="leave one of them out")
    old = replayed_slice(snapshot, params["source"], params["from_calls"])
    (upstream,) = old.inputs
    if "ingest_name" in given:
        upstream = f"ingest/{params['source']}/{params['ingest_name']}"
    stage = BuildTrajectories(
        root=opened.folder,
        version=snapshot.manifest.version,
        upstream=snapshot.slice(upstream).key,
        expert_name="recorded",
        expert_settings=(),
        search=options.search_config(options.recorded_config(old.config), given),
        seed=given.get("seed", old.seed),
        slice_name=params["name"] or old.name,
        calls_of=old.key,
    )
    if stage.slice_name == old.name and is_changed(old, stage.config()):
        raise UsageError(
            f"another rule would take the place of {old.key} and its calls", fix="--name for the new slice"
        )
    return stage


def _report(opened: Store, stage: BuildTrajectories, searched: Searched, json: bool) -> None:
    built, calls = searched.built, searched.calls
    told = counts(opened, built.slice.key)
    n_missing = n_not_recorded(opened, built.slice.key)
    if json:
        report_build(built, json, {**calls, "not_recorded": n_missing, **told})
        return
    report_build(built, json, told)
    note(f"  expert calls: {calls['calls_asked']:,} asked, {calls['calls_cached']:,} from the cache")
    if n_missing:
        note(f"  {n_missing:,} questions need calls that {stage.calls_of} has not recorded")
