"""The registry of sources: options are refused by the name people typed, and every source has its card and licence."""

import re

import pytest

from pipeline.adapters.sources.licences import REDISTRIBUTABLE, may_pass_on
from pipeline.stages.sources import SOURCES, flag, make_source
from schemas.errors import UsageError
from tests.processes import ROOT, fovea

SECTIONS = (
    *("What it is", "Access and terms", "Citation", "Counts"),
    *("How fovea reads it", "Known leakage", "Quirks"),
)


def card_of(name: str) -> tuple[dict[str, str], list[str]]:
    """Front matter and headings of a card."""
    text = (ROOT / "data_cards" / "sources" / f"{name}.md").read_text("utf-8")
    _, front, body = text.split("---\n", 2)
    return dict(line.split(": ") for line in front.splitlines()), re.findall(r"^## (.+)$", body, re.MULTILINE)


def test_every_source_has_a_card_and_every_card_a_source():
    cards = {path.stem for path in (ROOT / "data_cards" / "sources").glob("*.md")}
    assert cards == set(SOURCES)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_card_says_what_the_code_does(name: str):
    front, headings = card_of(name)
    licence = SOURCES[name].make.licence
    assert front["licence"] == licence
    assert licence in REDISTRIBUTABLE
    assert front["redistributable"] == ("yes" if may_pass_on(licence) else "no")
    assert headings == list(SECTIONS)


def test_an_unknown_licence_allows_nothing():
    assert not may_pass_on("whatever")


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_options_are_settings_of_the_source(name: str):
    assert SOURCES[name].options <= set(SOURCES[name].make.__dataclass_fields__)


@pytest.mark.parametrize(
    ("name", "root", "options", "what"),
    [
        ("nope", None, {}, "unknown source"),
        ("slake", None, {}, "is read from a folder"),
        ("phantom", "x", {}, "reads no folder"),
        ("slake", "x", {"n_train": 3, "version": "v1"}, "does not take --train, --release"),
    ],
)
def test_wrong_usage_is_told_in_the_words_of_the_command_line(name, root, options, what):
    with pytest.raises(UsageError, match=what):
        make_source(name, root, options)


def test_every_option_is_one_of_the_command():
    text = fovea("ingest", "--help", check=True).stdout
    for entry in SOURCES.values():
        assert all(flag(option) in text for option in entry.options)
