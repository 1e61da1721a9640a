"""What a command costs with all processes it starts, measured by a small process between it and us.

Linux counts the memory of whoever starts a program as the program's own peak until the program runs, so a benchmark
that has grown cannot measure one itself. Run as a file, in isolation, this is that process: it needs nothing of ours.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

KIB_PER_MB = 1024


@dataclass(frozen=True, slots=True)
class Watched:
    """`cpu_s` of all processes together; `peak_mb`: the most resident memory that one of them had."""

    code: int
    out: str
    seconds: float
    cpu_s: float
    peak_mb: float


def watched(line: Sequence[str]) -> Watched:
    """Runs a command line to its end; its stderr is ours."""
    between = [sys.executable, "-I", __file__, *line]
    out, _, told = subprocess.run(between, stdout=subprocess.PIPE, text=True, check=True).stdout.rpartition("\n")
    return Watched(out=out, **json.loads(told))


def _watch(line: Sequence[str]) -> None:
    started_s = time.perf_counter()
    code = subprocess.run(line, check=False).returncode
    seconds = time.perf_counter() - started_s
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s, peak_mb = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / KIB_PER_MB
    told = {"code": code, "seconds": round(seconds, 3), "cpu_s": round(cpu_s, 3), "peak_mb": round(peak_mb, 1)}
    print("\n" + json.dumps(told), end="")


if __name__ == "__main__":
    _watch(sys.argv[1:])
