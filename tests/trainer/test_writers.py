"""Mirrors hold the log, every step once, whatever was interrupted; with the real libraries where they are installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cli
import trainer.writers
from schemas.errors import UsageError
from trainer.runlog import RunLog
from trainer.writers import PROJECT, WRITERS, open_writer, run_name

ROOT = Path(cli.__file__).parent
STEPS = [{"step": step, "phase": "grpo", "loss": step / 7, "policy/kl": None, "groups": 2} for step in range(6)]


def log_of(folder, n=0):
    log = RunLog(folder)
    log.begin({"recipe": {"run": {"steps": 6}}})
    for line in STEPS[:n]:
        log.write(line)
    return log


def go_on(log, writer, upto):
    """As `start` does: the line first, then those who follow."""
    writer.begin(log)
    for line in STEPS[len(log.steps()) : upto]:
        log.write(line)
        writer.follow(line)
    return writer.end()


def seen_by_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_tensorboard_has_every_number_once(tmp_path):
    """Resumed where the log is shorter than the mirror was, and where it is longer."""
    pytest.importorskip("tensorboard")
    log = log_of(tmp_path / "run")
    assert go_on(log, open_writer("tensorboard"), 4) == {}
    log.truncate(2)
    log.write(STEPS[2])  # a kill came between the line and the mirror
    go_on(log, open_writer("tensorboard"), 6)
    seen = seen_by_tensorboard(tmp_path / "run")
    assert set(seen) == {"loss", "groups"}
    assert [step for step, _ in seen["loss"]] == list(range(6))
    assert [value for _, value in seen["loss"]] == pytest.approx([line["loss"] for line in STEPS])


TRACKIO = """
import sys, json
from pathlib import Path
from tests.trainer.test_writers import STEPS, go_on, log_of
from trainer.writers import PROJECT, open_writer
import trackio
run = Path(sys.argv[1])
log = log_of(run)
go_on(log, open_writer("trackio"), 4)
go_on(log_of(run.with_name("other")), open_writer("trackio"), 2)
log.truncate(2)
log.write(STEPS[2])
go_on(log, open_writer("trackio"), 6)
from trackio.sqlite_storage import SQLiteStorage
runs = [one.name for one in trackio.Api().runs(PROJECT)]
print(json.dumps({name: SQLiteStorage.get_logs(PROJECT, name) for name in runs}))
"""


def test_trackio_has_every_number_once(tmp_path):
    """In a process of its own: where its database lies is decided when it is imported."""
    pytest.importorskip("trackio")
    command = [sys.executable, "-c", TRACKIO, str(tmp_path / "run")]
    here = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")}
    done = subprocess.run(command, cwd=ROOT, env=here, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)  # and nothing else was printed there
    assert set(seen) == {run_name(tmp_path / "run"), run_name(tmp_path / "other")}
    own = seen[run_name(tmp_path / "run")]
    assert [(line["step"], line["loss"]) for line in own] == [(line["step"], line["loss"]) for line in STEPS]
    assert all("policy/kl" not in line and "phase" not in line for line in own)
    assert len(seen[run_name(tmp_path / "other")]) == 2


class Library:
    """What the writer may use of trackio, kept in memory: enough to hold it to its promises where there is none."""

    def __init__(self):
        self.runs = None  # no project yet

    def init(self, project, name, **settings):
        print("* Created new run")
        assert project == PROJECT
        assert settings.pop("config") == {"run": {"steps": 6}}
        assert not any(settings.values())
        made = LibraryRun(name, self)
        self.runs = [*(self.runs or []), made]
        return made

    def named(self, project):
        if self.runs is None:
            raise ValueError(f"Project {project!r} does not exist")
        return self.runs


class LibraryRun:
    def __init__(self, name, library):
        self.name, self.library, self.lines = name, library, []

    def log(self, numbers, step):
        self.lines.append((step, numbers))

    def delete(self):
        self.library.runs.remove(self)


def test_a_mirror_is_made_anew_from_the_log(tmp_path, monkeypatch, capsys):
    library = Library()
    monkeypatch.setattr(trainer.writers, "_imported", lambda *_: _api(library))
    log = log_of(tmp_path / "run", 1)  # begun without a mirror
    go_on(log, open_writer("trackio"), 4)
    go_on(log_of(tmp_path / "other" / "run"), open_writer("trackio"), 2)
    log.truncate(2)
    log.write(STEPS[2])
    go_on(log, open_writer("trackio"), 6)
    other, own = library.runs
    assert [one.name for one in (own, other)] == [run_name(tmp_path / "run"), run_name(tmp_path / "other" / "run")]
    assert own.lines == [(line["step"], {"loss": line["loss"], "groups": 2.0}) for line in STEPS]
    assert len(other.lines) == 2
    assert capsys.readouterr().out == ""


def _api(library):
    """The library as its module: `Api().runs(project)`."""

    class Module:
        init = staticmethod(library.init)

        class Api:
            runs = staticmethod(library.named)

        @staticmethod
        def finish():
            print("* Run finished")

    return Module


@pytest.mark.parametrize("name", WRITERS)
def test_a_library_that_is_absent_is_named(monkeypatch, name):
    def absent(module):
        raise ImportError(module)

    monkeypatch.setattr(trainer.writers, "import_module", absent)
    with pytest.raises(UsageError, match=f"{name} is not installed") as error:
        open_writer(name)
    assert error.value.fix == f"pip install 'fovea[{name}]'"


def test_a_run_through_the_command_is_mirrored_and_an_unknown_writer_is_none(
    run_store, recipe_path, tmp_path, monkeypatch, capsys
):
    library = Library()
    library.init = lambda **_: library.runs[0]
    library.runs = [LibraryRun("any", library)]
    monkeypatch.setattr(trainer.writers, "_imported", lambda *_: _api(library))
    words = ["fovea", "train", "--store", run_store.root, "--recipe", recipe_path, "--out", tmp_path / "run"]
    words += ["--stop-after", 2, "--json"]
    for writer, code in (("trackio", 0), ("wandb", 2)):
        monkeypatch.setattr(sys, "argv", [*map(str, words), "--writer", writer])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert (left.value.code or 0) == code
    said = capsys.readouterr()
    assert json.loads(said.out)["steps_done"] == 2
    assert "no writer 'wandb'" in said.err
    lines = RunLog(tmp_path / "run").steps()
    assert [step for step, _ in library.runs[0].lines] == [0, 1]
    assert library.runs[0].lines[1][1]["loss"] == lines[1]["loss"]


def test_runs_of_one_name_are_told_apart(tmp_path, monkeypatch):
    names = {run_name(tmp_path / place / "run") for place in ("a", "b")}
    assert len(names) == 2
    assert all(name.startswith("run-") for name in names)
    monkeypatch.chdir(tmp_path)
    assert run_name(Path("a/run")) in names
