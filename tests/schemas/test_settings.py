"""Settings are of their fields' types or refused; recipes test the rest, with every setting there is."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from schemas.errors import UsageError
from schemas.settings import override, settings_of, toml, typed


@dataclass(frozen=True)
class Inner:
    share: float = 0.5
    kind: Literal["one", "two"] = "one"

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ValueError(f"share must be at most 1, got {self.share}")


@dataclass(frozen=True)
class Outer:
    name: str = ""
    sizes: tuple[int, ...] = ()
    limit: float | None = None
    inner: Inner = field(default_factory=Inner)


def test_tables_become_records():
    plain = toml('name = "x"\nsizes = [1, 2]\nlimit = 3\n[inner]\nkind = "two"\n', "here")
    override(plain, "inner.share = 0.25")
    assert settings_of(Outer, plain, "here") == Outer("x", (1, 2), 3.0, Inner(0.25, "two"))
    assert type(settings_of(Outer, plain, "here").limit) is float
    assert settings_of(Outer, {}, "here") == Outer()


@pytest.mark.parametrize(
    ("plain", "what", "where"),
    [
        ({"nam": "x"}, r"unknown keys \['nam'\]; this table takes \['name', 'sizes', 'limit', 'inner'\]", "here"),
        ({"inner": {"share": 2}}, "share must be at most 1, got 2.0", "here: inner"),
        ({"inner": {"kind": "three"}}, "'three' is not one of one, two", "here: inner: kind"),
        ({"inner": 3}, "expected a table, got 3", "here: inner"),
        ({"sizes": [1, "2"]}, "expected int, got '2'", "here: sizes"),
        ({"sizes": 1}, "expected a list, got 1", "here: sizes"),
        ({"limit": "3"}, "expected float or nothing, got '3'", "here: limit"),
        ({"limit": float("nan")}, "expected float or nothing, got nan", "here: limit"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(plain, what, where):
    with pytest.raises(UsageError, match=what) as raised:
        settings_of(Outer, plain, "here")
    assert raised.value.where == where


@pytest.mark.parametrize(
    ("hint", "value", "found"),
    [
        (float, 3, 3.0),
        (float | None, 3, 3.0),
        (float | None, None, None),
        (int | None, 3, 3),
        (int | float, 3, 3),
        (tuple[float, ...], [1, 2.5], (1.0, 2.5)),
    ],
)
def test_a_value_is_of_its_type(hint, value, found):
    assert (typed(hint, value), type(typed(hint, value))) == (found, type(found))


@pytest.mark.parametrize(("hint", "value"), [(int, True), (bool, 1), (int, 2.0), (float, 10**400), (str | None, 3)])
def test_nothing_is_taken_for_something_else(hint, value):
    with pytest.raises(ValueError, match="expected"):
        typed(hint, value)


def test_text_that_is_no_toml_is_refused():
    with pytest.raises(UsageError, match="not TOML"):
        toml("[run", "here")
