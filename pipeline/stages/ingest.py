"""`fovea ingest`: a source data set becomes the tables images, questions and rejects."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.adapters.engine import LOCAL, Engine
from pipeline.adapters.sources.base import Source
from pipeline.adapters.sources.hub_fetch import fetch
from pipeline.adapters.work import Output, Shard
from pipeline.stages import ingest_options as options
from pipeline.stages.building import Built, RejectLimit, build, schemas_of
from pipeline.stages.clean_splits import CleanSplits
from pipeline.stages.control_source import ControlSource, control_of
from pipeline.stages.progress import note
from pipeline.stages.reports import (
    EngineOption,
    GpusOption,
    JsonOption,
    MaxRejectsOption,
    NameOption,
    RayAddressOption,
    StoreOption,
    WorkersOption,
    report_build,
)
from pipeline.stages.sources import SOURCES, make_source
from schemas.errors import InputError, UsageError
from schemas.manifest import Slice
from schemas.reader import Store
from schemas.records import POOL, SPLITS
from schemas.rows import to_table

REVISION = 2
TABLES = ("images", "questions", "findings", "rejects")
TOO_MANY_REJECTS = "look whether --root and its version are as meant, or allow more with --max-reject-rate"


@dataclass(frozen=True)
class Ingest:
    """One source into one slice; a work shard is a run of images with all their rows."""

    source: Source
    slice_name: str = "default"
    name: str = "ingest"
    revision: int = REVISION
    tables: tuple[str, ...] = TABLES

    def identity(self) -> Mapping[str, Any]:
        return {"source": self.source.name, "revision": self.source.revision, **self.source.config()}

    def describe(self) -> Slice:
        return Slice(
            stage=self.name,
            source=self.source.name,
            name=self.slice_name,
            revision=self.revision,
            config=self.identity(),
            expert=None,
            seed=self.source.config().get("seed"),
            inputs=self.source.inputs if isinstance(self.source, ControlSource) else {},
            schemas=schemas_of(TABLES),
            licences=(self.source.licence,),
        )

    def setup(self) -> Source:
        return self.source

    def digest(self, state: Source, shard: Shard) -> str:
        return state.digest(shard.payload)

    def process(self, state: Source, shard: Shard) -> Output:
        rows = state.read(shard.payload)
        output = {
            ("images", POOL): to_table("images", rows.images),
            ("findings", POOL): to_table("findings", rows.findings),
            ("rejects", POOL): to_table("rejects", rows.rejects),
        }
        for split in SPLITS:
            output["questions", split] = to_table("questions", [one for one in rows.questions if one.split == split])
        return output


def ingest(
    store: Store, source: Source, *, name: str = "default", engine: Engine = LOCAL, max_reject_rate: float = 1.0
) -> Built:
    shards = [Shard(shard.key, len(shard.payload), shard) for shard in source.plan()]
    limit = RejectLimit(max_reject_rate, TOO_MANY_REJECTS)
    return build(store, Ingest(source, name), shards, engine=engine, limit=limit)


def moved_rows(store: Store, built: Built) -> dict[str, int]:
    """How many questions went from which split to which."""
    columns = ["split", "source_split"]
    rows = store.snapshot(built.manifest.version).read("questions", slices=[built.slice.key], columns=columns)
    moves = Counter(f"{row['source_split']} to {row['split']}" for row in rows.to_pylist() if row["source_split"])
    return dict(sorted(moves.items()))


def source_of(store: Store, name: str, root: str | None, options: Mapping[str, Any], split_by: str | None) -> Source:
    """The source as the command line describes it; UsageError when it cannot be meant so."""
    if name == "control":
        if root is not None or split_by is not None:
            what = "a control copies a slice of the store, and keeps the split that it copies"
            raise UsageError(what, fix="leave out --root, --hub and --split-by")
        return control_of(store, options)
    made = make_source(name, root, options)
    return made if split_by is None else CleanSplits(made, split_by)


def fetched(
    store: Store, source: str, root: str | None, options: Mapping[str, Any], hub: str, revision: str | None
) -> str:
    """The folder that a copy on the Hub was fetched into."""
    if root is not None:
        raise UsageError("--root and --hub are two places of one data set", fix="give one of them")
    repo = None if hub == "default" else hub
    found = fetch(store.root, source, options, repo=repo, revision=revision)
    note(f"{found.repo}@{found.commit[:12]} is in {found.root}")
    return str(found.root)


def read_key(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise InputError(f"the patient key cannot be read: {error.strerror}", where=path) from error


def command(
    source: Annotated[str, typer.Argument(help=f"One of: {', '.join(SOURCES)}; or control.")],
    store: StoreOption,
    root: options.Root = None,
    name: NameOption = "default",
    workers: WorkersOption = 1,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    gpus_per_worker: GpusOption = 0.0,
    max_reject_rate: MaxRejectsOption = 1.0,
    json: JsonOption = False,
    hub: options.Hub = None,
    hub_revision: options.HubRevision = None,
    split_by: options.SplitBy = None,
    patient_key_file: options.KeyFile = None,
    language: options.Language = None,
    frames: options.Frames = None,
    release: options.Release = None,
    test_set: options.TestSet = None,
    access: options.Access = None,
    test_share: options.TestShare = None,
    subjects: options.Subjects = None,
    window: options.Window = None,
    level: options.Level = None,
    seed: options.Seed = None,
    train: options.Train = None,
    validation: options.Validation = None,
    test: options.Test = None,
    side_px: options.SidePx = None,
    offset: options.Offset = None,
    of: options.Of = None,
    kind: options.Kind = None,
    split: options.Split = None,
) -> None:
    """Read a data set into a store, or copy a split of it with pictures that cannot answer.

    Example: fovea ingest phantom --store store --train 200 --test 50
    """
    read = {"language": language, "frames": frames, "version": release, "test_set": test_set, "access": access}
    read |= {"subjects": subjects, "window": window, "key": read_key(patient_key_file)}
    drawn = {"level": level, "seed": seed, "n_train": train, "n_validation": validation, "n_test": test}
    drawn |= {"side_px": side_px, "offset": offset, "test_share": test_share}
    given = {**read, **drawn, "of": of, "kind": kind, "split": split}
    opened = Store(store)
    folder = None if root is None else str(root)
    if hub is not None:
        source_of(opened, source, folder or ".", given, split_by)  # what cannot be read is told before it is fetched
        folder = fetched(opened, source, folder, given, hub, hub_revision)
    elif hub_revision is not None:
        raise UsageError("--hub-revision says what of a copy on the Hub is fetched", fix="add --hub default")
    made = source_of(opened, source, folder, given, split_by)
    how = Engine(workers, engine, ray_address, gpus_per_worker)
    built = ingest(opened, made, name=name, engine=how, max_reject_rate=max_reject_rate)
    report_build(built, json, {"moved": moved_rows(opened, built)} if split_by is not None else None)
