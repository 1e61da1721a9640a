"""The demo runs ordinary commands in order, skips what is done, and stops where one fails; nothing is trained here."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from demo_folders import SIZES, finished_demo, searched_store, write_results
from typer.testing import CliRunner

from pipeline.stages import demo as stage
from pipeline.stages.demo import PROGRAM, StepError, command, demo
from pipeline.stages.demo_plan import FULL, SHORT, Demo, Sizes, steps
from schemas.errors import UsageError
from schemas.reader import Store
from trainer.recipe import load_recipe

SCRIPT = """import json, os, shutil, signal, sys
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == {failing!r}:
    print(json.dumps({{"problems": ["x"]}}))
    os.kill(os.getpid(), signal.SIGKILL) if {code} < 0 else sys.exit({code})
if sys.argv[1] == "audit":
    print(open({backup!r} + "/audit.json").read())
for path in [sys.argv[sys.argv.index("--out") + 1]] if "--out" in sys.argv else []:
    source = os.path.join({backup!r}, os.path.basename(path))
    shutil.copytree(source, path, dirs_exist_ok=True) if os.path.isdir(source) else shutil.copy(source, path)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A finished demo: look, but do not touch."""
    return finished_demo(tmp_path_factory.mktemp("finished") / "demo")


class Commands:
    """Stands for `fovea`: notes each command, fails where told, and makes products by copying those of `backup`."""

    def __init__(self, folder: Path, backup: Path, patch: pytest.MonkeyPatch) -> None:
        self.log, self.script, self.backup = folder / "log", folder / "commands.py", backup
        patch.setattr(stage, "PROGRAM", self.script)
        self.fail("", 0)

    def fail(self, name: str, code: int) -> None:
        settings = {"log": str(self.log), "backup": str(self.backup), "failing": name, "code": code}
        self.script.write_text(SCRIPT.format(**settings))

    def names(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line.split()[0] for line in lines]


@pytest.fixture
def commands(finished: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(tmp_path, finished.out, monkeypatch)


@pytest.fixture
def own(finished: Demo, tmp_path: Path) -> Demo:
    """A copy of the finished demo with its record, to be spoiled."""
    own = Demo(tmp_path / "demo", SIZES)
    shutil.copytree(finished.out, own.out)
    record = {"sizes": SIZES.plain(), "seconds": {"train": 12.5}}
    (own.out / "demo.json").write_text(json.dumps(record))
    return own


def test_the_commands_in_order():
    plan = Demo(Path("d"), replace(SHORT, settings={"warm.schedule.lr": 0.002}), workers=3)
    sizes = plan.sizes
    assert [one.command for one in steps(plan)] == [
        f"fovea ingest phantom --store d/store --level L0 --train {sizes.n_train} --validation 0 "
        f"--test {sizes.n_test} --workers 3",
        f"fovea build-trajectories --store d/store --source phantom --expert annotations --looks-max {sizes.looks_max} "
        "--workers 3",
        "fovea audit --store d/store --json",
        f"fovea train --store d/store --recipe tiny --out d/run --set warm.steps={sizes.warm_steps} "
        f"--set run.steps={sizes.grpo_steps} --set run.save_every={sizes.save_every} --set warm.schedule.lr=0.002",
        *(
            f"fovea evaluate --run d/run --store d/store --split test --checkpoint {step} "
            f"--temperature {sizes.temperature} --limit {sizes.n_evaluated} --out d/evaluation-{name}.json"
            for name, step in (("untrained", 0), ("warm", sizes.warm_steps), ("trained", sizes.steps))
        ),
    ]


@pytest.mark.parametrize("sizes", [FULL, SHORT])
def test_sizes_make_sense(sizes: Sizes):
    assert sizes.n_evaluated is None or sizes.n_evaluated <= sizes.n_test
    assert json.loads(json.dumps(sizes.plain())) == sizes.plain()


@pytest.mark.parametrize("sizes", [FULL, SHORT])
def test_the_recipe_takes_the_settings_of_the_demo(sizes: Sizes):
    (train,) = (one for one in steps(Demo(Path("d"), sizes)) if one.name == "train")
    overrides = [value for flag, value in pairwise(train.arguments) if flag == "--set"]
    recipe = load_recipe(sizes.recipe, overrides)
    assert (recipe.warm.steps, recipe.run.steps) == (sizes.warm_steps, sizes.grpo_steps)
    assert recipe.run.temperature == sizes.temperature


def test_a_path_with_a_blank_can_be_pasted():
    assert "--store 'my demo/store'" in steps(Demo(Path("my demo"), SHORT))[0].command


def test_nothing_is_done_in_an_empty_folder(tmp_path: Path):
    plan = Demo(tmp_path / "demo", SIZES)
    assert not any(one.is_done() for one in steps(plan))
    assert not plan.out.exists()


def test_a_step_is_done_when_its_product_is_there(own: Demo):
    assert all(one.is_done() for one in steps(own))
    own.evaluation("warm").write_text('{"checkpoint": "step-0000')
    (own.audit).write_text('{"problems": [{"id": "x"}]}')
    shutil.rmtree(own.run / "checkpoints")
    undone = [one.name for one in steps(own) if not one.is_done()]
    assert undone == ["audit", "train", "evaluate warm start"]


def test_a_begun_run_is_resumed(own: Demo):
    def train() -> str:
        return next(one.command for one in steps(own) if one.name == "train")

    assert not train().endswith("--resume")  # finished
    shutil.rmtree(own.run / "checkpoints")
    assert train().endswith("--resume")
    shutil.rmtree(own.run)
    assert not train().endswith("--resume")


def test_a_finished_demo_only_writes_the_page(own: Demo, commands: Commands):
    done = demo(own.out, SIZES)
    assert commands.names() == []
    assert own.page.exists()
    assert done.seconds == {"train": 12.5}
    assert done.to_json()["accuracy"]["trained"]["accuracy"] == 1.0


def test_what_follows_a_step_that_ran_runs_too(own: Demo, commands: Commands):
    own.evaluation("untrained").unlink()
    done = demo(own.out, SIZES)
    assert commands.names() == ["evaluate"] * 3
    assert done.seconds.keys() == {"train", "evaluate untrained", "evaluate warm start", "evaluate trained"}
    assert json.loads((own.out / "demo.json").read_text())["seconds"] == done.seconds


def test_what_an_audit_prints_is_kept(own: Demo, commands: Commands, finished: Demo):
    own.audit.unlink()
    demo(own.out, SIZES)
    assert commands.names() == ["audit", "train", *["evaluate"] * 3]
    assert json.loads(own.audit.read_text()) == json.loads(finished.audit.read_text())


@pytest.mark.parametrize(("code", "exit_code", "how"), [(2, 2, "exit code 2"), (-9, 137, "killed by signal 9")])
def test_the_first_failure_ends_it_with_its_exit_code(
    own: Demo, commands: Commands, code: int, exit_code: int, how: str
):
    own.evaluation("untrained").unlink()
    own.page.unlink(missing_ok=True)
    commands.fail("evaluate", code)
    with pytest.raises(StepError, match=how) as caught:
        demo(own.out, SIZES)
    assert caught.value.exit_code == exit_code
    assert "fovea evaluate --run" in caught.value.what
    assert caught.value.fix
    assert commands.names() == ["evaluate"]
    assert not own.page.exists()
    commands.fail("", 0)
    demo(own.out, SIZES)  # and goes on where it stopped
    assert own.page.exists()


def test_problems_of_an_audit_end_it_and_are_kept(own: Demo, commands: Commands):
    own.audit.unlink()
    commands.fail("audit", 1)
    with pytest.raises(StepError) as caught:
        demo(own.out, SIZES)
    assert str(own.audit) in caught.value.what
    assert json.loads(own.audit.read_text()) == {"problems": ["x"]}
    assert commands.names() == ["audit"]


def test_other_sizes_and_other_folders_are_refused(own: Demo, commands: Commands, tmp_path: Path):
    with pytest.raises(UsageError, match="other sizes"):
        demo(own.out, replace(SIZES, n_train=13))
    (own.out / "demo.json").write_text("[]")
    with pytest.raises(UsageError, match="not the record of a demo"):
        demo(own.out, SIZES)
    (own.out / "demo.json").unlink()
    with pytest.raises(UsageError, match="no demo"):
        demo(own.out, SIZES)
    assert commands.names() == []


def test_the_command_says_what_came_of_it(own: Demo, commands: Commands, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stage, "SHORT", SIZES)
    app = typer.Typer()
    app.command()(command)
    said = CliRunner().invoke(app, ["--short", "--out", str(own.out)], catch_exceptions=False)
    assert "trained    100.0 % (95 % interval 90.0 to 100.0 %)" in said.stdout
    assert f"page: {own.page}" in said.stdout
    said = CliRunner().invoke(app, ["--short", "--out", str(own.out), "--json"], catch_exceptions=False)
    found = json.loads(said.stdout)
    assert found["page"] == str(own.page)
    assert found["crop_only"]["trained"]["type"] == "pattern"
    assert found["store_digest"] == Store(own.store).head().digest


def test_commands_are_started_from_anywhere(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "build-trajectories" in done.stdout


def test_steps_are_known_by_their_products_alone(tmp_path: Path):
    plan = Demo(tmp_path / "demo", SIZES)
    searched_store(plan)
    names = {one.name: one.is_done() for one in steps(plan)}
    assert names["build trajectories"]
    assert not names["audit"]
    write_results(plan)
    assert all(one.is_done() for one in steps(plan))
