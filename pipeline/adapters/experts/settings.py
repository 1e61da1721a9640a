"""Settings of an expert arrive from a command line as JSON values: each is of the type of its field, or refused.

Ranges and meanings are the expert's own business.
"""

from dataclasses import fields
from typing import Any

from schemas.settings import typed


def check_types(settings: Any) -> None:
    """ValueError unless every field of a frozen dataclass holds its type; a whole number becomes a float where one is.

    So that 0 and 0.0 are one setting, and no text stands where `True` is meant.
    """
    for each in fields(settings):
        value = getattr(settings, each.name)
        try:
            object.__setattr__(settings, each.name, typed(each.type, value))
        except ValueError as error:
            raise ValueError(f"{each.name} cannot be {value!r}: {error}") from error
