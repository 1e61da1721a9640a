"""The expert benchmark: its endpoint answers as the expert reads it, and its figures are what was measured."""

import json
import time
from pathlib import Path

import pytest
from PIL import Image

from pipeline.adapters.experts.openai import OpenAIExpert
from pipeline.stages.bench_endpoint import MODEL, Served, scripted_endpoint
from pipeline.stages.bench_experts import Config, build, report_of, show
from schemas.errors import FoveaError
from schemas.experts import Ask, Drill, Scan, Seen
from tests.doubles import question
from tests.processes import fovea

CONFIG = Config(questions=6, side_px=64, view_px=1008, latency_ms=5.0, concurrency=4, workers=1)
LOOK = Drill((10.0, 10.0, 30.0, 30.0), "spot", (0.0, 0.0, 50.0, 50.0), 1)


def asks(n: int) -> list[Ask]:
    image = Image.new("L", (64, 64), 90)
    questions = [question(f"q{number}", question=f"What about {number}?") for number in range(n)]
    return [Ask(each, "image", image, query) for each in questions for query in (Scan(), LOOK)]


def test_the_endpoint_answers_scans_and_drills_by_what_was_asked_and_counts():
    with scripted_endpoint(0.05) as served:
        expert = OpenAIExpert(url=served.url, model=MODEL, coordinates="thousand", check=False, concurrency=8)
        started_s = time.perf_counter()
        answers = expert.answer(asks(12))
        seconds = time.perf_counter() - started_s
        assert expert.answer(asks(12)) == answers
        expert.close()
    assert all(isinstance(each, Seen) for each in answers)
    assert {len(each.candidates) for each in answers[0::2]} >= {1, 2}
    assert len({each.candidates[0].confidence for each in answers[1::2]}) > 5
    assert (served.n_requests, served.n_together) == (48, 8)
    assert seconds >= 3 * 0.05
    assert served.asked_s >= 6 * 0.05
    assert served.n_bytes > 24 * 448 * 448
    assert served.cpu_s > 0


def test_an_endpoint_ends_with_its_block_whatever_happens_there():
    with pytest.raises(KeyError), scripted_endpoint(0.0) as served:
        raise KeyError
    assert served.n_requests == 0


def test_the_ideal_is_calls_times_latency_over_calls_in_flight():
    served = Served("http://127.0.0.1:1/v1", n_requests=800, n_together=8, n_bytes=80_000_000, asked_s=1.1, cpu_s=0.4)
    config = Config(questions=100, side_px=448, view_px=448, latency_ms=10.0, concurrency=4, workers=2)
    report = report_of(served, 1.5, 2.4, config)
    assert report.seconds_ideal == 1.0
    assert (report.over_ideal, report.over_ideal_asking) == (1.5, 1.1)
    assert (report.mb_per_call, report.cpu_ms_per_call, report.cpu_ms_per_call_endpoint) == (0.1, 3.0, 0.5)


def test_a_build_that_fails_gives_no_figures(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(FoveaError, match="build-trajectories ended with exit code 1"):
        build(tmp_path / "nothing", "http://127.0.0.1:1/v1", CONFIG)
    assert "no store here" in capfd.readouterr().err


def test_the_command_prints_one_object():
    words = ("--questions", 6, "--side-px", 112, "--latency-ms", 5, "--concurrency", 4)
    made = fovea("bench", "experts", *words, "--json")
    assert (made.returncode, made.stderr) == (0, "")
    report = json.loads(made.stdout)
    assert report["config"] == {
        "questions": 6,
        "side_px": 112,
        "view_px": 1008,
        "latency_ms": 5.0,
        "concurrency": 4,
        "workers": 1,
    }
    assert report["calls"] > 6
    assert report["seconds"] > report["seconds_asking"] >= report["seconds_ideal"] * 0.99
    assert 1 <= report["calls_at_once"] <= 4


def test_people_read_the_same_as_a_table(capsys: pytest.CaptureFixture[str]):
    served = Served("http://127.0.0.1:1/v1", n_requests=800, n_together=4, n_bytes=80_000_000, asked_s=2.2, cpu_s=0.4)
    show(report_of(served, 3.0, 2.4, CONFIG))
    told = capsys.readouterr().err
    assert "800 calls of 0.1 MB about 6 images of 64 px" in told
    assert {"1.00", "2.20", "3.00", "1.000", "2.200", "3.000"} <= set(told.split())
