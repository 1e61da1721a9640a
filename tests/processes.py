"""Runs the command as people do, in a process of its own, and compares stores by their bytes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PHANTOM = ("phantom", "--train", 130, "--validation", 2, "--test", 20, "--side-px", 112)  # five work shards


def command_line(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]


def fovea(*arguments: object, check: bool = False) -> subprocess.CompletedProcess[str]:
    return run(command_line(*arguments), check=check)


def run(line: list[str], *, check: bool = False, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line, check=check, cwd=cwd, env=environment(), timeout=120, capture_output=True, text=True, encoding="utf-8"
    )


def start(*arguments: object, **how: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment()}
    return subprocess.Popen(command_line(*arguments), **(pipes | how))


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def bytes_of(store: Path) -> dict[str, str]:
    """Path and sha256 of everything a store publishes."""
    files = [path for folder in ("data", "manifests") for path in sorted((store / folder).rglob("*")) if path.is_file()]
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
