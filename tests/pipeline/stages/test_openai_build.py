"""`build-trajectories --expert openai` as people run it, against a server that misbehaves."""

import json
from pathlib import Path

import pytest

from schemas.reader import Store
from tests.pipeline.small_stores import asked, drawn_image, put_questions
from tests.pipeline.vision_server import serving
from tests.processes import bytes_of, fovea

KEY = "sk-secret-of-the-test"
QUICK = ("tries=2", "wait_s=0.01", "read_s=0.5", "concurrency=4")
ODD = {  # question -> (how the server treats it, why it is rejected)
    "spot 1 ": ("500", "http_status"),
    "spot 2 ": ("hang", "timeout"),
    "spot 3 ": ("cut", "cut_connection"),
    "spot 4 ": ("malformed", "malformed_json"),
    "spot 5 ": ("out_of_frame", "no_usable_box"),
    "spot 6 ": ("nan", "no_usable_box"),
    "spot 7 ": ("huge", "oversized"),
    "spot 8 ": ("prose", "malformed_json"),
}
HEALED = {"spot 9 ": "429 once", "spot 10 ": "500 once", "spot 11 ": "cut once"}


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("FOVEA_EXPERT_API_KEY", KEY)


def drawn(root: Path, n_questions: int = 14) -> Path:
    """A store with a question on each of so many drawings."""
    images = [drawn_image(number) for number in range(n_questions)]
    put_questions(Store(root), images, [asked(number, image) for number, image in enumerate(images)])
    return root


def build(root: Path, url: str, *settings: str, model: str = "seer"):
    told = [f"url={url}", f"model={model}", "coordinates=absolute", *QUICK, *settings]
    options = ["--max-reject-rate", 1, *(each for setting in told for each in ("--expert-set", setting))]
    return fovea("build-trajectories", "--store", root, "--source", "drawn", "--expert", "openai", "--json", *options)


def contents(root: Path) -> bytes:
    """All bytes of a store, its work shards and records too."""
    return b"".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


def test_the_rest_is_built_and_each_bad_answer_rejects_its_question_with_its_reason(tmp_path):
    root = drawn(tmp_path / "store")
    odd = {text: how for text, (how, _) in ODD.items()}
    with serving(odd=odd | HEALED) as model:
        made = build(root, model.url)
        assert (made.returncode, made.stderr.count("Traceback")) == (0, 0), made.stderr
        sent = model.requests[0][0]["Authorization"]
        n_asked = len(model.requests)
        again = build(root, model.url)
        assert again.returncode == 0
        assert len(model.requests) == n_asked  # nothing is asked twice
    snapshot = Store(root).snapshot()
    rejects = snapshot.read("rejects", slices=["trajectories/drawn/openai"]).to_pylist()
    assert {row["row_key"]: row["error_class"] for row in rejects} == {
        f"drawn-{int(text.split()[1]):04d}": error_class for text, (_, error_class) in ODD.items()
    }
    questions = set(snapshot.read("trajectories", columns=["question_id"])["question_id"].to_pylist())
    assert questions == {f"drawn-{number:04d}" for number in (0, 9, 10, 11, 12, 13)}
    assert sent == f"Bearer {KEY}"
    assert KEY.encode() not in contents(root)
    assert KEY not in made.stdout + made.stderr
    assert b"127.0.0.1" not in contents(root)  # an address is no part of a store
    records = [json.loads(path.read_bytes()) for path in root.glob("work/trajectories/*.json")]
    assert sum(record["usage"]["n_tries"] for record in records) == n_asked


def test_one_server_gives_the_bytes_of_another(tmp_path):
    stores = [drawn(tmp_path / name, 5) for name in ("one", "two")]
    for root, n_threads in zip(stores, (1, 8), strict=True):
        with serving() as model:
            assert build(root, model.url, f"concurrency={n_threads}").returncode == 0
    assert bytes_of(stores[0]) == bytes_of(stores[1])
    calls = Store(stores[0]).snapshot().read("expert_calls").to_pylist()
    assert {json.loads(row["raw"])["rule"] for row in calls} == {"stated", "logprobs"}


def test_a_server_that_dies_rejects_nothing_and_the_same_command_finishes_later(tmp_path):
    root = drawn(tmp_path / "store", 6)
    with serving(dies_after=2) as served:  # after the check, and before the first of two shards
        made = build(root, served.url)
    assert (made.returncode, Store(root).head().version) == (1, 1)
    assert "answers no more, not even about a drawing (http_status: status 500 boom)" in made.stderr
    assert "Traceback" not in made.stderr
    with serving() as served:
        assert build(root, served.url).returncode == 0
    assert Store(root).snapshot().read("rejects", slices=["trajectories/drawn/openai"]).num_rows == 0


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ({"odd": {"drawing": "status 401"}}, "refuses the key"),
        ({"name": "other"}, "seer was asked, other has answered"),
        ({"family": "thousand"}, "coordinates=thousand"),
    ],
)
def test_what_would_reject_every_question_stops_the_build_before_the_first(tmp_path, server, told):
    root = drawn(tmp_path / "store", 2)
    with serving(**server) as served:
        made = build(root, served.url)
        assert len(served.requests) == 1
    assert (made.returncode, Store(root).head().version) == (1, 1)
    assert told in made.stderr
    assert "Traceback" not in made.stderr
    assert KEY not in made.stderr
