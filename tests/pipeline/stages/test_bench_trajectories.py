"""The search benchmark: it repeats a real build, refuses figures of one that differs, and prints what it measured."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.commits import commit
from pipeline.stages.bench_trajectories import (
    BenchReport,
    Config,
    Run,
    _growth,
    make_store,
    picture,
    show,
    sizes_from,
    timed,
)
from schemas.errors import FoveaError, UsageError
from schemas.reader import Store
from tests.processes import fovea

RUNS = tuple(Run(n, 4 * n, 5 * n, 2 + n / 500, 1.5 + n / 400, 150 + n / 1000) for n in (1000, 10_000, 100_000))
REPORT = BenchReport(
    trajectories_per_s=1980.2,
    questions_per_s_per_core=247.5,
    questions_per_cpu_s=397.6,
    seconds=202.0,
    peak_mb=250.0,
    growth=1.0,
    mb_per_100k=100,
    profile={"GRN": 0.4, "rows": 0.35, "the rest": 0.25},
    runs=RUNS,
    config=Config((1000, 10_000, 100_000), 2),
)


def test_what_is_timed_is_the_command_with_all_its_work(tmp_path: Path):
    store = make_store(tmp_path / "store", 70, workers=1)
    run = timed(store, workers=1)
    assert run.questions == 70
    assert 140 < run.trajectories < 490
    assert run.calls > 140
    assert run.cpu_s > 0.1
    assert run.peak_mb > 20  # of a Python with pyarrow
    again = store.head().slices["trajectories/bench/again"]
    assert again.expert == "bench@1+" + store.head().slices["trajectories/bench/bench"].expert.rpartition("+")[2]
    assert len(list((store.root / "work" / "trajectories").glob("*.json"))) == 2  # of 63 and of 7 questions

    def one_part_less(old):
        return replace(old, parts=old.parts[1:])

    commit(store, one_part_less, "trajectories/bench/bench")
    with pytest.raises(FoveaError):  # 64-bit ids of the recorded calls are all there, the rows are not
        timed(store, workers=1)


def test_a_build_that_fails_gives_no_figures(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "store" / "work" / "trajectories").mkdir(parents=True)
    with pytest.raises(FoveaError, match="ended with exit code 1"):
        timed(Store(tmp_path / "store"), workers=1)
    assert "no store here" in capfd.readouterr().err


def test_growth_is_one_where_time_is_linear():
    assert _growth(RUNS) == 1.0
    assert _growth(RUNS[:2]) is None
    slower = (*RUNS[:2], replace(RUNS[2], cpu_s=RUNS[1].cpu_s + 2 * (RUNS[2].cpu_s - RUNS[1].cpu_s)))
    assert _growth(slower) == 2.0


def test_the_command_prints_one_object_and_draws_a_picture(tmp_path: Path):
    made = fovea("bench", "trajectories", "--sizes", "40,10", "--workers", 1, "--plot", tmp_path / "x.svg", "--json")
    assert (made.returncode, made.stderr) == (0, "")
    report = json.loads(made.stdout)
    assert report["config"] == {"sizes": [10, 40], "workers": 1}
    assert [run["questions"] for run in report["runs"]] == [10, 40]
    last = report["runs"][-1]
    assert report["trajectories_per_s"] == pytest.approx(last["trajectories"] / last["seconds"], abs=0.1)
    assert report["questions_per_s_per_core"] == pytest.approx(40 / last["seconds"], abs=0.1)
    assert sum(report["profile"].values()) == pytest.approx(1, abs=0.01)
    assert {"GRN", "CVS", "admission", "rows", "work shards", "pack", "recorded calls"} <= report["profile"].keys()
    assert len(list(ET.parse(tmp_path / "x.svg").iter("{http://www.w3.org/2000/svg}circle"))) == 4


def test_people_read_the_same_as_a_table(capsys: pytest.CaptureFixture[str]):
    show(REPORT)
    told = capsys.readouterr().err
    assert "100,000 further questions: 100 MB" in told
    assert "GRN 40%, rows 35%, the rest 25%" in told
    assert {"100,000", "400,000", "202.00", "251.5", "1,980", "248"} <= set(told.split())
    assert "seconds: 4 at 1,000, 22 at 10,000, 202 at 100,000" in picture(REPORT)


@pytest.mark.parametrize("sizes", ["", "10,", "0", "10,10", "-3", "1e3", "10 20", "²"])
def test_other_sizes_are_refused(sizes: str):
    with pytest.raises(UsageError, match="numbers of questions"):
        sizes_from(sizes)


def test_sizes_are_numbers_joined_by_commas():
    assert sizes_from("1000,10,100000") == (1000, 10, 100_000)
