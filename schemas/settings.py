"""Settings: plain values, as TOML or a command line gives them, to small frozen dataclasses.

A value is of the type of its field or refused, and so is a key that nobody knows. Ranges and meanings are the
dataclass's own business, which raises ValueError.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from schemas.errors import UsageError


def toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"not TOML: {error}", where=where) from error


def override(plain: dict[str, Any], said: str) -> None:
    """Set one value in tables: `section.key=value`, the value in TOML's spelling, or a bare word."""
    name, equals, value = said.partition("=")
    *sections, key = name.strip().split(".")
    if not equals or not sections:
        raise UsageError(f"--set {said!r} is not section.key=value", fix="for example --set run.steps=50")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a bare word is a string
    for section in sections:
        plain = plain.setdefault(section, {})
        if not isinstance(plain, dict):
            raise UsageError(f"--set {said!r}: {section} is a value, not a table of settings")
    plain[key] = parsed


def settings_of(kind: type, plain: Mapping[str, Any], where: str) -> Any:
    """The dataclass `kind` from a table of its fields, tables of tables included; UsageError says which was wrong."""
    hints, names = get_type_hints(kind), [one.name for one in fields(kind)]
    if unknown := sorted(plain.keys() - set(names)):
        raise UsageError(f"unknown keys {unknown}; this table takes {names}", where=where)
    try:
        return kind(**{name: _read(hints[name], value, f"{where}: {name}") for name, value in plain.items()})
    except (TypeError, ValueError) as error:
        raise UsageError(str(error), where=where) from error


def typed(hint: Any, value: Any) -> Any:
    """`value` where it is what `hint` says, a list as a tuple and a whole number as a float; else ValueError."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{value!r} is not one of {', '.join(map(str, get_args(hint)))}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"expected a list, got {value!r}")
        return tuple(typed(get_args(hint)[0], one) for one in value)
    if float in kinds and int not in kinds and type(value) is int and abs(value) <= 2**53:
        value = float(value)  # a larger int has no float of its own
    if type(value) not in kinds or (type(value) is float and not math.isfinite(value)):
        wanted = " or ".join("nothing" if kind is NoneType else kind.__name__ for kind in kinds)
        raise ValueError(f"expected {wanted}, got {value!r}")
    return value


def _read(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise UsageError(f"expected a table, got {value!r}", where=where)
        return settings_of(hint, value, where)
    try:
        return typed(hint, value)
    except ValueError as error:
        raise UsageError(str(error), where=where) from error
