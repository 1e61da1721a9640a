"""Settings of an expert as a command line gives them, over what it has to know of the source."""

import json as jsonlib
from collections.abc import Sequence
from typing import Any

from schemas.errors import UsageError

RADIOLOGY = ("chexpert", "ms-cxr", "nih-cxr14", "rsna-pneumonia", "slake", "vindr-cxr", "vqa-rad")
EXPERT_DEFAULTS = {  # what an expert has to know of a source
    ("annotations", "phantom"): {"view_px": 112},  # the input of the policy that the phantom is made for
    **{("annotations", source): {"sides_of": "patient"} for source in RADIOLOGY},
}


def expert_settings(pairs: Sequence[str], expert: str, source: str) -> tuple[tuple[str, Any], ...]:
    """The settings of name=value pairs, values read as JSON where they are any; UsageError for another form."""
    settings = dict(EXPERT_DEFAULTS.get((expert, source), {}))
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--expert-set {pair!r} is not name=value", fix="for example --expert-set view_px=112")
        try:
            settings[name] = jsonlib.loads(value)
        except ValueError:
            settings[name] = value
    return tuple(sorted(settings.items()))
