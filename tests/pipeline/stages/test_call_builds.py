"""Builds as people run them against a paid endpoint: killed, repeated, two at once, under another rule, from calls."""

import json
import sys
import time
from pathlib import Path

import pytest

from pipeline.adapters.call_cache import CallCache, folder_of
from schemas.reader import Store
from tests.pipeline.small_stores import asked, drawn_image, put_questions
from tests.pipeline.vision_server import VisionServer, serving
from tests.processes import ROOT, bytes_of, fovea, run, start

SLICE = "trajectories/drawn/openai"
N_QUESTIONS = 24
MODEL = ("model=seer", "coordinates=absolute", "tries=2", "wait_s=0.01", "concurrency=2")
FAILS = {"spot 3 ": "500", "spot 8 ": "prose"}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def drawn(root: Path) -> Path:
    images = [drawn_image(number) for number in range(N_QUESTIONS)]
    put_questions(Store(root), images, [asked(number, image) for number, image in enumerate(images)])
    return root


def line(root: Path, url: str, *options: object) -> tuple[object, ...]:
    settings = [each for setting in (f"url={url}", *MODEL) for each in ("--expert-set", setting)]
    place = ("--store", root, "--source", "drawn", "--expert", "openai")
    return "build-trajectories", *place, *settings, "--json", "--max-reject-rate", 1, *options


def told(root: Path, url: str, *options: object) -> dict:
    made = fovea(*line(root, url, *options))
    assert (made.returncode, "Traceback" in made.stderr) == (0, False), made.stderr
    return json.loads(made.stdout)


def n_asked(model: VisionServer) -> int:
    """Requests that are not about the drawing that is asked first."""
    prompts = [body["messages"][0]["content"][1]["text"] for _, body in model.requests]
    return sum("rectangle" not in prompt for prompt in prompts)


def expert_id(root: Path) -> str:
    return Store(root).head().slices[SLICE].expert or ""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store built undisturbed."""
    root = drawn(tmp_path_factory.mktemp("whole") / "store")
    with pytest.MonkeyPatch.context() as patched, serving() as model:
        patched.setenv("NO_PROXY", "127.0.0.1")
        made = told(root, model.url)
        assert made["calls_asked"] == n_asked(model) == made["rows"]["expert_calls"]["pool"]
    return root


def test_a_killed_build_asks_only_for_the_rest_and_for_what_is_damaged(tmp_path: Path, whole: Path):
    root = drawn(tmp_path / "store")
    n_whole = Store(whole).head().slices[SLICE].rows("expert_calls")
    with serving(latency_s=0.02) as model:
        builder = start(*line(root, model.url))
        deadline = time.monotonic() + 60
        while n_asked(model) < 0.6 * n_whole and time.monotonic() < deadline:
            time.sleep(0.005)
        builder.kill()
        builder.communicate()
    assert Store(root).head().version == 1
    spoiled = min(folder_of(root, expert_id(whole)).iterdir())
    spoiled.write_bytes(spoiled.read_bytes()[:-1])
    said: list[str] = []
    n_kept = len(CallCache(Store(root).snapshot(), expert_id(whole), said.append))
    assert n_whole / 4 < n_kept < n_whole
    with serving() as model:
        made = fovea(*line(root, model.url))
        assert made.returncode == 0
        assert json.loads(made.stdout)["calls_asked"] == n_asked(model) == n_whole - n_kept
    assert made.stderr == "".join(f"{each}\n" for each in said)
    assert str(spoiled) in made.stderr
    assert bytes_of(root) == bytes_of(whole)


def test_two_builders_at_once_leave_one_version_and_whole_segments(tmp_path: Path, whole: Path):
    root = drawn(tmp_path / "store")
    with serving(latency_s=0.01) as model:
        builders = [start(*line(root, model.url)) for _ in range(2)]
        errors = [builder.communicate()[1] for builder in builders]
    assert ([builder.returncode for builder in builders], errors) == ([0, 0], ["", ""])
    assert bytes_of(root) == bytes_of(whole)
    cache = CallCache(Store(root).snapshot(1), expert_id(whole), pytest.fail)
    calls = Store(whole).snapshot().records("expert_calls")
    assert cache.known([call.call_id for call in calls]) == {call.call_id: call for call in calls}


def test_another_rule_asks_what_is_new_and_another_name_nothing(tmp_path: Path):
    root = drawn(tmp_path / "store")
    with serving() as model:
        first = told(root, model.url)
        other = told(root, model.url, "--name", "other", "--gain-min", 0.02, "--looks-max", 5)
        assert 0 < other["calls_asked"] < other["calls_cached"]
        assert n_asked(model) == first["calls_asked"] + other["calls_asked"]
        assert told(root, model.url, "--name", "third", "--looks-max", 5, "--gain-min", 0.02)["calls_asked"] == 0


def test_failures_are_replayed_and_redone(tmp_path: Path):
    root = drawn(tmp_path / "store")
    with serving(odd=FAILS) as model:
        told(root, model.url)
    before = bytes_of(root)
    rejects = Store(root).snapshot().records("rejects")
    assert {row.row_key: row.error_class for row in rejects} == {
        "drawn-0003": "http_status",
        "drawn-0008": "malformed_json",
    }
    for path in root.glob("work/*/*"):
        path.unlink() if path.is_file() else None
    code = "import sys, cli\ntry: cli.main()\nfinally: print(*sys.modules, file=sys.stderr)"
    place = ("--store", root, "--source", "drawn", "--from-calls", "*", "--json", "--max-reject-rate", 1)
    made = run([sys.executable, "-c", code, "build-trajectories", *map(str, place)], cwd=ROOT)
    again = json.loads(made.stdout)
    assert (again["is_new_version"], again["shards_reused"], again["calls_asked"]) == (False, 0, 0)
    assert bytes_of(root) == before
    assert {"httpx2", "torch", "transformers"}.isdisjoint(made.stderr.split())
    with serving() as model:
        assert told(root, model.url)["rows"]["rejects"] == {"pool": 2}
        healed = told(root, model.url, "--redo-rejected")
        assert "rejects" not in healed["rows"]
        assert healed["calls_asked"] == n_asked(model) < healed["calls_cached"] / 4
    bad = {row.row_key for row in rejects}
    rows = [
        [row for row in Store(root).snapshot(version).records("trajectories") if row.question_id not in bad]
        for version in (2, 3)
    ]
    assert rows[0] == rows[1]
