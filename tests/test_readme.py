"""The README's commands do what it says, word for word."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture
def path_with_fovea(tmp_path):
    """A PATH on which `fovea` is this checkout."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "fovea").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "cli.py"}" "$@"\n')
    (folder / "fovea").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_five_commands_take_an_empty_folder_to_audited_shards(tmp_path, path_with_fovea):
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    commands = [line for line in blocks[1].splitlines() if line]
    assert len(commands) == 5
    run = subprocess.run(
        ["bash", "-e", "-c", "\n".join(commands)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path_with_fovea, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "problems: none" in run.stderr
    assert "confident" in run.stdout


def test_the_layout_names_what_is_there():
    layout = README.split("## Layout")[1].split("```")[1]
    names = set(re.findall(r"[a-z_]+\.py|[a-z_]+/", layout))
    present = {path.name for path in ROOT.rglob("*.py")} | {
        f"{path.name}/" for path in ROOT.rglob("*") if path.is_dir()
    }
    assert names - present == set()


def test_every_module_of_schemas_and_trainer_is_in_the_layout():
    layout = README.split("## Layout")[1].split("```")[1]
    for folder in ("schemas", "trainer"):
        modules = {path.name for path in (ROOT / folder).glob("*.py")} - {"__init__.py"}
        commands = {"commands.py", "evaluate_command.py", "data.py", "sequences.py", "vocabulary.py"}
        assert {name for name in modules - commands if name not in layout} == set(), folder
