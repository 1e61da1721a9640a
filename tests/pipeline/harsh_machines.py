"""Machines on which things go wrong for real: disks that fill up or refuse writes, and processes patched as they start.

What a child sees here comes from the kernel or from its own interpreter, never from a patch of ours in the parent.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.processes import ROOT, command_line, environment

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1  # linux/prctl.h, linux/capability.h
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
HOLDER = """
mount -t tmpfs -o size=1m none "$1" && echo ready || exit 1
while read -r options; do mount -o "remount,$options" "$1" && echo done || exit 1; done
"""


class Disk:
    """A file system of its own at `root`, for processes in its namespace only: its size and rights can be changed."""

    def __init__(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.root = root
        self._holder = subprocess.Popen([*NAMESPACE, "sh", "-c", HOLDER, "sh", str(root)], **pipes)

    def __enter__(self) -> "Disk":
        assert self._said() == "ready"
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._holder.communicate()

    @property
    def seen(self) -> Path:
        """Where the test itself finds the same files."""
        return Path(f"/proc/{self._holder.pid}/root{self.root}")

    def remount(self, options: str) -> None:
        print(options, file=self._holder.stdin, flush=True)
        assert self._said() == "done"

    def fovea(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", f"--target={self._holder.pid}", "--user", "--mount", "--preserve-credentials"]
        return _ran([*enter, *command_line(*arguments)])

    def _said(self) -> str:
        return self._holder.stdout.readline().strip()


def has_namespaces() -> bool:
    """Whether this kernel lets us mount something in a namespace of our own."""
    try:
        mounted = subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/tmp"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return mounted.returncode == 0


def fovea_with_files_of(bytes_max: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command where no file can grow beyond so many bytes."""
    first = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_max}, {bytes_max}))"
    return _ran(_after(first, command_line(*arguments)))


def fovea_without_privilege(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command as a user whom permissions bind: root, too, once it cannot override them."""
    line = command_line(*arguments)
    first = f"import ctypes; ctypes.CDLL(None).prctl({PR_CAPBSET_DROP}, {CAP_DAC_OVERRIDE}, 0, 0, 0)"
    return _ran(_after(first, line) if os.geteuid() == 0 else line)


def _after(first: str, line: list[str]) -> list[str]:
    """A command in a process that has run something else before."""
    return [sys.executable, "-c", f"{first}; import os, sys; os.execv(sys.argv[1], sys.argv[1:])", *line]


def patched(folder: Path, code: str) -> dict[str, str]:
    """An environment in which every Python process, also each worker, runs `code` when it starts."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return environment() | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def fovea_in(environ: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    return _ran(command_line(*arguments), environ)


def _ran(line: list[str], environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    how = {"env": environ or environment(), "timeout": 120, "capture_output": True, "text": True, "encoding": "utf-8"}
    return subprocess.run(line, check=False, **how)


def strays(store: Path) -> set[str]:
    """Files of a store in places where no file of a store belongs."""
    belongs = ("manifests/v*.json", "data/*/*/part-*.parquet", "catalog/init.sql", "work/*/*.json", "work/*/*.parquet")
    known = {path for pattern in (*belongs, "work/tmp/*") for path in store.glob(pattern)}
    return {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file() and path not in known}
