"""Time is handed up to the task it was spent for; a profile made by hand says how much."""

import time
from pathlib import Path

import pytest

from pipeline.stages import bench_profile
from pipeline.stages.bench_profile import OTHER, by_task, profiled

ROOT = Path(bench_profile.__file__).parents[2]
GRN = (str(ROOT / "pipeline/core/grn.py"), 10, "advance")
BOXES = (str(ROOT / "schemas/boxes.py"), 20, "iou")
OUTPUT = (str(ROOT / "pipeline/stages/trajectory_stage.py"), 30, "_output")
PROCESS = (str(ROOT / "pipeline/stages/trajectory_stage.py"), 40, "process")
MAX = ("~", 0, "<built-in method builtins.max>")
TASKS = {"pipeline.core.grn": "GRN", "pipeline.stages.trajectory_stage._output": "rows"}


def took(own_s, below_s, **_):
    """(calls, calls, own time, time with callees, callers) as `cProfile` has it."""
    return 1, 1, own_s, below_s


def test_what_nobody_names_counts_for_who_called_it():
    stats = {
        PROCESS: (*took(1.0, 12.0), {}),
        GRN: (*took(2.0, 7.0), {PROCESS: took(2.0, 7.0)}),
        OUTPUT: (*took(3.0, 4.0), {PROCESS: took(3.0, 4.0)}),
        BOXES: (*took(1.5, 5.5), {GRN: took(1.0, 5.0), OUTPUT: took(0.5, 0.5)}),
        MAX: (*took(4.5, 4.5), {BOXES: took(4.0, 4.0), OUTPUT: took(0.5, 0.5)}),
    }
    found = by_task(stats, TASKS)
    boxes_s = 1.5 + 4.0  # of which 5.0 of 5.5 below calls from GRN
    grn_s, rows_s = 2.0 + boxes_s * 5.0 / 5.5, 3.0 + boxes_s * 0.5 / 5.5 + 0.5
    assert found == pytest.approx({"GRN": grn_s, "rows": rows_s, OTHER: 1.0})
    assert sum(found.values()) == pytest.approx(12.0)


def test_functions_that_call_one_another_lose_no_time():
    ring = {BOXES: (*took(1.0, 2.0), {MAX: took(1.0, 2.0)}), MAX: (*took(1.0, 2.0), {BOXES: took(1.0, 2.0)})}
    itself = {GRN: (*took(1.0, 1.0), {GRN: took(1.0, 1.0)}), BOXES: (*took(2.0, 2.0), {BOXES: took(1.0, 2.0)})}
    assert by_task(ring, TASKS) == {OTHER: 2.0}
    assert by_task(itself, TASKS) == {"GRN": 1.0, OTHER: 2.0}


def test_a_real_call_is_told_in_shares():
    shares = profiled(lambda: time.sleep(0.02), {})
    assert shares == {OTHER: 1.0}
