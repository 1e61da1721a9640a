"""A command is measured by what it and its children do, never by what we are."""

import sys

import pytest

from pipeline.stages.bench_watch import watched

MB = 1 << 20


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_our_own_memory_is_not_the_commands():
    ours = bytearray(b"x" * (200 * MB))
    run = watched(python("print('done')"))
    assert (run.code, run.out.strip()) == (0, "done")
    assert 5 < run.peak_mb < 100
    assert len(ours) == 200 * MB


def test_memory_and_time_of_its_children_count():
    inner = f"x = b'x' * {150 * MB}; sum(range(3_000_000))"
    run = watched(python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"))
    assert 150 < run.peak_mb < 250
    assert run.cpu_s > 0.02
    assert run.seconds > 0.02


@pytest.mark.parametrize("code", [0, 3])
def test_what_it_prints_and_how_it_ends_is_told(code: int):
    run = watched(python(f"print('one\\n\\ntwo', end=''); raise SystemExit({code})"))
    assert (run.code, run.out) == (code, "one\n\ntwo")
