"""5,000 questions by the local engine, by Ray, and by Ray with workers killed: one and the same store. By hand only."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.processes import bytes_of, start

pytestmark = pytest.mark.slow
pytest.importorskip("ray")
LINE = ("build-trajectories", "--source", "phantom", "--expert", "annotations", "--json")
ON_RAY = ("--engine", "ray", "--workers", 2)
N_QUESTIONS = 5_000


def ended(*arguments: object) -> tuple[str, str]:
    """stdout and stderr of a command that has to succeed."""
    builder = start(*arguments)
    told = builder.communicate(timeout=900)
    assert builder.returncode == 0, told
    return told


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scale") / "local"
    split = ("--train", N_QUESTIONS - 1_000, "--validation", 0, "--test", 1_000)
    ended("ingest", "phantom", *split, "--store", root)
    shutil.copytree(root, root.with_name("ingested"))
    ended(*LINE, "--store", root)
    return root


def ingested(local: Path, name: str) -> Path:
    return Path(shutil.copytree(local.with_name("ingested"), local.with_name(name)))


def wait_for(builder: subprocess.Popen[str], root: Path, n_done: int) -> None:
    while len(list(root.glob("work/trajectories/*.json"))) < n_done:
        assert builder.poll() is None, builder.communicate()
        time.sleep(0.05)


def workers_of(builder_pid: int) -> Iterator[int]:
    """Processes of Ray that work for a builder: they wear their task's name and descend from it."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.joinpath("cmdline").read_bytes().startswith(b"ray::RayWorker"):
                parents = [int(folder.name)]
                while parents[-1] > 1:
                    text = Path(f"/proc/{parents[-1]}/stat").read_text()
                    parents.append(int(text.rpartition(")")[2].split()[1]))
                if builder_pid in parents:
                    yield int(folder.name)
        except OSError:  # it is gone
            continue


def test_ray_leaves_the_bytes_of_the_local_engine(local: Path):
    root = ingested(local, "ray")
    out, err = ended(*LINE, *ON_RAY, "--store", root)
    assert (json.loads(out)["shards"], err) == (79, "")
    assert bytes_of(root) == bytes_of(local)


def test_workers_killed_in_the_middle_change_nothing(local: Path):
    root = ingested(local, "killed")
    builder = start(*LINE, *ON_RAY, "--store", root)
    for n_done in (10, 30, 50):
        wait_for(builder, root, n_done)
        os.kill(next(workers_of(builder.pid)), signal.SIGKILL)
    out, _ = builder.communicate(timeout=900)
    assert (builder.returncode, json.loads(out)["shards"]) == (0, 79)
    assert bytes_of(root) == bytes_of(local)


def test_ctrl_c_leaves_no_process_and_the_same_command_goes_on(local: Path):
    root = ingested(local, "stopped")
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # who runs the tests in the background may ignore it
    builder = start(*LINE, *ON_RAY, "--store", root, preexec_fn=heed)
    wait_for(builder, root, 10)
    workers = list(workers_of(builder.pid))
    assert len(workers) == 2
    builder.send_signal(signal.SIGINT)
    builder.communicate(timeout=60)
    assert builder.returncode == 130
    time.sleep(5)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    assert list(root.glob("work/tmp/*")) == []
    ended(*LINE, "--store", root)
    assert bytes_of(root) == bytes_of(local)
