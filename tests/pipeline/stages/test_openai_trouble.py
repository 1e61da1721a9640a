"""Builds with the `openai` expert in this process: several shards at once, a server in trouble, a clock set back."""

import json
import time
from pathlib import Path

import pytest

from pipeline.core.hunt import SearchConfig
from pipeline.stages.build_trajectories import build_trajectories
from pipeline.stages.trajectory_stage import BuildTrajectories
from schemas.errors import ExpertError
from schemas.reader import Store
from tests.pipeline import vision_server
from tests.pipeline.small_stores import INGEST, asked, drawn_image, put_questions
from tests.pipeline.vision_server import serving
from tests.processes import bytes_of

QUICK = {"model": "seer", "coordinates": "absolute", "tries": 2, "wait_s": 0.01, "read_s": 0.5, "concurrency": 4}
KEY = "trajectories/drawn/openai"
ODD = {  # question -> (how the server treats it, why it is rejected)
    "spot 1 ": ("429", "http_status"),
    "spot 2 ": ("status 422", "http_status"),
    "spot 3 ": ("too_long", "context_length"),
    "spot 4 ": ("no_boxes", "no_boxes_key"),
    "spot 5 ": ("silent", "empty"),
    "spot 6 ": ("another", "malformed_json"),
    "spot 7 ": ("no_logprobs", "no_logprobs"),
    "spot 8 ": ("nan_logprob", "nan"),
    "spot 9 ": ("gzip", "malformed_json"),
    "spot 10 ": ("wordy", "http_status"),
    "spot 11 ": ("cut chunks", "cut_connection"),
}


def drawn(root: Path, n_questions: int = 14) -> Store:
    images = [drawn_image(number) for number in range(n_questions)]
    put_questions(Store(root), images, [asked(number, image) for number, image in enumerate(images)])
    return Store(root)


def build(store: Store, url: str, **settings: object) -> dict[str, str]:
    """The rejects of a build: reason by question."""
    told = tuple(sorted({"url": url, **QUICK, **settings}.items()))
    version = store.head().version
    stage = BuildTrajectories(store.root, version, INGEST, "openai", told, SearchConfig(), seed=0)
    built = build_trajectories(store, stage, max_reject_rate=1.0)
    rows = store.snapshot().read("rejects", slices=[built.slice.key]).to_pylist()
    return {row["row_key"]: row["error_class"] for row in rows}


def test_what_the_server_does_to_a_question_is_its_reason_and_nothing_is_made_up(tmp_path):
    store = drawn(tmp_path / "store")
    with serving(odd={text: how for text, (how, _) in ODD.items()}) as model:
        rejects = build(store, model.url)
    assert rejects == {f"drawn-{int(text.split()[1]):04d}": why for text, (_, why) in ODD.items()}
    read = store.snapshot().read
    assert set(read("trajectories")["question_id"].to_pylist()) == {f"drawn-{n:04d}" for n in (0, 12, 13)}
    failed = [row for row in read("expert_calls").to_pylist() if row["error_class"]]
    assert {row["question_id"] for row in failed} == set(rejects)
    assert not any(row["candidate_conf"] for row in failed)


def test_several_shards_at_once_give_the_bytes_of_one_call_after_the_other(tmp_path):
    stores = [drawn(tmp_path / name, 200) for name in ("one", "many")]
    for store, n_calls in zip(stores, (1, 12), strict=True):
        with serving(odd={"spot 33 ": "prose"}) as model:
            told = {"concurrency": n_calls, "check": False, "read_s": 60}
            assert build(store, model.url, **told) == {"drawn-0033": "malformed_json"}
        assert model.n_together <= n_calls
        records = [json.loads(path.read_bytes()) for path in store.root.glob("work/trajectories/*.json")]
        used = [record["usage"] for record in records]
        assert len(used) == 5
        assert sum(each["n_tries"] for each in used) == len(model.requests)
        read = store.snapshot().read("expert_calls", columns=["call_id"])
        n_requests, n_asked = (sum(each[name] for each in used) for name in ("n_requests", "calls_asked"))
        assert n_requests == n_asked == read.num_rows
    assert bytes_of(stores[0].root) == bytes_of(stores[1].root)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("renamed", "seer was asked, impostor has answered"),
        ("429", "asks for a pause of 301 s"),
        ("broke", "has no credit left"),
        ("status 404", "refuses: status 404"),
        ("status 307", "points elsewhere"),
    ],
)
def test_what_is_wrong_with_the_server_stops_the_build_and_rejects_nothing(tmp_path, monkeypatch, how, told):
    monkeypatch.setitem(vision_server.STATUSES, "429", (429, {"Retry-After": "301"}, "slow down"))
    store = drawn(tmp_path / "store", 30)
    with serving(odd={"spot 20 ": how}) as model:
        with pytest.raises(ExpertError, match=told) as raised:
            build(store, model.url)
        assert raised.value.fix
    assert store.head().version == 1
    with serving() as model:
        assert build(store, model.url) == {}
    assert KEY in store.head().slices


def test_a_clock_that_is_set_back_changes_no_byte(tmp_path, monkeypatch):
    stores = [drawn(tmp_path / name, 30) for name in ("steady", "jumping")]
    rejects = []
    for store in stores:
        if store is stores[1]:
            hours = iter(range(2 * 10**9, 0, -3600))
            monkeypatch.setattr(time, "time", lambda hours=hours: float(next(hours)))
        with serving(odd={"spot 1 ": "hang", "spot 2 ": "429 once", "spot 3 ": "500 once", "spot 4 ": "500"}) as model:
            rejects.append(build(store, model.url))
    assert rejects == [{"drawn-0001": "timeout", "drawn-0004": "http_status"}] * 2
    assert bytes_of(stores[0].root) == bytes_of(stores[1].root)
