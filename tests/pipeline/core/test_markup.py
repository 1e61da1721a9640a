"""Text stays text wherever it is put, and tags come out as HTML has them."""

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.markup import Markup, escaped, joined, tag


class Read(HTMLParser):
    """What a parser of HTML finds: tags, attributes of the first, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.first: dict[str, str | None] = {}
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.first = self.first or dict(attrs)
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


texts = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("<>&\"'/=\n`"))


@settings(max_examples=200, deadline=None)
@given(inside=texts, attribute=texts)
def test_text_never_becomes_markup(inside: str, attribute: str):
    read = Read(tag("p", inside, title=attribute))
    assert read.tags == ["p"]
    assert read.text == inside
    assert read.first == {"title": attribute}


@pytest.mark.parametrize(
    ("made", "written"),
    [
        (tag("p"), "<p></p>"),
        (tag("br"), "<br>"),
        (tag("p", "a", None, 1, tag("b", "<")), "<p>a1<b>&lt;</b></p>"),
        (tag("td", class_="number", aria_label="x", colspan=2), '<td class="number" aria-label="x" colspan="2"></td>'),
        (tag("p", hidden=True, title=None, lang=False), "<p hidden></p>"),
        (tag("svg", viewBox="0 0 1 1"), '<svg viewBox="0 0 1 1"></svg>'),
        (joined("<", Markup("<b>"), None), "&lt;<b>"),
        (escaped("a\x10b\ud800\n"), "a\ufffdb\ufffd\n"),  # neither a control character nor half a character
    ],
)
def test_written(made: Markup, written: str):
    assert made == written
    made.encode()
