"""`fovea ingest`: a source data set becomes the tables images, questions and rejects."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.adapters.sources.base import Source
from pipeline.adapters.work import Output, Shard
from pipeline.stages.building import Built, build, schemas_of
from pipeline.stages.reports import JsonOption, NameOption, StoreOption, WorkersOption, report_build
from pipeline.stages.sources import make_source
from schemas.manifest import Slice
from schemas.reader import Store
from schemas.records import POOL, SPLITS
from schemas.rows import to_table

REVISION = 1
TABLES = ("images", "questions", "rejects")


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
            inputs={},
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
            ("rejects", POOL): to_table("rejects", rows.rejects),
        }
        for split in SPLITS:
            output["questions", split] = to_table("questions", [one for one in rows.questions if one.split == split])
        return output


def ingest(store: Store, source: Source, *, name: str = "default", workers: int = 1) -> Built:
    shards = [Shard(shard.key, len(shard.payload), shard) for shard in source.plan()]
    return build(store, Ingest(source, name), shards, workers=workers)


def command(
    source: Annotated[str, typer.Argument(help="phantom, vqa-rad or slake")],
    store: StoreOption,
    root: Annotated[Path | None, typer.Option(help="Folder of the data set in its original layout.")] = None,
    name: NameOption = "default",
    workers: WorkersOption = 1,
    json: JsonOption = False,
    language: Annotated[str | None, typer.Option(help="slake: en, zh or all.")] = None,
    frames: Annotated[
        bool | None, typer.Option("--frames/--no-frames", help="vqa-rad: keep the templated rows of the MEVF layout.")
    ] = None,
    level: Annotated[str | None, typer.Option(help="phantom: L1, L2, L3 or hard.")] = None,
    seed: Annotated[int | None, typer.Option(help="phantom: seed of the generator.")] = None,
    train: Annotated[int | None, typer.Option(help="phantom: images in the train split.")] = None,
    validation: Annotated[int | None, typer.Option(help="phantom: images in the validation split.")] = None,
    test: Annotated[int | None, typer.Option(help="phantom: images in the test split.")] = None,
    side_px: Annotated[int | None, typer.Option(help="phantom: side of the stored image.")] = None,
    offset: Annotated[int | None, typer.Option(help="phantom: images of each split to skip.")] = None,
) -> None:
    """Read a data set into a store.

    Example: fovea ingest phantom --store store --train 200 --test 50
    """
    options = {
        "language": language,
        "frames": frames,
        "level": level,
        "seed": seed,
        "n_train": train,
        "n_validation": validation,
        "n_test": test,
        "side_px": side_px,
        "offset": offset,
    }
    made = make_source(source, None if root is None else str(root), options)
    report_build(ingest(Store(store), made, name=name, workers=workers), json)
