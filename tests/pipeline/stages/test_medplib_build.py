"""`build-trajectories --expert medplib` as people run it, on phantoms, against the reference server and a bad one."""

import json
from pathlib import Path

import pytest

from pipeline.adapters.experts.medplib_contract import REGION
from schemas.reader import Store
from tests.pipeline.medplib_servers import OddService, StandIn, serving
from tests.processes import bytes_of, fovea

RIGHT = OddService(StandIn()).revision
SIZE = ("phantom", "--train", 8, "--validation", 1, "--test", 3, "--side-px", 112)


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("FOVEA_EXPERT_API_KEY", raising=False)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("medplib") / "store"
    fovea("ingest", *SIZE, "--store", root, check=True)
    return root


@pytest.fixture
def stores(ingested, tmp_path):
    def copy(name: str) -> Path:
        root = tmp_path / name
        for path in (each for each in ingested.rglob("*") if each.is_file()):
            (root / path.relative_to(ingested)).parent.mkdir(parents=True, exist_ok=True)
            (root / path.relative_to(ingested)).write_bytes(path.read_bytes())
        return root

    return copy


def build(root: Path, url: str, *settings: str, revision: str = RIGHT):
    told = [f"url={url}", f"revision={revision}", "tries=2", "wait_s=0.01", "read_s=5", *settings]
    options = [each for setting in told for each in ("--expert-set", setting)]
    line = ("--store", root, "--source", "phantom", "--expert", "medplib", "--json", "--max-reject-rate", 1)
    return fovea("build-trajectories", *line, *options)


def test_phantoms_are_searched_and_one_server_gives_the_bytes_of_another(stores):
    roots = [stores(name) for name in ("one", "two")]
    for root, n_threads in zip(roots, (1, 8), strict=True):
        with serving() as service:
            made = build(root, service.url, f"concurrency={n_threads}")
            assert (made.returncode, made.stderr.count("Traceback")) == (0, 0), made.stderr
    with serving() as service:
        assert build(roots[0], service.url).returncode == 0
        assert service.asked == []  # nothing is asked twice
    assert bytes_of(roots[0]) == bytes_of(roots[1])
    snapshot = Store(roots[0]).snapshot()
    rows = snapshot.read("trajectories").to_pylist()
    assert len({row["question_id"] for row in rows}) == 12
    assert all(row["expert"].startswith("medplib@1+") and not row["privileged"] for row in rows)
    calls = snapshot.read("expert_calls").to_pylist()
    drills = [row for row in calls if row["mode"] == "drill"]
    assert {row["round"] for row in drills} >= {1}
    assert len({row["candidate_conf"][0] for row in drills}) > 3  # no constant
    assert all(0 <= edge <= 112 for row in calls for name in ("x0", "y1") for edge in row[f"candidate_{name}"])
    assert {json.loads(row["raw"])["revision"] for row in calls} == {RIGHT}
    assert b"127.0.0.1" not in b"".join(path.read_bytes() for path in roots[0].rglob("*.parquet"))
    assert fovea("audit", "--store", roots[0]).returncode == 0


def test_bad_answers_reject_their_questions_with_the_reason(stores, tmp_path):
    root, prompts = stores("store"), tmp_path / "mine.toml"
    prompts.write_text(f'scan = "Segment it: $question"\ndrill = "Is {REGION} abnormal? $question"', encoding="utf-8")
    texts = Store(root).snapshot().read("questions", columns=["question_id", "question"]).to_pylist()
    words = sorted({row["question"] for row in texts})
    odd = dict(zip(words, ("out_of_frame", "nan_score", "empty_mask", "500 once"), strict=False))
    with serving(odd=odd) as service:
        made = build(root, service.url, f"prompts={prompts}")
    assert (made.returncode, made.stderr.count("Traceback")) == (0, 0), made.stderr
    expected = {"out_of_frame": "out_of_frame", "nan_score": "nan", "empty_mask": "empty_mask"}
    snapshot = Store(root).snapshot()
    rejects = snapshot.read("rejects", slices=["trajectories/phantom/medplib"]).to_pylist()
    assert {row["row_key"]: row["error_class"] for row in rejects} == {
        row["question_id"]: expected[odd[row["question"]]] for row in texts if odd.get(row["question"]) in expected
    }
    built = set(snapshot.read("trajectories", columns=["question_id"])["question_id"].to_pylist())
    assert built == {row["question_id"] for row in texts} - {row["row_key"] for row in rejects}


def test_other_weights_stop_the_build_before_the_first_question(stores):
    root = stores("store")
    with serving() as service:
        made = build(root, service.url, revision="0123456789abcdef")
        assert [name for name, _ in service.asked] == ["health"]
    assert (made.returncode, Store(root).head().version) == (1, 1)
    assert f"revision {RIGHT}, not 0123456789abcdef" in made.stderr
    assert "Traceback" not in made.stderr
