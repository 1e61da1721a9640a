"""Small real stores for tests: drawn images, scripted answers, the real search, the real writer and commits.

`tampered` commits a version in which one stored value is different: what an audit must notice.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.adapters.catalog import connect
from pipeline.adapters.commits import commit
from pipeline.adapters.files import write_parquet
from pipeline.adapters.pixels import stored_image
from pipeline.adapters.png import write_png
from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem
from pipeline.core.search import SearchResult, search
from pipeline.stages.audit_rows import load_checks, run_check
from schemas.boxes import Size
from schemas.experts import Ask, Candidate, Drill, ExpertIdentity, Seen
from schemas.manifest import Part, Slice
from schemas.reader import Store
from schemas.records import POOL, Image, Question, Region
from schemas.rows import to_table
from schemas.seeds import uniform
from schemas.tables import TABLES

INGEST = "ingest/drawn/default"
SEARCHED = "trajectories/drawn/scripted"
ORIGINS = ("scan_only", "drill_only", "random")


class ScriptedExpert:
    """Answers that depend on the ask alone: up to five regions, some overlapping, all refined, some without a word."""

    def __init__(self, *, privileged: bool = False, rescans: bool = False, n_spots: int = 6) -> None:
        self.identity = ExpertIdentity("scripted", "1", privileged=privileged, rescans=rescans)
        self.n_spots = n_spots  # fewer than so many on each image

    def answer(self, asks: Sequence[Ask]) -> list[Seen]:
        return [self._drill(ask, ask.query) if isinstance(ask.query, Drill) else self._scan(ask) for ask in asks]

    def _scan(self, ask: Ask) -> Seen:
        visited = ask.query.visited_xyxy_px
        n_regions = int(uniform("n", ask.image_id, visited) * self.n_spots)
        boxes = [
            [uniform("box", ask.image_id, visited, number, edge) for edge in range(4)] for number in range(n_regions)
        ]
        confidences = [uniform("scan", ask.question.question_id, number) for number in range(n_regions)]
        found = [
            Candidate((x * 40, y * 40, x * 40 + 8 + 16 * w, y * 40 + 8 + 16 * h), f"spot {number}", confidence)
            for number, ((x, y, w, h), confidence) in enumerate(zip(boxes, confidences, strict=True))
        ]
        return Seen(tuple(found), f"{n_regions} spots")

    def _drill(self, ask: Ask, drill: Drill) -> Seen:
        x0, y0, x1, y1 = drill.box_xyxy_px
        if uniform("mute", ask.question.question_id, drill.box_xyxy_px) < 0.1:
            return Seen((), "")
        confidence = uniform("drill", ask.question.question_id, drill.box_xyxy_px, drill.round)
        return Seen((Candidate((x0 + 0.5, y0, x1, y1 - 0.25), drill.label, confidence),), f"sure to {confidence:.3f}")


def drawn_image(number: int, size: Size = (64, 48)) -> Image:
    pixels = np.full(size[::-1], number % 100, np.uint8)
    pixels[number % 40 : number % 40 + 6, 10:20] = 100 + number // 100
    return stored_image(write_png(pixels), f"{number}.png", source="drawn", licence="CC0-1.0", modality="drawing")


def asked(number: int, image: Image, **changed: Any) -> Question:
    question = Question(
        question_id=f"drawn-{number:04d}",
        source="drawn",
        split=("train", "train", "test")[number % 3],
        image_ids=(image.image_id,),
        question=f"Is spot {number} bright?",
        answer=("yes", "no")[number % 2],
        answer_kind="closed",
        regions=(Region((10.0, 1.0, 20.0, 7.0), "spot", "drawn"),),
    )
    return replace(question, **changed)


def searched(questions: Sequence[Question], images: Sequence[Image] = (), **kind: Any) -> SearchResult:
    """Searches of images of these sizes; of 64 × 48 where they are not told."""
    sizes = {image.image_id: (image.width, image.height) for image in images}
    items = [
        SearchItem(one, tuple(SearchImage(each, sizes.get(each, (64, 48)), lambda: None) for each in one.image_ids))
        for one in questions
    ]
    config = SearchConfig(origins=ORIGINS)
    return search(items, ScriptedExpert(**kind), config, source="drawn", seed=7)


def put_slice(store: Store, key: str, tables: dict[tuple[str, str], pa.Table], inputs: dict[str, str]) -> None:
    """Commit a slice that holds exactly these tables, one part each."""
    parts = tuple(put_part(store.root, *name, data) for name, data in sorted(tables.items()) if data.num_rows)
    stage, source, name = key.split("/")
    schemas = {table: TABLES[table].schema_id for table, _ in tables}
    expert, seed = ("scripted", 7) if stage == "trajectories" else (None, None)
    new = Slice(stage, source, name, 1, {}, expert, seed, inputs, schemas, ("CC0-1.0",), parts)
    commit(store, lambda _: new, key)


def put_part(root: Path, table: str, split: str, data: pa.Table) -> Part:
    data = data.replace_schema_metadata(TABLES[table].schema.metadata)
    path, digest = write_parquet(root, root / "data" / table / split, "part-00000", TABLES[table], [data])
    where = path.relative_to(root).as_posix()
    return Part(where, table, split, digest, path.stat().st_size, data.num_rows, digest)


def put_questions(store: Store, images: Sequence[Image], questions: Sequence[Question], key: str = INGEST) -> None:
    tables = {("images", POOL): to_table("images", images)}
    for split in sorted({question.split for question in questions}):
        tables["questions", split] = to_table("questions", [one for one in questions if one.split == split])
    put_slice(store, key, tables, {})


def put_searches(store: Store, result: SearchResult, key: str = SEARCHED) -> None:
    tables = {("expert_calls", POOL): to_table("expert_calls", result.calls)}
    for split in sorted({one.split for one in result.trajectories}):
        rows = [one for one in result.trajectories if one.split == split]
        tables["trajectories", split] = to_table("trajectories", rows)
    put_slice(store, key, tables, {INGEST: store.head().slices[INGEST].digest})


def small_store(root: Path, n_questions: int = 18, **kind: Any) -> Store:
    """One image per question, two of three questions in train, every origin."""
    store = Store(root)
    images = [drawn_image(number) for number in range(n_questions)]
    questions = [asked(number, image) for number, image in enumerate(images)]
    put_questions(store, images, questions)
    put_searches(store, searched(questions, images, **kind))
    return store


def store_of_several(root: Path, n_questions: int = 18, **kind: Any) -> Store:
    """As `small_store`, with up to three images per question, some smaller; every sixth question has one twice."""
    store = Store(root)
    sizes = ((64, 48), (48, 32), (40, 56))
    images = [drawn_image(number, sizes[number % 3]) for number in range(n_questions + 2)]
    questions = []
    for number in range(n_questions):
        mine = images[number : number + (1, 3, 2, 2, 2, 3)[number % 6]]
        ids = [image.image_id for image in (mine if number % 6 != 4 else [*mine, mine[0]])]
        questions.append(asked(number, mine[0], image_ids=tuple(ids)))
    put_questions(store, images, questions)
    put_searches(store, searched(questions, images, **kind))
    return store


def rows_of(store: Store, table: str, split: str) -> list[dict[str, Any]]:
    return store.snapshot().read(table, split=split).to_pylist()


def tampered(store: Store, table: str, split: str, edit: Callable[[list[dict[str, Any]]], None]) -> None:
    """Commit a version in which `edit` has changed the rows of the one part of a table and split."""
    key, old = next((key, part) for key, part in store.head().parts(table) if part.split == split)
    rows = pq.ParquetFile(store.root / old.path).read().to_pylist()
    edit(rows)
    new = put_part(store.root, table, split, pa.Table.from_pylist(rows, schema=TABLES[table].schema))

    def build(before: Slice | None) -> Slice:
        assert before is not None
        return replace(before, parts=tuple(new if part == old else part for part in before.parts))

    commit(store, build, key)


def keys_of(store: Store, rule: str) -> set[str]:
    """What one check of the head names."""
    check = next(check for check in load_checks() if check.id == rule)
    con = connect(store)
    try:
        return {offence.key for offence in run_check(con, check).shown}
    finally:
        con.close()
