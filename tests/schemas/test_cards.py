"""The data cards in the repository say what the schema says."""

from pathlib import Path

import pytest

from schemas.cards import card
from schemas.tables import TABLES

CARDS = Path(__file__).parents[2] / "data_cards"


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_card_is_what_its_table_generates(name):
    assert (CARDS / f"{name}.md").read_text("utf-8") == card(TABLES[name]), "run: python -m schemas.cards data_cards"


def test_there_is_no_card_without_a_table():
    assert {path.stem for path in CARDS.glob("*.md")} == set(TABLES)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_column_is_described_in_words(name):
    assert all(len(column.description) >= 5 for column in TABLES[name].columns)
