"""HTML in which text cannot become markup: whatever is not `Markup` already is escaped when it is put into a tag.

It knows no page, no style and no file; it writes elements, and that is all.
"""

import html
import re

VOID = frozenset(("br", "col", "hr", "img", "input", "link", "meta", "wbr"))  # elements without content or end tag
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # HTML or UTF-8 has no place


class Markup(str):
    """A piece of HTML, made by `tag`, or known to be harmless."""

    __slots__ = ()


def escaped(value: object) -> Markup:
    """`value` as text in an element or a quoted attribute; unprintable characters show as �."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_UNPRINTABLE.sub("\ufffd", str(value)), quote=True))


def joined(*children: object) -> Markup:
    """The children one after another; None is left out."""
    return Markup("".join(escaped(child) for child in children if child is not None))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """`<name …>children</name>`: `class_` is class, `aria_label` is aria-label, None and False leave one out."""
    shown = {key: value for key, value in attributes.items() if value is not None and value is not False}
    written = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in shown.items())
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(*children)}</{name}>")


def _attribute(name: str, value: object) -> str:
    return f" {name}" if value is True else f' {name}="{escaped(value)}"'
