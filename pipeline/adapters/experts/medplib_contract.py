"""The contract between the `medplib` expert and the server beside MedPLIB: both ends hold messages to one JSON Schema.

`medplib_contract.json` is the contract; this reads it, finds the first breach of it, and knows what the schema cannot
say: which words a text may hold, and the frame of boxes. It repairs nothing, and is stricter in one thing than JSON
Schema: 1.0 is no integer. (Endpoints: scan, drill, answer, health.)

MedPLIB's environment runs this file too: Python 3.10, standard library alone.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.boxes import Box, Size
from schemas.frames import from_wire

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
CONTRACT: str = SCHEMA["title"]
NOTED = frozenset(("$schema", "$defs", "title", "description"))  # keywords that check nothing
UNIT: Size = (1, 1)

REGION = "<region></region>"  # only this adjacent pair makes MedPLIB insert the feature of a region
TOKENS = ("<SEG>", "<image>", "<im_start>", "<im_end>", "<im_patch>", "<region>", "</region>", "<mask>", "</mask>")
TOKENS += ("<ref>", "</ref>", "<sr>", "</sr>", "<s>", "</s>", "<unk>")


@dataclass(frozen=True, slots=True)
class Breach:
    """Where a message breaks the schema, and which of its keywords; `finite` is ours: JSON has no NaN to forbid."""

    path: str
    keyword: str
    why: str

    def __str__(self) -> str:
        return f"{self.path or 'the message'} {self.why}"


def breach(message: str, value: object) -> Breach | None:
    """The first breach of the message of that name (`scan_answer` …), in the order of the schema."""
    return next(_breaches(SCHEMA["$defs"][message], value, ""), None)


def text_problem(text: str, *, with_region: bool) -> str | None:
    """Why a text cannot be put to the model: its own tokens would take the reply over, wherever they came from."""
    n_regions = text.count(REGION)
    if n_regions != with_region:
        return f"holds {REGION} {n_regions} times, not {int(with_region)}"
    rest = text.replace(REGION, " ")
    if found := [token for token in TOKENS if token in rest]:
        return f"holds {', '.join(found)}, which the model reads as tokens of its own"
    return None


def to_unit(box_xyxy_px: Box, size: Size) -> Box:
    """Pixels of an image → fractions of it."""
    return from_wire(box_xyxy_px, UNIT, size)


def from_unit(box_xyxy_norm: Box, size: Size) -> Box:
    """Fractions of an image → its pixels; ValueError for an empty or inverted box."""
    return from_wire(box_xyxy_norm, size, UNIT)


def _breaches(schema: dict[str, Any], value: object, path: str) -> Iterator[Breach]:
    if "$ref" in schema:
        yield from _breaches(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], value, path)
        return
    if why := _wrong_type(schema["type"], value):
        yield Breach(path, *why)
        return
    for keyword, limit in schema.items():
        if keyword not in NOTED and keyword != "type":
            yield from CHECKS[keyword](schema, limit, value, path)


def _wrong_type(kind: str, value: Any) -> tuple[str, str] | None:
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
    if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return "type", f"is no {kind}"
    if isinstance(value, float) and not math.isfinite(value):
        return "finite", f"is {value}"
    return None


def _properties(_schema: dict, limit: dict, value: dict, path: str) -> Iterator[Breach]:
    for name, inner in limit.items():
        if name in value:
            yield from _breaches(inner, value[name], f"{path}.{name}".lstrip("."))


def _required(_schema: dict, limit: list, value: dict, path: str) -> Iterator[Breach]:
    for name in limit:
        if name not in value:
            yield Breach(f"{path}.{name}".lstrip("."), "required", "is missing")


def _additional(schema: dict, _limit: bool, value: dict, path: str) -> Iterator[Breach]:
    for name in sorted(set(value) - set(schema["properties"])):
        shown = name[:40].encode("ascii", "backslashreplace").decode()
        yield Breach(f"{path}.{shown}".lstrip("."), "additionalProperties", "is not in the contract")


def _items(_schema: dict, limit: dict, value: list, path: str) -> Iterator[Breach]:
    for index, item in enumerate(value):
        yield from _breaches(limit, item, f"{path}[{index}]")


def _bound(keyword: str, words: str) -> Any:
    is_low, counts = keyword.startswith("min"), not keyword.endswith("imum")

    def check(_schema: dict, limit: float, value: Any, path: str) -> Iterator[Breach]:
        size = len(value) if counts else value
        if size < limit if is_low else size > limit:
            yield Breach(path, keyword, words.format(limit))

    return check


CHECKS: dict[str, Any] = {
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,  # only ever false
    "items": _items,
    "minimum": _bound("minimum", "is below {}"),
    "maximum": _bound("maximum", "is above {}"),
    "minItems": _bound("minItems", "has fewer than {} items"),
    "maxItems": _bound("maxItems", "has more than {} items"),
    "minLength": _bound("minLength", "has fewer than {} characters"),
    "maxLength": _bound("maxLength", "has more than {} characters"),
}
