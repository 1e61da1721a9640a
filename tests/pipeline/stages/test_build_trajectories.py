"""Every question becomes trajectories or a reject, with the same bytes however it is run, and never twice."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.catalog import connect
from pipeline.core.cvs import SamplerConfig
from pipeline.core.hunt import SearchConfig
from pipeline.stages.audit_rows import ERROR, load_checks, run_check
from pipeline.stages.build_trajectories import BuildTrajectories, build_trajectories
from pipeline.stages.expert_options import EXPERT_DEFAULTS
from pipeline.stages.ingest import ingest
from pipeline.stages.phantom_source import PhantomSource
from pipeline.stages.sources import SOURCES
from pipeline.stages.trajectory_counts import counts
from pipeline.stages.trajectory_stage import REVISION, shards_of
from schemas.errors import DigestError, InputError
from schemas.manifest import Part, sha256_of
from schemas.reader import Store
from schemas.records import Image, Question, Region
from tests.pipeline.small_stores import asked, drawn_image, put_questions
from tests.processes import bytes_of, fovea, start

LINE = ("build-trajectories", "--source", "phantom", "--expert", "annotations")
SLICE = "trajectories/phantom/annotations"
INGEST = "ingest/phantom/default"
GOLDEN = {  # sha256 over the rows of six drawings and a question on three of them, per REVISION of stage and expert
    (3, "annotations@1"): "303504b0a5f10deca6c84de3c7abd04782f081d43d6aea1e79d3c641a256d143",
}


@pytest.fixture
def ingested(phantom_store: Store, tmp_path: Path) -> Path:
    """A copy of the store as it was before any trajectories."""
    root = tmp_path / "store"
    for part in phantom_store.load(1).parts():
        path = root / part[1].path
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(phantom_store.root / part[1].path, path)
    (root / "manifests").mkdir()
    shutil.copy(phantom_store.manifests / "v1.json", root / "manifests")
    return root


def stage(root: Path, version: int = 1, **changes: object) -> BuildTrajectories:
    base = BuildTrajectories(root, version, INGEST, "annotations", (), SearchConfig(), 0)
    return replace(base, **changes)


def test_two_workers_leave_the_bytes_of_one(phantom_store: Store, ingested: Path):
    made = fovea(*LINE, "--store", ingested, "--workers", 2)
    assert (made.returncode, made.stdout) == (0, "")
    assert bytes_of(ingested) == bytes_of(phantom_store.root)


def test_two_builders_at_once_make_one_version_and_both_succeed(phantom_store: Store, ingested: Path):
    builders = [start(*LINE, "--store", ingested, "--json") for _ in range(2)]
    told = [json.loads(builder.communicate()[0]) for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert [one["version"] for one in told] == ["v2", "v2"]
    assert bytes_of(ingested) == bytes_of(phantom_store.root)


def test_two_different_builders_at_once_both_get_their_slice(phantom_store: Store, ingested: Path):
    other = (*LINE, "--name", "other", "--variants", 1)
    builders = [start(*line, "--store", ingested) for line in (LINE, other)]
    for builder in builders:
        builder.communicate()
    store = Store(ingested)
    assert [builder.returncode for builder in builders] == [0, 0]
    assert store.versions() == [1, 2, 3]
    assert set(store.head().slices) == {INGEST, SLICE, "trajectories/phantom/other"}
    assert store.head().slices[SLICE] == phantom_store.head().slices[SLICE]


def test_an_unchanged_build_does_nothing_and_says_so(phantom_store: Store):
    before = bytes_of(phantom_store.root)
    again = fovea(*LINE, "--store", phantom_store.root)
    assert again.stderr.startswith(f"nothing to do: {SLICE} is unchanged (5 shards reused, v2)\n")
    assert bytes_of(phantom_store.root) == before


def test_another_version_of_the_input_with_the_same_rows_is_no_work(ingested: Path):
    store = Store(ingested)
    first = build_trajectories(store, stage(ingested))
    ingest(store, PhantomSource(n_train=1, side_px=112, seed=5), name="other")
    again = build_trajectories(store, stage(ingested, version=3))
    assert (first.n_reused, again.n_reused, again.is_new) == (0, 5, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"search": SearchConfig(sampler=SamplerConfig(variants=2))},
        {"search": SearchConfig(origins=("random",))},
        {"expert_settings": (("view_px", 112),)},
        {"expert_name": "saliency", "slice_name": "annotations"},
        {"revision": REVISION + 1},
    ],
)
def test_whatever_changes_the_rows_is_new_work(changes: dict[str, object], tmp_path: Path):
    store = Store(tmp_path)
    ingest(store, PhantomSource(n_train=2, side_px=112))
    build_trajectories(store, stage(tmp_path))
    built = build_trajectories(store, stage(tmp_path, **changes))
    assert (built.n_shards, built.n_reused, built.is_new, built.manifest.version) == (1, 0, True, 3)
    assert set(built.manifest.slices) == {INGEST, SLICE}


def test_growth_searches_only_what_is_new_and_keeps_every_part(tmp_path: Path):
    store = Store(tmp_path)
    ingest(store, PhantomSource(n_train=3, n_test=2, side_px=112))
    before = build_trajectories(store, stage(tmp_path))
    ingest(store, PhantomSource(n_train=5, n_test=3, side_px=112))
    after = build_trajectories(store, stage(tmp_path, version=3))
    assert (before.n_shards, after.n_shards, after.n_reused) == (2, 4, 2)
    assert set(before.slice.parts) < set(after.slice.parts)
    assert before.slice.inputs != after.slice.inputs
    assert after.slice.inputs == {INGEST: store.load(3).slices[INGEST].digest}


def test_every_question_became_trajectories_or_a_reject(phantom_store: Store):
    snapshot = phantom_store.snapshot()
    asked = {one.question_id for one in snapshot.records("questions")}
    rows = snapshot.records("trajectories")
    searched = {row.question_id for row in rows}
    assert len(asked) == 152
    assert searched | {one.row_key for one in snapshot.records("rejects")} == asked
    assert Counter(row.question_id for row in rows if row.origin == "grn") == dict.fromkeys(searched, 1)
    for split in ("train", "validation", "test"):
        assert {row.split for row in snapshot.records("trajectories", split=split)} == {split}
    assert all(row.privileged and row.expert.startswith("annotations@") for row in rows)


def test_the_counts_are_those_of_the_rows(phantom_store: Store):
    rows = phantom_store.snapshot().records("trajectories")
    told = counts(phantom_store, SLICE)
    assert told["stop_reasons"] == dict(sorted(Counter(row.stop_reason for row in rows).items()))
    drawn = Counter(row.question_id for row in rows if row.origin == "cvs")
    per_question = Counter(drawn[question_id] for question_id in {row.question_id for row in rows})
    assert told["cvs_variants_per_question"] == {str(n): per_question[n] for n in sorted(per_question)}
    assert told["expert_calls"]["grn_and_cvs"] == len(phantom_store.snapshot().records("expert_calls"))
    assert told["expert_calls"]["ratio"] >= 1


def test_a_slice_that_is_not_there_has_no_counts(phantom_store: Store):
    assert counts(phantom_store, "nothing")["expert_calls"] == {"grn": 0, "grn_and_cvs": 0, "ratio": None}


def part(split: str, number: int, rows: int) -> Part:
    digest = sha256_of([split, number])
    return Part(
        f"data/questions/{split}/part-{number:05d}-{digest[:12]}.parquet", "questions", split, digest, 1, rows, ""
    )


def test_a_shard_is_at_most_64_questions_of_one_part():
    shards = list(shards_of([part("train", 1, 10), part("train", 0, 150), part("test", 0, 64)]))
    assert [(one.payload.part.split, one.payload.first, one.payload.last) for one in shards] == [
        ("test", 0, 64), ("train", 0, 64), ("train", 64, 128), ("train", 128, 150), ("train", 0, 10)
    ]  # fmt: skip
    assert [one.n_rows for one in shards] == [64, 64, 64, 22, 10]
    assert len({one.key for one in shards}) == 5


def test_a_new_part_adds_shards_and_changes_none():
    old = [part("train", 0, 100), part("test", 0, 10)]
    assert {*shards_of(old)} < {*shards_of([*old, part("train", 1, 5), part("test", 1, 5)])}


def test_a_truncated_work_file_is_searched_again(ingested: Path):
    store = Store(ingested)
    first = build_trajectories(store, stage(ingested))
    before = bytes_of(ingested)
    spoilt = max((ingested / "work" / "trajectories").glob("*.parquet"))
    spoilt.write_bytes(spoilt.read_bytes()[:-10])
    again = build_trajectories(store, stage(ingested))
    assert (again.n_reused, again.is_new, again.slice) == (first.n_shards - 1, False, first.slice)
    assert bytes_of(ingested) == before


def test_a_damaged_input_is_refused_by_name(ingested: Path):
    images = next(iter(sorted((ingested / "data" / "images" / "pool").iterdir())))
    images.write_bytes(images.read_bytes()[:-1] + b"x")
    told = fovea(*LINE, "--store", ingested)
    assert told.returncode == 1
    assert str(images) in told.stderr
    assert "Traceback" not in told.stderr
    assert Store(ingested).versions() == [1]
    with pytest.raises(DigestError):
        build_trajectories(Store(ingested), stage(ingested))


def test_a_slice_without_questions_is_an_error(tmp_path: Path):
    store = Store(tmp_path)
    ingest(store, PhantomSource(n_train=1, side_px=112))
    with pytest.raises(InputError, match=f"no rows to make {SLICE} from"):
        build_trajectories(store, replace(stage(tmp_path), upstream="ingest/phantom/default", version=empty(store)))


def empty(store: Store) -> int:
    """Commit the ingest slice without its questions; the version."""
    head = store.head()
    bare = replace(head.slices[INGEST], parts=tuple(p for p in head.slices[INGEST].parts if p.table == "images"))
    following = head.with_slice(bare)
    (store.manifests / f"v{following.version}.json").write_bytes(following.to_bytes())
    return following.version


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--expert-set", "view_px"), "'view_px' is not name=value"),
        (("--from-calls", "annotations"), "who answers?"),
        (("--expert-set", "zoom=2"), "unknown settings"),
        (("--origins", "luck"), "unknown origins"),
        (("--mass", "2"), "mass must be in (0, 1]"),
        (("--ingest-name", "none"), "no slice matches 'ingest/phantom/none'"),
        (("--seed", str(2**31)), "Invalid value for '--seed'"),
    ],
)
def test_wrong_usage_is_named_and_exits_2(options: tuple[str, ...], what: str, phantom_store: Store):
    told = fovea(*LINE, *options, "--store", phantom_store.root)
    assert (told.returncode, told.stdout) == (2, "")
    assert what in told.stderr
    assert "Traceback" not in told.stderr


def on_three(images: Sequence[Image]) -> Question:
    """On the first three drawings, with spots on the last two."""
    spot = Region((10.0, 1.0, 20.0, 7.0), "spot", "drawn")
    regions = (replace(spot, image=1), replace(spot, box_xyxy_px=(10.0, 2.0, 20.0, 8.0), image=2))
    return asked(6, images[0], image_ids=tuple(image.image_id for image in images[:3]), regions=regions)


@pytest.mark.parametrize("expert", ["annotations", "saliency"])
def test_all_images_of_a_question_are_searched(expert: str, tmp_path: Path):
    store, images = Store(tmp_path), [drawn_image(number, (64, 48 + number)) for number in range(3)]
    put_questions(store, images, [on_three(images)])
    build_trajectories(store, stage(tmp_path, upstream="ingest/drawn/default", expert_name=expert))
    snapshot = store.snapshot()
    rows, calls = snapshot.records("trajectories"), snapshot.records("expert_calls")
    assert {row.image_ids for row in rows} == {tuple(image.image_id for image in images)}
    assert Counter(call.image_id for call in calls if call.mode == "scan") == {image.image_id: 1 for image in images}
    assert all([step.image for step in row.steps[:3]] == [0, 1, 2] for row in rows)
    if expert == "annotations":
        assert {region.image for row in rows for region in row.regions} == {1, 2}
    con = connect(store)
    assert [check.id for check in load_checks() if check.severity == ERROR and run_check(con, check).n] == []


def test_left_is_the_patients_left_wherever_radiographs_are_annotated():
    """MS-CXR asks for the patient's side: an expert that named the other one would contradict the gold answer."""
    without_boxes = {"path-vqa", "pmc-vqa", "omnimedvqa", "mmmu", "medxpertqa"}
    told = {source: EXPERT_DEFAULTS.get(("annotations", source), {}).get("sides_of", "image") for source in SOURCES}
    assert {source for source, side in told.items() if side == "image"} == {"phantom", *without_boxes}


def test_other_rows_need_another_revision(tmp_path: Path):
    """When this fails on purpose: raise REVISION of the stage or of the expert, and pin the new digest."""
    store, images = Store(tmp_path), [drawn_image(number) for number in range(6)]
    put_questions(store, images, [*(asked(number, image) for number, image in enumerate(images)), on_three(images)])
    config = SearchConfig(origins=("drill_only", "random", "scan_only"))
    built = build_trajectories(store, stage(tmp_path, upstream="ingest/drawn/default", search=config))
    rows = [store.snapshot().read(table).to_pylist() for table in ("trajectories", "expert_calls", "rejects")]
    assert sha256_of(rows) == GOLDEN[REVISION, built.slice.expert.split("+")[0]]
