"""Settings of an expert arrive from a command line as JSON values: each is of the type of its field, or refused.

Ranges and meanings are the expert's own business.
"""

from dataclasses import fields
from typing import Any, get_args


def check_types(settings: Any) -> None:
    """ValueError unless every field of a frozen dataclass holds its type; a whole number becomes a float where one is.

    So that 0 and 0.0 are one setting, and no text stands where `True` is meant.
    """
    for each in fields(settings):
        object.__setattr__(settings, each.name, _typed(each.name, getattr(settings, each.name), each.type))


def _typed(name: str, value: object, kind: Any) -> object:
    kinds = get_args(kind) or (kind,)
    if type(value) is int and float in kinds:
        return float(value)
    if type(value) not in kinds:
        raise ValueError(f"{name} cannot be {value!r}")
    return value
