"""Experts by name. One is imported when it is asked for, so that it never loads the libraries of another."""

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module

from schemas.errors import UsageError
from schemas.experts import Expert

EXPERTS = {  # name -> module, class; a class is a frozen dataclass of its settings
    "annotations": ("annotations", "AnnotationsExpert"),
    "hf": ("hf", "HfExpert"),
    "medplib": ("medplib", "MedplibExpert"),
    "openai": ("openai", "OpenAIExpert"),
    "saliency": ("saliency", "SaliencyExpert"),
}


def make_expert(name: str, settings: Mapping[str, object]) -> Expert:
    """The expert `name`; settings it does not have, or values it refuses, are usage errors."""
    if name not in EXPERTS:
        raise UsageError(f"there is no expert {name!r}", fix=f"take one of {', '.join(sorted(EXPERTS))}")
    module, class_name = EXPERTS[name]
    made_of = getattr(import_module(f"pipeline.adapters.experts.{module}"), class_name)
    known = [field.name for field in fields(made_of)]
    if unknown := sorted(set(settings) - set(known)):
        raise UsageError(f"unknown settings {unknown} of expert {name!r}", fix=f"it takes {known}")
    try:
        return made_of(**settings)
    except (TypeError, ValueError) as error:
        raise UsageError(f"expert {name!r} cannot be made: {error}", fix="correct or drop this setting") from error
