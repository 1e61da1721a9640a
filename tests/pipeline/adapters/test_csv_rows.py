"""CSV as it is found: marks, line ends, quotes and broken files."""

import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.sources import csv_rows
from pipeline.adapters.sources.drafts import Problem
from schemas.errors import InputError


def rows_of(tmp_path, data, needs=()):
    path = tmp_path / "rows.csv"
    path.write_bytes(data)
    return list(csv_rows.rows(path, needs))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_marks_line_ends_quotes_and_empty_lines(tmp_path, mark, newline):
    lines = [b" a ,b", b'1,"two, and"', b"", '"it says ""yes""",é'.encode(), b'"one\r\nmore", 2 ']
    found = rows_of(tmp_path, mark + newline.join(lines) + newline)
    assert found == [
        (0, {"a": "1", "b": "two, and"}),
        (1, {"a": 'it says "yes"', "b": "é"}),
        (2, {"a": "one\r\nmore", "b": " 2 "}),
    ]


def test_a_row_of_another_length_is_a_problem_and_keeps_its_number(tmp_path):
    found = rows_of(tmp_path, b"a,b\n1,2\n1\n1,2,3\n3,4\n")
    assert [number for number, _ in found] == [0, 1, 2, 3]
    assert found[1][1] == Problem("malformed_row", "1 cells, the header has 2")
    assert found[2][1] == Problem("malformed_row", "3 cells, the header has 2")


@pytest.mark.parametrize(
    ("data", "needs", "what"),
    [
        (b"", (), "empty"),
        (b"a,b\n1,2\n", ("c",), "'c'] are missing"),
        (b"a,b\n1,2\n", (("Answer", "Anwser"),), "Answer or Anwser"),
        (b"a,b,a\n1,2,3\n", (), "occur twice"),
        (b'a,b\n1,"2\n3,4\n', (), "unexpected end of data"),  # it would swallow the rest of the file
        (b'a,b\n1,"2"x\n', (), "line 2"),
        (b"a,b\n1,\xff\n", (), "decode"),
        (b'a,b\n1,"' + b"x" * (1 << 20) + b'x"\n', (), "field limit"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path, data, needs, what):
    with pytest.raises(InputError, match="(?i)" + what.replace("[", r"\[").replace("]", r"\]")) as caught:
        rows_of(tmp_path, data, needs)
    assert caught.value.where == str(tmp_path / "rows.csv")


def test_one_of_several_names_will_do_and_a_missing_file_is_said(tmp_path):
    assert rows_of(tmp_path, b"Anwser\nx\n", (("Answer", "Anwser"),)) == [(0, {"Anwser": "x"})]
    with pytest.raises(InputError, match="No such file"):
        list(csv_rows.rows(tmp_path / "none.csv"))


cells = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12)


@given(table=st.lists(st.tuples(cells, cells), max_size=8))
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("a", "b"), *table])
    assert [row for _, row in csv_rows.rows(path)] == [{"a": a, "b": b} for a, b in table]
