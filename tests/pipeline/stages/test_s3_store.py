"""A store on S3 is a store: the same bytes under the same names, whoever builds it where, and whatever is killed."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.adapters import remote
from pipeline.adapters.catalog import catalog_sql
from pipeline.core.hunt import SearchConfig
from pipeline.stages import sql
from pipeline.stages.audit import audit
from pipeline.stages.build_trajectories import build_trajectories
from pipeline.stages.expert_options import expert_settings
from pipeline.stages.gc import sweep
from pipeline.stages.ingest import ingest
from pipeline.stages.phantom_source import PhantomSource
from pipeline.stages.replays import manifest_of
from pipeline.stages.trajectory_stage import BuildTrajectories
from schemas.errors import DigestError, StoreError
from schemas.reader import Store
from tests.pipeline.s3_server import S3Server, make_bucket, objects, on_machine, put_object, serving
from tests.processes import fovea, start

SMALL = ("phantom", "--train", 40, "--validation", 0, "--test", 6, "--side-px", 112)  # a few work shards
AS_SMALL = {"n_train": 40, "n_validation": 0, "n_test": 6, "side_px": 112}
TINY = {"n_train": 4, "n_validation": 0, "n_test": 2, "side_px": 112}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serving() as one, on_machine(one, tmp_path_factory.mktemp("unused")):
        make_bucket("stores")
        yield one


@pytest.fixture
def url(server: S3Server, tmp_path: Path) -> Iterator[str]:
    """A place of its own, on a machine of its own."""
    with on_machine(server, tmp_path / "cache"):
        yield f"s3://stores/{tmp_path.name}"
    server.fails = S3Server().fails


def published(where: str | Path) -> dict[str, bytes]:
    """All bytes of a store but those of work, which tell of times."""
    if isinstance(where, str):
        found = objects(where)
    else:
        files = [path for path in where.rglob("*") if path.is_file()]
        found = {path.relative_to(where).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in found.items() if name.startswith(("data/", "manifests/"))}


def build(store: Store, seed: int = 0, **sizes: int) -> None:
    ingest(store, PhantomSource(seed=seed, **(TINY | sizes)))
    settings = expert_settings([], "annotations", "phantom")
    how = (store.folder, 1, "ingest/phantom/default", "annotations", settings, SearchConfig(), 0)
    build_trajectories(store, BuildTrajectories(*how))


def test_every_command_gives_the_bytes_of_a_local_store(url: str, tmp_path: Path):
    fovea("ingest", *SMALL, "--store", url, "--workers", 2, check=True)
    words = ("--source", "phantom", "--expert", "annotations")
    told = json.loads(fovea("build-trajectories", *words, "--store", url, "--json", check=True).stdout)
    local = Store(tmp_path / "local")
    build(local, **AS_SMALL)
    assert told["digest"] == local.head().digest
    assert published(url) == published(local.root)
    report = json.loads(fovea("audit", "--store", url, "--json", check=True).stdout)
    assert (report["store"], report["problems"], report["questions"]) == (url, [], 46)
    query = "SELECT mode, count(*) FROM steps GROUP BY mode ORDER BY mode"
    asked = fovea("sql", query, "--store", url, "--json", check=True)
    assert json.loads(asked.stdout)["rows"] == [list(row) for row in sql.ask(local, query).rows]
    assert sweep(Store(url), grace_s=0).found == ()
    assert all("a-secret-of-somebody" not in data.decode(errors="replace") for data in objects(url).values())


def test_the_catalog_at_a_url_names_what_is_at_the_url(url: str):
    store = Store(url)
    ingest(store, PhantomSource(**TINY))
    text = objects(url)["catalog/init.sql"].decode()
    assert text == catalog_sql(store.head(), url)
    assert "LOAD httpfs" in text
    assert all(f"'{url}/{part.path}'" in text for _, part in store.head().parts())


def test_two_builders_at_once_make_one_chain_and_lose_nothing(url: str, server: S3Server, tmp_path: Path):
    """Neither may commit before both have packed, so that one of them has to rebase."""
    both = threading.Barrier(2, timeout=60)

    def wait_for_both(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/manifests/v1.json"):
            both.wait()

    server.fails = wait_for_both
    words = ("ingest", "phantom", "--train", 3, "--validation", 0, "--test", 1, "--side-px", 112, "--store", url)
    builders = [start(*words, "--seed", seed, "--name", f"seed-{seed}") for seed in (0, 1)]
    assert [builder.communicate(timeout=60)[1] is not None for builder in builders] == [True, True]
    assert [builder.returncode for builder in builders] == [0, 0]
    store = Store(url)
    assert (store.versions(), set(store.head().slices)) == ([1, 2], {"ingest/phantom/seed-0", "ingest/phantom/seed-1"})
    assert store.load(2).parent == store.load(1).digest
    with on_machine(server, tmp_path / "another machine"):
        assert audit(store).problems == ()


@pytest.mark.parametrize("at", ["/work/ingest/", "/manifests/v1.json"])
def test_a_killed_build_is_finished_on_another_machine(at: str, url: str, server: S3Server, tmp_path: Path):
    """Killed while its second completion record is being put, or its manifest."""
    is_there, goes_on, n_left = threading.Event(), threading.Event(), [1 if at.endswith("/") else 0]

    def hold(method: str, path: str) -> int | None:
        if method != "PUT" or at not in path or path.endswith(".parquet") or goes_on.is_set():
            return None
        if n_left[0]:
            n_left[0] -= 1
            return None
        is_there.set()
        goes_on.wait(60)
        return 503  # nobody waits for the answer

    server.fails = hold
    builder = start("ingest", *SMALL, "--store", url)
    assert is_there.wait(60)
    builder.kill()
    builder.communicate()
    goes_on.set()
    assert Store(url).versions() == []
    with on_machine(server, tmp_path / "another machine"):
        done = json.loads(fovea("ingest", *SMALL, "--store", url, "--json", check=True).stdout)
    assert done["shards_reused"] == (1 if at.endswith("/") else done["shards"])
    ingest(Store(tmp_path / "local"), PhantomSource(**AS_SMALL))
    assert published(url) == published(tmp_path / "local")


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "all gone"])
def test_a_damaged_mirror_is_mended_from_the_store(damage: str, url: str):
    store = Store(url)
    ingest(store, PhantomSource(**TINY))
    for _, part in store.head().parts():
        path = store.root / part.path
        data = path.read_bytes()
        changed = {"cut": data[:-1], "flipped": data[:40] + bytes([data[40] ^ 1]) + data[41:]}
        path.unlink() if damage == "gone" else path.write_bytes(changed.get(damage, b""))
    if damage == "all gone":
        shutil.rmtree(store.root)
    assert store.snapshot().read("questions").num_rows == 6
    assert len({image.image_id for image in store.snapshot().records("images")}) == 6
    assert sql.ask(store, "SELECT count(*) FROM images").rows == [(6,)]


def test_damage_at_the_url_is_found_whatever_the_mirror_has(url: str, server: S3Server, tmp_path: Path):
    store = Store(url)
    ingest(store, PhantomSource(**TINY))
    parts = [part for _, part in store.head().parts()]
    whole = objects(url)
    put_object(f"{url}/{parts[0].path}", whole[parts[0].path][:-1] + b"?")
    put_object(f"{url}/{parts[1].path}", whole[parts[1].path][:-1])
    remote.remove(store.folder, parts[2].path)
    assert store.snapshot().read("questions").num_rows == 6  # the mirror's copies are whole
    (problem,) = audit(store).problems
    assert problem.id == "part_files"
    assert dict(zip(problem.keys, problem.details, strict=True)).keys() == {part.path for part in parts[:3]}
    assert [("sha256" in text, "bytes, the manifest" in text, "missing" in text) for text in problem.details] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]
    with on_machine(server, tmp_path / "another machine"), pytest.raises(DigestError) as caught:
        store.snapshot().verified(parts[0])
    assert caught.value.where == f"{url}/{parts[0].path}"


def test_a_rebuild_puts_back_what_is_gone_at_the_url(url: str):
    store = Store(url)
    ingest(store, PhantomSource(**TINY))
    before = published(url)
    for _, part in store.head().parts("questions"):
        remote.remove(store.folder, part.path)
    assert published(url) != before
    assert not ingest(store, PhantomSource(**TINY)).is_new
    assert published(url) == before


def test_leftovers_go_there_and_here_and_nothing_else_does(url: str, server: S3Server, tmp_path: Path):
    store = Store(url)
    build(store)
    put_object(f"{url}/data/images/pool/part-00009-000000000000.parquet", b"unnamed")
    put_object(f"{url}/work/tmp/probe-0", b"x")
    before = objects(url)
    with on_machine(server, tmp_path / "another machine"):
        assert {one.path for one in sweep(store, grace_s=0).found} == {
            "data/images/pool/part-00009-000000000000.parquet",
            "work/tmp/probe-0",
        }
    assert objects(url) == before
    assert sweep(store, grace_s=3600, delete=True).found == ()
    stale = store.root / "data" / "gone.parquet"
    stale.write_bytes(b"of a version that was removed")
    assert len(sweep(store, grace_s=0, delete=True).found) == 2
    after = objects(url)
    assert (published(url).keys(), stale.exists()) == (
        {part.path for _, part in store.head().parts()} | {"manifests/v1.json", "manifests/v2.json"},
        False,
    )
    assert {name for name in before if name.startswith("work/i")} == {
        name for name in after if name.startswith("work/i")
    }
    swept = sweep(store, grace_s=0, delete=True, with_work=True)
    assert {one.kind for one in swept.found} == {"work"}
    assert not [name for name in objects(url) if name.startswith("work/")]
    assert audit(store).problems == ()


def test_a_store_made_anew_under_its_old_name_is_not_taken_for_the_old_one(url: str, server: S3Server, tmp_path: Path):
    store = Store(url)
    build(store)
    for name in objects(url):
        remote.remove(store.folder, name)
    with pytest.raises(StoreError, match="no store here"):
        store.snapshot()
    manifest_of.cache_clear()  # as in another process
    with on_machine(server, tmp_path / "another machine"):
        build(store, seed=5)
    local = Store(tmp_path / "local")
    build(local, seed=5)
    assert store.head() == local.head()
    assert store.snapshot().records("trajectories") == local.snapshot().records("trajectories")


def test_what_no_query_asks_for_stays_where_it_is(url: str, server: S3Server, tmp_path: Path):
    store = Store(url)
    build(store)

    def fetched() -> set[str]:
        return {path.parts[-3] for path in store.root.rglob("data/**/*.parquet")}

    with on_machine(server, tmp_path / "another machine"):
        assert sql.ask(store, "SELECT count(*) FROM steps").rows > [(0,)]
        assert fetched() == {"trajectories"}
        assert sql.ask(store, "SELECT count(*) FROM images JOIN questions USING (source)").rows > [(0,)]
        assert fetched() == {"trajectories", "images", "questions"}


def test_an_unreachable_part_is_an_error_for_people(url: str, server: S3Server, tmp_path: Path):
    store = Store(url)
    ingest(store, PhantomSource(**TINY))
    server.fails = lambda method, path: 403 if "/data/" in path else None
    with on_machine(server, tmp_path / "another machine"):
        made = fovea("sql", "FROM images", "--store", url)
    assert (made.returncode, made.stdout) == (1, "")
    assert made.stderr.startswith("error access denied: ")
    assert f"where: {url}/data/images" in made.stderr
