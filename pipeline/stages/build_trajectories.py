"""`fovea build-trajectories`: an expert searches the images of every question; its paths become trajectory shards."""

import json as jsonlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.adapters.decoding import Decoder
from pipeline.adapters.experts.registry import make_expert
from pipeline.adapters.work import Output, Shard
from pipeline.core.cvs import SamplerConfig
from pipeline.core.grn import NavigatorConfig
from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem
from pipeline.core.search import STAGE, SearchResult, search
from pipeline.stages.building import Built, build, schemas_of
from pipeline.stages.consent import FLAG, check_consent
from pipeline.stages.reports import JsonOption, StoreOption, WorkersOption, report_build
from schemas.errors import UsageError
from schemas.experts import Expert
from schemas.manifest import Part, Slice, sha256_of
from schemas.reader import Snapshot, Store
from schemas.records import POOL, Question
from schemas.rows import from_table, to_table

REVISION = 2
TABLES = ("trajectories", "expert_calls", "rejects")
SHARD_QUESTIONS = 64
RADIOLOGY = ("chexpert", "ms-cxr", "nih-cxr14", "rsna-pneumonia", "slake", "vindr-cxr", "vqa-rad")
EXPERT_DEFAULTS = {  # what an expert has to know of a source
    ("annotations", "phantom"): {"view_px": 112},  # the input of the policy that the phantom is made for
    **{("annotations", source): {"sides_of": "patient"} for source in RADIOLOGY},
}


@dataclass(frozen=True, slots=True)
class QuestionRun:
    """Questions [first, last) of one part: never across parts, so that growth leaves old shards alone."""

    part: Part
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Worker:
    snapshot: Snapshot
    expert: Expert
    decoder: Decoder


@dataclass(frozen=True)
class BuildTrajectories:
    """One expert over one ingest slice into one slice of trajectories."""

    root: Path
    version: int
    upstream: str  # key of the ingest slice
    expert_name: str
    expert_settings: tuple[tuple[str, Any], ...]
    search: SearchConfig
    seed: int
    slice_name: str | None = None
    name: str = STAGE
    revision: int = REVISION
    tables: tuple[str, ...] = TABLES

    @property
    def source(self) -> str:
        return self.upstream.split("/")[1]

    @property
    def expert(self) -> Expert:
        return make_expert(self.expert_name, dict(self.expert_settings))

    def identity(self) -> Mapping[str, Any]:
        identity = self.expert.identity
        return {
            "expert": identity.id,
            "expert_settings": dict(identity.settings),
            "navigator": asdict(self.search.navigator),
            "sampler": asdict(self.search.sampler),
            "origins": list(self.search.origins),
            "seed": self.seed,
        }

    def describe(self) -> Slice:
        upstream = Store(self.root).load(self.version).slices[self.upstream]
        return Slice(
            stage=self.name,
            source=self.source,
            name=self.slice_name or self.expert_name,
            revision=self.revision,
            config=self.identity(),
            expert=self.expert.identity.id,
            seed=self.seed,
            inputs={self.upstream: upstream.digest},
            schemas=schemas_of(TABLES),
            licences=upstream.licences,
        )

    def setup(self) -> Worker:
        snapshot = Store(self.root).snapshot(self.version)
        return Worker(snapshot, self.expert, Decoder(snapshot.images.data))

    def digest(self, state: Worker, shard: Shard) -> str:
        """The part's bytes name the questions and, through image ids, the pixels."""
        run: QuestionRun = shard.payload
        return sha256_of([run.part.sha256, run.first, run.last])

    def usage(self, state: Worker) -> dict[str, Any]:
        """Requests, tokens and price since the last shard, of experts that count them."""
        take = getattr(state.expert, "take_usage", None)
        return take() if take is not None else {}

    def process(self, state: Worker, shard: Shard) -> Output:
        run: QuestionRun = shard.payload
        questions = state.snapshot.read_part(run.part).slice(run.first, run.last - run.first)
        items = [_item(state.decoder, question) for question in from_table("questions", questions)]
        found = search(items, state.expert, self.search, source=self.source, seed=self.seed, shard=shard.key)
        return _output(found, run.part.split)


def _item(decoder: Decoder, question: Question) -> SearchItem:
    """Sizes are read at once, pixels when an expert is to see them."""
    images = (
        SearchImage(image_id, decoder.size(image_id), partial(decoder.image, image_id))
        for image_id in question.image_ids
    )
    return SearchItem(question, tuple(images))


def _output(found: SearchResult, split: str) -> Output:
    return {
        ("trajectories", split): to_table("trajectories", found.trajectories),
        ("expert_calls", POOL): to_table("expert_calls", found.calls),
        ("rejects", POOL): to_table("rejects", found.rejects),
    }


def shards_of(parts: Sequence[Part]) -> Iterator[Shard]:
    """Runs of at most SHARD_QUESTIONS questions inside each part."""
    for part in sorted(parts):
        for first in range(0, part.rows, SHARD_QUESTIONS):
            last = min(part.rows, first + SHARD_QUESTIONS)
            yield Shard(f"{part.split}/{part.sha256[:12]}/{first}", last - first, QuestionRun(part, first, last))


def build_trajectories(store: Store, stage: BuildTrajectories, *, workers: int = 1) -> Built:
    parts = [part for part in store.load(stage.version).slices[stage.upstream].parts if part.table == "questions"]
    return build(store, stage, list(shards_of(parts)), workers=workers)


def counts(store: Store, key: str) -> dict[str, Any]:
    """What came of a build, counted in the store: stops, distinct variants per question, expert calls."""
    read = store.snapshot().read
    rows = read(
        "trajectories", slices=[key], columns=["question_id", "origin", "variant", "stop_reason", "step_call_id"]
    )
    stops: dict[str, int] = {}
    variants: dict[str, int] = {}
    plain, all_calls = set(), set()
    for row in rows.to_pylist():
        calls = {(row["question_id"], call) for call in row["step_call_id"] if call}
        if row["origin"] == "grn":
            plain |= calls
        if row["origin"] in ("grn", "cvs"):
            all_calls |= calls
            stops[row["stop_reason"]] = stops.get(row["stop_reason"], 0) + 1
            variants[row["question_id"]] = variants.get(row["question_id"], 0) + (row["origin"] == "cvs")
    histogram: dict[int, int] = {}
    for n in variants.values():
        histogram[n] = histogram.get(n, 0) + 1
    return {
        "stop_reasons": dict(sorted(stops.items())),
        "cvs_variants_per_question": {str(n): histogram[n] for n in sorted(histogram)},
        "expert_calls": {"grn": len(plain), "grn_and_cvs": len(all_calls), "ratio": _ratio(len(all_calls), len(plain))},
    }


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None


def _settings(pairs: Sequence[str], expert: str, source: str) -> tuple[tuple[str, Any], ...]:
    settings = dict(EXPERT_DEFAULTS.get((expert, source), {}))
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--expert-set {pair!r} is not name=value", fix="for example --expert-set view_px=112")
        try:
            settings[name] = jsonlib.loads(value)
        except ValueError:
            settings[name] = value
    return tuple(sorted(settings.items()))


def command(
    store: StoreOption,
    source: Annotated[str, typer.Option(help="Source whose questions are searched, e.g. slake.")],
    expert: Annotated[str, typer.Option(help="annotations, saliency or openai.")],
    ingest_name: Annotated[str, typer.Option(help="Name of the ingest slice, where a source has several.")] = "default",
    name: Annotated[str | None, typer.Option(help="Name of the slice this build makes; default the expert's.")] = None,
    workers: WorkersOption = 1,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Root seed of the sampler.")] = 0,
    variants: Annotated[int, typer.Option(help="CVS variants per question (N_expert).")] = 6,
    looks_max: Annotated[int, typer.Option(help="Most looks of a trajectory (T_max).")] = 4,
    gain_min: Annotated[float, typer.Option(help="Gain that keeps a drill going (δ).")] = 0.15,
    confident_at: Annotated[float, typer.Option(help="Confidence that ends the search (ξ).")] = 0.85,
    mass: Annotated[float, typer.Option(help="Mass of the nucleus (p₀).")] = 0.9,
    temperature: Annotated[float, typer.Option(help="Temperature over confidences (τ).")] = 0.2,
    crossing: Annotated[str, typer.Option(help="The region that crosses the mass: exclude or include.")] = "exclude",
    origins: Annotated[str, typer.Option(help="Ablations too: scan_only,drill_only,random.")] = "",
    expert_set: Annotated[list[str] | None, typer.Option(help="Setting of the expert: name=value.")] = None,
    send_restricted: Annotated[bool, typer.Option(FLAG, help="openai: the terms of the images allow it.")] = False,
    json: JsonOption = False,
) -> None:
    """Let an expert search the images of every question.

    Example: fovea build-trajectories --store store --source phantom --expert annotations
    """
    opened = Store(store)
    snapshot = opened.snapshot()
    asked = snapshot.slice(f"ingest/{source}/{ingest_name}")
    settings = _settings(expert_set or [], expert, source)
    if "url" in dict(settings) and not send_restricted:
        check_consent(str(dict(settings)["url"]), asked.licences)
    stage = BuildTrajectories(
        root=opened.root,
        version=snapshot.manifest.version,
        upstream=asked.key,
        expert_name=expert,
        expert_settings=settings,
        search=_search_config(variants, looks_max, gain_min, confident_at, mass, temperature, crossing, origins),
        seed=seed,
        slice_name=name,
    )
    built = build_trajectories(opened, stage, workers=workers)
    report_build(built, json, counts(opened, built.slice.key))


def _search_config(
    variants: int,
    looks_max: int,
    gain_min: float,
    confident_at: float,
    mass: float,
    temperature: float,
    crossing: str,
    origins: str,
) -> SearchConfig:
    try:
        return SearchConfig(
            NavigatorConfig(gain_min=gain_min, confident_at=confident_at, looks_max=looks_max),
            SamplerConfig(variants=variants, mass=mass, temperature=temperature, crossing=crossing),
            tuple(sorted(filter(None, origins.split(",")))),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
