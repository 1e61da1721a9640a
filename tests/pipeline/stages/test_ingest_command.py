"""What the command line cannot mean is told before anything is fetched, read or written."""

from pathlib import Path

import pytest

from tests.processes import fovea

HUB = ("--hub", "default")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (("slake", *HUB, "--frames"), "does not take --frames"),
        (("slake", *HUB, "--split-by", "reader"), "by image or patient"),
        (("phantom", *HUB), "reads no folder"),
        (("nope", *HUB), "unknown source"),
        (("slake", *HUB, "--root", "x"), "two places"),
        (("slake", "--root", "x", "--hub-revision", "main"), "--hub-revision"),
        (("control", "--of", "slake", "--kind", "blank", "--root", "x"), "a control copies a slice"),
        (("control", "--of", "slake", "--kind", "blank", "--split-by", "image"), "a control copies a slice"),
        (("phantom", "--name", ""), "cannot be called"),
        (("phantom", "--name", "a/b"), "cannot be called"),
        (("phantom", "--name", "all*"), "cannot be called"),
    ],
)
def test_wrong_usage_costs_nothing(line: tuple[str, ...], what: str, tmp_path: Path):
    told = fovea("ingest", *line, "--store", tmp_path / "store")
    assert (told.returncode, what in told.stderr) == (2, True), told.stderr
    assert not (tmp_path / "store").exists()
