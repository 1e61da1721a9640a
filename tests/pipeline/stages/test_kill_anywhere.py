"""Kill -9 anywhere in a build, run it again, and the store is the one of an undisturbed build.

By hand, with figures: python -m tests.pipeline.stages.test_kill_anywhere [kills [seed]]
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from schemas.reader import Store
from tests.pipeline.harsh_machines import strays
from tests.processes import PHANTOM, bytes_of, fovea, start

N_QUESTIONS = 300
LIVES = (1, 3, 2, 1)  # how often a store is killed before it is finished
IN_INGEST = 0.2  # share of the kills
WITH_POOL = 0.25  # share of the stores that two workers build
AUDITED = 10  # every so many stores
PLACES = ("before its first shard", "between shards", "in packing", "before the catalog", "at the end")


@dataclass(frozen=True)
class Build:
    """A command over a copy of `before`, and what it leaves when nobody disturbs it."""

    line: tuple[object, ...]
    stage: str
    version: int
    whole: Path
    wall_s: float
    first_s: float  # until its first file is begun; before it, a process starts and plans
    before: Path | None = None

    def copy(self, root: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        if self.before is not None:
            shutil.copytree(self.before, root)

    def place(self, root: Path) -> str:
        """Where a killed build was, by what is on the disk."""
        n_done, n_shards = (len(list(each.glob(f"work/{self.stage}/*.json"))) for each in (root, self.whole))
        if Store(root).versions() == list(range(1, self.version + 1)):
            return PLACES[4 if published(root) == published(self.whole) else 3]
        return PLACES[0 if n_done == 0 else 1 if n_done < n_shards else 2]


@dataclass(frozen=True)
class Plan:
    """One store and when its builders are killed before it is finished."""

    number: int
    build: Build
    kills: tuple["Kill", ...]
    workers: int


@dataclass(frozen=True)
class Kill:
    """After a share of the undisturbed wall time; or, once a file is begun, of what was left at the first one."""

    share: float
    is_late: bool


@dataclass
class Life:
    """What became of a store; a builder that was faster than its kill began anew with a fresh one."""

    places: list[str]
    n_cut: int = 0  # kills in the midst of a file
    n_too_late: int = 0
    is_audited: bool = False


def published(root: Path) -> dict[str, str]:
    catalog = root / "catalog" / "init.sql"
    return bytes_of(root) | ({"catalog": catalog.read_text("utf-8")} if catalog.exists() else {})


def killed(plan: Plan, kill: Kill, root: Path) -> bool:
    """SIGKILL to a builder and its workers; False when it was faster."""
    build, begun = plan.build, _begun(root)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    builder = start(*build.line, "--workers", plan.workers, "--store", root, **quiet)
    if kill.is_late:
        while builder.poll() is None and _begun(root) == begun:
            time.sleep(0.002)
    try:
        builder.wait(kill.share * (build.wall_s - (build.first_s if kill.is_late else 0)))
    except subprocess.TimeoutExpired:
        os.killpg(builder.pid, signal.SIGKILL)
    return builder.wait() == -signal.SIGKILL


def _begun(root: Path) -> int:
    """Changes when a file is begun."""
    folder = root / "work" / "tmp"
    return folder.stat().st_mtime_ns if folder.exists() else 0


def check_killed(build: Build, root: Path) -> None:
    """Whatever is published is what an undisturbed build publishes, whole; whatever is half lies in work/tmp."""
    assert bytes_of(root).items() <= bytes_of(build.whole).items()
    assert strays(root) == set()
    for version in Store(root).versions():
        parts = {part.path for _, part in Store(root).load(version).parts()}
        assert all((root / path).is_file() for path in parts)


def live(plan: Plan, folder: Path, chance: random.Random) -> Life:
    """Kill, kill again, finish, compare."""
    build, root, life = plan.build, folder / str(plan.number), Life([])
    build.copy(root)
    for planned in plan.kills:
        kill, n_cut = planned, len(list(root.glob("work/tmp/*")))
        while not killed(plan, kill, root):
            life.n_too_late += 1
            kill, n_cut = Kill(chance.random(), kill.is_late), 0
            build.copy(root)
        check_killed(build, root)
        life.places.append(build.place(root))
        life.n_cut += len(list(root.glob("work/tmp/*"))) > n_cut
    done = fovea(*build.line, "--workers", plan.workers, "--store", root)
    assert done.returncode == 0, done.stderr
    assert published(root) == published(build.whole)
    assert strays(root) == set()
    if plan.number % AUDITED == AUDITED - 1:
        report = fovea("audit", "--store", root)
        assert report.returncode == 0, report.stdout
        life.is_audited = True
    shutil.rmtree(root)
    return life


def plans(builds: Sequence[Build], shares: Sequence[float], n_kills: int, chance: random.Random) -> Iterator[Plan]:
    """Kills spread evenly over the time of each build, jittered, every other one late; as often a store as in LIVES."""
    number = 0
    for build, share in zip(builds, shares, strict=True):
        n = round(share * n_kills)
        kills = [Kill((index + chance.random()) / n, bool(index % 2)) for index in range(n)]
        chance.shuffle(kills)
        while kills:
            here = [kills.pop() for _ in range(min(len(kills), LIVES[number % len(LIVES)]))]
            yield Plan(number, build, tuple(here), 2 if chance.random() < WITH_POOL else 1)
            number += 1


def undisturbed(folder: Path, phantom: Sequence[object]) -> list[Build]:
    """An ingest and a build of trajectories, each measured once."""
    first, both = folder / "ingested", folder / "built"
    ingest = ("ingest", *phantom)
    search = ("build-trajectories", "--source", "phantom", "--expert", "annotations")
    ingest_s = _measured(*ingest, root=first)
    shutil.copytree(first, both)
    search_s = _measured(*search, root=both)
    return [Build(ingest, "ingest", 1, first, *ingest_s), Build(search, "trajectories", 2, both, *search_s, first)]


def _measured(*line: object, root: Path) -> tuple[float, float]:
    """Seconds of a whole build, and until its first file is begun."""
    begun, begun_s = _begun(root), time.monotonic()
    builder = start(*line, "--store", root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while builder.poll() is None and _begun(root) == begun:
        time.sleep(0.002)
    first_s = time.monotonic() - begun_s
    assert builder.wait() == 0
    return time.monotonic() - begun_s, first_s


def lives(n_kills: int, phantom: Sequence[object], seed: int, folder: Path, lanes: int) -> tuple[list[Build], list]:
    builds = undisturbed(folder, phantom)
    todo = list(plans(builds, (IN_INGEST, 1 - IN_INGEST), n_kills, random.Random(seed)))
    with ThreadPoolExecutor(lanes) as pool:
        done = pool.map(lambda plan: live(plan, folder, random.Random(f"{seed}/{plan.number}")), todo)
        return builds, list(zip(todo, done, strict=True))


def test_six_kills_leave_the_bytes_of_an_undisturbed_build(tmp_path: Path):
    _, done = lives(6, PHANTOM, 0, tmp_path, lanes=2)
    assert sum(len(life.places) for _, life in done) == 6
    assert {plan.build.stage for plan, _ in done} == {"ingest", "trajectories"}


@pytest.mark.slow
def test_two_hundred_kills_land_everywhere_and_every_rerun_is_the_undisturbed_build(tmp_path: Path):
    _, done = lives(200, _phantom(N_QUESTIONS), 0, tmp_path, lanes=2)
    landed = Counter(place for _, life in done for place in life.places)
    assert landed.total() == 200
    assert set(PLACES[:3]) <= set(landed), landed
    assert any(life.n_cut for _, life in done)
    assert sum(life.is_audited for _, life in done) >= 10


def _phantom(n_questions: int) -> tuple[object, ...]:
    """As many images as questions: at this level each has one."""
    n_test = n_questions // 10
    return ("phantom", "--train", n_questions - 2 * n_test, "--validation", n_test, "--test", n_test, "--side-px", 112)


def main(n_kills: int = 200, seed: int = 0) -> None:
    begun_s = time.monotonic()
    with TemporaryDirectory() as folder:
        builds, done = lives(n_kills, _phantom(N_QUESTIONS), seed, Path(folder), lanes=2)
    for build in builds:
        here = [(plan, life) for plan, life in done if plan.build == build]
        landed = Counter(place for _, life in here for place in life.places)
        print(f"{build.stage}, undisturbed {build.wall_s:.2f} s, first file after {build.first_s:.2f} s:")
        print(f"  {landed.total()} kills in {len(here)} stores: ", end="")
        print(", ".join(f"{landed[place]} {place}" for place in PLACES))
        print(f"  stores killed n times: {dict(sorted(Counter(len(life.places) for _, life in here).items()))}")
        print(f"  {sum(life.n_cut for _, life in here)} in the midst of a file, ", end="")
        print(f"{sum(life.n_too_late for _, life in here)} builders faster than their kill (done anew), ", end="")
        print(f"{sum(plan.workers == 2 for plan, _ in here)} stores by two workers, ", end="")
        print(f"{sum(life.is_audited for _, life in here)} audited clean")
    print(f"every rerun byte-identical; {time.monotonic() - begun_s:.0f} s, seed {seed}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
