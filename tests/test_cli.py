"""What people and programs meet: help that is light and right, one object on stdout, errors without traceback."""

import contextlib
import json
import os
import pty
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer

import cli
from tests.processes import ROOT, fovea, run, start

HEAVY = ["torch", "transformers", "datasets", "duckdb"]
SMALL = ("phantom", "--train", 3, "--test", 1, "--side-px", 112)


def installed(*arguments: object) -> list[str]:
    """The command line of the installed console script: what its two lines do."""
    text = "import sys; from cli import main; sys.argv[0] = 'fovea'; sys.exit(main())"
    return [sys.executable, "-c", text, *map(str, arguments)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "store"
    fovea("ingest", *SMALL, "--store", root, check=True)
    fovea("build-trajectories", "--source", "phantom", "--expert", "annotations", "--store", root, check=True)
    return root


HELP = """
import contextlib, io, json, sys
import cli
told = {}
for name in [None, *cli.COMMANDS]:
    sys.argv = ["fovea", *filter(None, [name]), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            cli.main()
        except SystemExit as end:
            told[name or ""] = [end.code, out.getvalue()]
print(json.dumps({"told": told, "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def helped() -> dict:
    """Exit code and text of every --help, and all modules loaded after the last of them."""
    made = run([sys.executable, "-W", "error", "-c", HELP], cwd=ROOT, check=True)
    return json.loads(made.stdout)


def test_help_lists_every_command(helped: dict):
    code, text = helped["told"][""]
    assert code == 0
    assert all(re.search(rf"^  {name} +\S", text, re.MULTILINE) for name in cli.COMMANDS)
    assert "Not for clinical use" in text


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_of_a_command_has_an_example_that_would_be_accepted(name: str, helped: dict):
    code, text = helped["told"][name]
    assert (code, text.startswith(f"Usage: fovea {name} ")) == (0, True)
    examples = re.findall(r"^ +Example: fovea (.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert len(examples) == 1
    words = shlex.split(examples[0])
    assert words[0] == name
    group = typer.main.get_command(cli.app)
    with group.make_context("fovea", [name]) as context:
        group.get_command(context, name).make_context(name, words[1:])  # parses, checks, and calls nothing


def test_help_is_light(helped: dict):
    assert set(helped["modules"]).isdisjoint(HEAVY)


@pytest.mark.parametrize("line", [lambda *words: [sys.executable, str(ROOT / "cli.py"), *words], installed])
def test_both_ways_in_are_the_same(line, tmp_path: Path):
    made = run(line("audit", "--store", str(tmp_path)), cwd=ROOT)
    assert (made.returncode, made.stdout) == (1, "")
    assert made.stderr == (
        f"error no store here\n  where: {tmp_path}\n  fix:   make one: fovea ingest phantom --store {tmp_path}\n"
    )
    wrong = run(line("audit", "--nope"), cwd=ROOT)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("Usage: fovea audit [OPTIONS]\n")
    assert "No such option: --nope" in wrong.stderr
    good = run(line("--help"), cwd=ROOT)
    assert (good.returncode, good.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("nothing",), 2, "No such command 'nothing'"),
        (("ingest", "phantom"), 2, "Missing option '--store'"),
        (("ingest", "phantom", "--store", "{tmp}", "--workers", "0"), 2, "Invalid value for '--workers'"),
        (("ingest", "nothing", "--store", "{tmp}"), 2, "error unknown source 'nothing'"),
        (("ingest", "phantom", "--store", "memory://store"), 2, "error stores on memory:// can be read but not"),
        (("ingest", "phantom", "--store", "s3://a:secret@b/c"), 2, "error the s3:// URL of a store has no place for"),
        (("ingest", "phantom", "--store", "{file}"), 2, "error a store is a folder or a URL"),
        (("ingest", "phantom", "--store", "{tmp}", "--train", "0", "--test", "0", "--validation", "0"), 1, "no rows"),
        (("ingest", "vqa-rad", "--store", "{tmp}", "--root", "{tmp}"), 1, "error no VQA-RAD here"),
        (("sql", "SELECT 1", "--store", "{tmp}"), 1, "error no store here"),
        (("gc", "--store", "{tmp}", "--delete"), 1, "error no store here"),
        (("gc", "--store", "{tmp}", "--grace-h", "-1"), 2, "Invalid value for '--grace-h'"),
        (("audit", "--store", "{store}", "--version", "v9"), 1, "no version v9 here; there are: v1, v2"),
        (("audit", "--store", "{store}", "--version", "main"), 1, "no versions have digest 'main'"),
    ],
)
def test_a_failure_says_what_and_exits_1_or_2(
    words: tuple[str, ...], code: int, what: str, store: Path, tmp_path: Path
):
    places = {"tmp": tmp_path / "empty", "file": tmp_path / "file", "store": store}
    (tmp_path / "file").touch()
    places["tmp"].mkdir()
    made = fovea(*(word.format(**places) for word in words))
    assert (made.returncode, made.stdout) == (code, "")
    assert what in made.stderr
    assert "Traceback" not in made.stderr
    assert list(places["tmp"].iterdir()) == []


def test_a_bug_keeps_its_traceback(store: Path):
    text = "import cli, schemas.reader as r; r.Store.versions = lambda self: 1 / 0; cli.main()"
    made = run([sys.executable, "-c", text, "audit", "--store", str(store)], cwd=ROOT)
    assert made.returncode == 1
    assert "Traceback" in made.stderr
    assert "ZeroDivisionError" in made.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("ingest", *map(str, SMALL)),
        ("build-trajectories", "--source", "phantom", "--expert", "annotations"),
        ("audit",),
        ("sql", "SELECT count(*) AS n FROM images"),
        ("gc",),
    ],
    ids=lambda words: words[0],
)
def test_stdout_is_exactly_one_json_object(words: tuple[str, ...], store: Path):
    made = fovea(*words, "--store", store, "--json")
    assert made.returncode == 0
    assert isinstance(json.loads(made.stdout), dict)
    assert made.stdout.count("\n") == 1
    assert made.stderr == ""


def test_a_broken_part_fails_the_audit_with_1(store: Path, tmp_path: Path):
    copy = tmp_path / "store"
    run(["cp", "-r", str(store), str(copy)], check=True)
    broken = next((copy / "data" / "images").rglob("*.parquet"))
    broken.write_bytes(broken.read_bytes()[:-1])
    made = fovea("audit", "--store", copy, "--json")
    assert made.returncode == 1
    assert json.loads(made.stdout)["problems"][0]["id"] == "part_files"


def seen_on_a_terminal(*words: object) -> str:
    """What a command writes to a stderr that is a terminal."""
    ours, theirs = pty.openpty()
    with start(*words, stderr=theirs) as command, open(ours, "rb") as terminal:
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # EIO: the command has ended
            while data := os.read(terminal.fileno(), 4096):
                text += data
        assert command.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode())


def test_progress_is_for_terminals(tmp_path: Path):
    line = ("ingest", *SMALL, "--store")
    assert "rows/s" not in fovea(*line, tmp_path / "silent").stderr
    text = seen_on_a_terminal(*line, tmp_path / "seen")
    assert re.search(r"ingest/phantom/default \S+ 24/24 [0-9,.]+ rows/s, 0:00:00 left", text)


def test_reused_rows_do_not_flatter_the_rate(store: Path):
    assert "24/24 – rows/s" in seen_on_a_terminal("ingest", *SMALL, "--store", store)
