"""Options in columns: letters off, gaps refused, the gold by letter or by text."""

import pytest

from pipeline.adapters.sources import option_cells
from pipeline.adapters.sources.drafts import Problem

UPTAKE = ("Diffuse uptake pattern", "Focal uptake pattern", "No uptake pattern", "Cannot be told")


@pytest.mark.parametrize(
    ("cells", "lettered", "options"),
    [
        ((" A:Diffuse ", "B: Focal", " C :None", "D:\tboth "), True, ("Diffuse", "Focal", "None", "both")),
        (("B:Diffuse", "Focal", "C:x", "D:y"), True, ("B:Diffuse", "Focal", "x", "y")),  # not its own letter
        (("A: A: x", "B:y", "C:z", "D:A"), True, ("A: x", "y", "z", "A")),
        (("A:x", "B:y", "C:z", "D:w"), False, ("A:x", "B:y", "C:z", "D:w")),
        (("Yes", "No", None, ""), False, ("Yes", "No")),
        ((1, 2.5, "x"), False, ("1", "2.5", "x")),
    ],
)
def test_options_of(cells, lettered, options):
    assert option_cells.options_of(cells, lettered=lettered) == options


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("A:x", "B: ", "C:z", "D:w"), "option B"),
        (("A:x", "B:", "C:", " D: "), "1 options"),
        ((None, "", "  ", None), "0 options"),
        (("x", None, "z"), "option B"),
    ],
)
def test_a_gap_or_too_few_is_a_problem(cells, message):
    found = option_cells.options_of(cells, lettered=True)
    assert isinstance(found, Problem)
    assert message in found.message


@pytest.mark.parametrize("label", ["B", " b ", "B:", "(B)", "B."])
def test_by_label(label):
    assert option_cells.by_label(label, UPTAKE) == "Focal uptake pattern"


@pytest.mark.parametrize("label", ["", "E", "AB", "Focal uptake pattern", "2"])
def test_a_label_without_an_option_is_a_problem(label):
    assert isinstance(option_cells.by_label(label, UPTAKE), Problem)


@pytest.mark.parametrize(
    ("answer", "options", "gold"),
    [
        ("Focal uptake pattern", UPTAKE, "Focal uptake pattern"),
        (" focal  uptake pattern. ", UPTAKE, "Focal uptake pattern"),
        ("Yes", ("No", "Yes", "Yes"), "B"),  # a text of two options: the letter of the first
        ("No", ("Yes", "No.", "No"), "C"),  # equality goes first; once normalised the texts are one
        ("C", ("B", "C", "A"), "B"),  # a text that reads as another letter
    ],
)
def test_by_text(answer, options, gold):
    assert option_cells.by_text(answer, options) == gold


@pytest.mark.parametrize(
    ("answer", "options"),
    [("Nothing", UPTAKE), ("", UPTAKE), ("YES", ("Yes", "yes", "No"))],  # the last fits two and equals none
)
def test_a_text_that_names_no_option_or_several_is_a_problem(answer, options):
    assert isinstance(option_cells.by_text(answer, options), Problem)
