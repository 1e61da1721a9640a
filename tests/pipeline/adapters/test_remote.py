"""At a URL exactly one is first, and nothing is written where nobody could say who that was."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.adapters import remote
from pipeline.adapters.ages import ages_of
from pipeline.adapters.files import put_if_absent, remove, replace, write_parquet
from pipeline.adapters.pack import pack
from pipeline.adapters.work import Shard, run_shard
from schemas.errors import DigestError, StoreError, UsageError
from schemas.reader import Store
from schemas.rows import to_table
from schemas.storage import Folder
from schemas.tables import TABLES
from tests.pipeline.s3_server import S3Server, make_bucket, objects, on_machine, put_object, serving
from tests.pipeline.small_stores import asked, drawn_image
from tests.small_stages import Numbers

SECRET = "a-secret-of-somebody"
SHARD = Shard("s0", 3, (0, 1, 2))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serving() as one, on_machine(one, tmp_path_factory.mktemp("unused")):
        make_bucket("remote")
        yield one


@pytest.fixture
def folder(server: S3Server, tmp_path: Path) -> Iterator[Folder]:
    """An empty place of its own for each test, on a server that behaves."""
    server.fails, server.ignores_conditions = S3Server().fails, False
    with on_machine(server, tmp_path / "cache"):
        yield Folder.of(f"s3://remote/{tmp_path.name}")
    server.fails, server.ignores_conditions = S3Server().fails, False


def put(folder: Folder, data: bytes, name: str = "manifests/v1.json") -> bool:
    return put_if_absent(folder, folder.root / name, data)


def test_the_first_put_wins_and_the_second_changes_nothing(folder: Folder):
    assert put(folder, b"first")
    assert not put(folder, b"second")
    assert objects(folder.name) == {"manifests/v1.json": b"first"}
    assert folder.read("manifests/v1.json") == b"first"


def test_of_many_puts_at_once_exactly_one_wins(folder: Folder):
    with ThreadPoolExecutor(16) as pool:
        for round_ in range(3):
            name = f"work/record-{round_}"
            won = list(pool.map(lambda n, name=name: put(folder, str(n).encode(), name), range(32)))
            assert won.count(True) == 1
            assert folder.read(name) == str(won.index(True)).encode()


def test_a_server_that_names_no_condition_is_understood_too(folder: Folder, server: S3Server):
    assert put(folder, b"first")
    server.fails = lambda method, path: 412 if method == "PUT" else None
    assert not put(folder, b"second")


def test_while_another_put_is_under_way_nobody_has_lost(
    folder: Folder, server: S3Server, monkeypatch: pytest.MonkeyPatch
):
    put(folder, b"x")
    monkeypatch.setattr(remote, "WAITS_S", (0.0, 0.0, 0.0))
    answers = [409, 409]
    server.fails = lambda method, path: answers.pop() if method == "PUT" and answers else None
    assert put(folder, b"mine", "work/record")
    assert folder.read("work/record") == b"mine"
    answers = [409] * 3
    with pytest.raises(StoreError, match="all the time"):
        put(folder, b"mine", "work/other")


def test_a_server_that_ignores_the_condition_gets_nothing_of_us(folder: Folder, server: S3Server):
    server.ignores_conditions = True
    stage = Asked()
    for write in (
        lambda: put(folder, b"x"),
        lambda: replace(folder, folder.root / "catalog" / "init.sql", b"x"),
        lambda: write_questions(folder),
        lambda: run_shard(folder, stage, None, SHARD),
    ):
        with pytest.raises(StoreError, match="ignores If-None-Match") as caught:
            write()
        assert caught.value.where == folder.name
    assert objects(folder.name) == {}
    assert stage.asked == []


class Asked(Numbers):
    """Remembers for which shards there was work to do."""

    asked: list[str] = []  # noqa: RUF012

    def process(self, state: None, shard: Shard) -> dict:
        self.asked.append(shard.key)
        return Numbers.process(self, state, shard)


def test_where_nobody_can_say_who_was_first_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FOVEA_CACHE", str(tmp_path / "cache"))
    folder = Folder.of("memory://somewhere/store")
    with pytest.raises(UsageError, match="memory:// can be read but not written") as caught:
        run_shard(folder, Asked(), None, SHARD)
    assert "s3:// or gs://" in caught.value.fix
    assert (Asked.asked, folder.names("work")) == ([], [])


def write_questions(folder: Folder) -> tuple[Path, str]:
    images = [drawn_image(number) for number in range(3)]
    rows = to_table("questions", [asked(number, image) for number, image in enumerate(images)])
    return write_parquet(folder, folder.root / "data" / "questions", "part-00000", TABLES["questions"], [rows])


def test_a_part_is_put_before_the_mirror_names_it(folder: Folder, server: S3Server):
    put(folder, b"x")
    server.fails = lambda method, path: 403 if method == "PUT" and "/data/" in path else None
    with pytest.raises(StoreError, match="access denied"):
        write_questions(folder)
    assert not (folder.root / "data").exists()
    server.fails = S3Server().fails
    path, digest = write_questions(folder)
    assert objects(folder.name)[f"data/questions/part-00000-{digest[:12]}.parquet"] == path.read_bytes()
    assert list((folder.root / "work" / "tmp").iterdir()) == []


def test_a_derived_file_is_replaced_and_a_file_removed_here_and_there(folder: Folder):
    path = folder.root / "catalog" / "init.sql"
    for text in (b"old", b"new"):
        replace(folder, path, text)
        assert objects(folder.name) == {"catalog/init.sql": text}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"old")
    for _ in range(2):
        remove(folder, path)
    assert (objects(folder.name), path.exists()) == ({}, False)


def test_a_shard_is_done_once_on_all_machines_together(folder: Folder, server: S3Server, tmp_path: Path):
    first = run_shard(folder, Numbers(), None, SHARD)
    with on_machine(server, tmp_path / "another machine"):
        assert not folder.root.exists()
        second = run_shard(folder, Numbers(), None, SHARD)
        assert (first.is_reused, second.is_reused, second.files) == (False, True, first.files)
        (part,) = pack(folder, [second], None)
        assert (folder.root / first.files[0].path).is_file()
    assert pack(folder, [first], None) == (part,)


@pytest.mark.parametrize("spoil", ["short", "gone"])
def test_a_record_whose_file_is_short_or_gone_is_done_again(spoil: str, folder: Folder):
    first = run_shard(folder, Numbers(), None, SHARD)
    (file,) = first.files
    path = folder.root / file.path
    remove(folder, path)
    if spoil == "short":
        put_object(f"{folder.name}/{file.path}", b"PAR1")
    again = run_shard(folder, Numbers(), None, SHARD)
    assert again == first
    assert run_shard(folder, Numbers(), None, SHARD).is_reused


def test_a_damaged_work_shard_is_never_published(folder: Folder, server: S3Server, tmp_path: Path):
    first = run_shard(folder, Numbers(), None, SHARD)
    (file,) = first.files
    put_object(f"{folder.name}/{file.path}", b"x" * file.bytes)
    assert pack(folder, [first], None)  # the mirror has it whole, and its sha256 says so
    with on_machine(server, tmp_path / "another machine"):
        with pytest.raises(DigestError, match="work shard is damaged or gone") as caught:
            pack(folder, [first], None)
        assert caught.value.where == f"{folder.name}/{file.path}"


def test_whoever_comes_second_adopts_what_the_first_has_done(folder: Folder):
    class Late(Numbers):
        def process(self, state: None, shard: Shard) -> dict:
            winner.append(run_shard(folder, Numbers(), None, SHARD))
            return Numbers.process(self, state, Shard(shard.key, 1, (7,)))

    winner: list = []
    late = run_shard(folder, Late(), None, SHARD)
    assert (late.files, late.is_reused) == (winner[0].files, False)
    record = json.loads(folder.read(f"work/numbers/{late.fingerprint}.json"))
    assert [file["path"] for file in record["files"]] == [late.files[0].path]


@pytest.mark.parametrize(
    ("fails", "environ", "what", "fix"),
    [
        (403, {}, "access denied: it was told so", "rights"),
        (None, {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no credentials", "AWS_PROFILE"),
        (None, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "does not answer as it should", "network and endpoint"),
    ],
)
def test_a_storage_that_cannot_be_used_says_so(
    fails: int | None, environ: dict, what: str, fix: str, folder: Folder, server: S3Server, tmp_path: Path
):
    server.fails = lambda method, path: fails
    with on_machine(server, tmp_path / "cache", **environ):
        for ask in (Store(folder).versions, lambda: folder.read("x"), lambda: put(folder, b"x")):
            with pytest.raises(StoreError, match=what) as caught:
                ask()
            assert fix in caught.value.fix
            assert SECRET not in str(caught.value)


def test_a_bucket_that_is_not_there_is_no_empty_store(folder: Folder):
    nowhere = Folder.of("s3://no-such-bucket/store")
    for ask in (Store(nowhere).snapshot, lambda: nowhere.read("x"), lambda: put(nowhere, b"x")):
        with pytest.raises(StoreError, match="there is no such bucket"):
            ask()


def test_a_read_only_store_is_read_and_not_written(folder: Folder, server: S3Server):
    put(folder, b"x", "work/record")
    remote.refuse_unsafe.cache_clear()
    server.fails = lambda method, path: 403 if method in ("PUT", "POST", "DELETE") else None
    assert folder.read("work/record") == b"x"
    Asked.asked.clear()
    with pytest.raises(StoreError, match="access denied"):
        run_shard(folder, Asked(), None, SHARD)
    assert Asked.asked == []


def test_who_may_not_delete_may_build(folder: Folder, server: S3Server):
    server.fails = lambda method, path: 403 if method == "DELETE" else None
    assert put(folder, b"x")
    assert [name for name in objects(folder.name) if name.startswith("work/tmp/probe-")]


def test_a_storage_that_is_busy_is_asked_again(folder: Folder, server: S3Server):
    put(folder, b"x", "work/record")
    failures = [503, 503]
    lock = threading.Lock()

    def busy(method: str, path: str) -> int | None:
        with lock:
            return failures.pop() if failures else None

    server.fails = busy
    assert folder.read("work/record") == b"x"
    assert failures == []


def test_ages_go_by_the_clock_of_the_storage(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    import time

    put(folder, b"x", "data/part")
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 7 * 86400)  # this machine is a week ahead
    (wrong,) = ages_of(folder, is_exact=False).below("data")
    (right,) = ages_of(folder, is_exact=True).below("data")
    assert wrong.age_s > 6 * 86400
    assert (abs(right.age_s) < 60, right.path, right.bytes) == (True, "data/part", 1)
    assert ages_of(folder, is_exact=True).age_s("data/none") < 0
    assert set(objects(folder.name)) == {"data/part"}
