"""What the server beside MedPLIB has answered becomes `Seen`, or a `Failure` that says which promise it broke.

Confidence of a scan: the score the server gives each region, mean mask probability inside times predicted IoU. Of a
drill: p_yes / (p_yes + p_no) at the first word. A region's box is believed only where it is the tight box of its mask,
if that is sent. One bad region spoils its answer: a server that breaks the contract once is not believed in part.
No number is made up.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from pipeline.adapters.experts.grounding import NAMELESS, plain
from pipeline.adapters.experts.masks import box_of, decoded
from pipeline.adapters.experts.medplib_contract import breach, from_unit
from pipeline.adapters.experts.readings import WORDS_CHARS_MAX
from pipeline.adapters.experts.token_odds import YES_NO_MASS_MIN, Odds
from schemas.boxes import Box, Size
from schemas.experts import Candidate, Drill, Failure, Seen
from schemas.frames import from_wire

RAW_CHARS_MAX = 2000  # of an answer that is not believed
_TOKEN = re.compile(r"</?\w+>")
Reply = Mapping[str, Any]


def kept_to(message: str, reply: Reply) -> Failure | None:
    """Why a reply is no message of that name; None where it is one."""
    broken = breach(message, reply)
    if broken is None:
        return None
    is_box = ".box_xyxy_norm[" in f".{broken.path}" and broken.keyword in ("minimum", "maximum")
    error_class = "nan" if broken.keyword == "finite" else "out_of_frame" if is_box else "wrong_schema"
    return _failure(error_class, str(broken), reply)


def scan_answer(reply: Reply, regions_max: int, shown: Size, stored: Size) -> Seen | Failure:
    """Candidates as they were given, in stored pixels, from a reply that keeps to the schema."""
    regions = reply["regions"]
    if len(regions) > regions_max:
        return _failure("wrong_schema", f"{len(regions)} regions, where {regions_max} were asked for", reply)
    if regions and not reply["seg_emitted"]:
        return _failure("contradiction", "regions, although the model wrote no <SEG>", reply)
    if reply["seg_emitted"] and not regions:
        return _failure("empty_mask", "the model wrote <SEG>, and its mask is empty", reply)
    for number, region in enumerate(regions):
        if wrong := _wrong_region(region, shown):
            return _failure(wrong[0], f"regions[{number}]: {wrong[1]}", reply)
    found = ((from_wire(tuple(each["box_xyxy_norm"]), stored, (1, 1)), each["score"]) for each in regions)
    candidates = tuple(Candidate(box, NAMELESS, float(score)) for box, score in found)
    words = _words(reply["raw_text"]) or ("a region is marked" if regions else "nothing is marked")
    return Seen(candidates, words, raw_of(reply))


def drill_answer(reply: Reply, query: Drill) -> Seen | Failure:
    """The region asked about with its new confidence; no box is refined."""
    odds = Odds(reply["p_yes"], reply["p_no"])
    if odds.yes + odds.no > 1 + 1e-4:
        return _failure("contradiction", "p_yes and p_no together are more than 1", reply)
    if odds.yes + odds.no < YES_NO_MASS_MIN:
        return _failure("no_yes_or_no", "the reply begins neither with yes nor with no", reply)
    candidate = Candidate(query.box_xyxy_px, query.label, odds.share)
    return Seen((candidate,), _words(reply["text"]) or "no word", raw_of(reply))


def raw_of(reply: Reply) -> str:
    """The reply as JSON, without the time it took: the same answer is the same bytes."""
    return json.dumps({name: value for name, value in reply.items() if name != "latency_ms"}, sort_keys=True)


def _wrong_region(region: Reply, shown: Size) -> tuple[str, str] | None:
    try:
        box = from_unit(tuple(region["box_xyxy_norm"]), shown)
    except ValueError:
        return "inverted", "the box is empty or inverted"
    return _wrong_mask(region, box, shown) if "mask_rle" in region else None


def _wrong_mask(region: Reply, box_xyxy_px: Box, shown: Size) -> tuple[str, str] | None:
    try:
        mask = decoded(region["mask_rle"], shown)
    except ValueError as error:
        return "wrong_mask", str(error)
    if not mask.any():
        return "empty_mask", "the mask is empty"
    if max(abs(one - other) for one, other in zip(box_of(mask), box_xyxy_px, strict=True)) > 1e-3:
        return "wrong_mask", "the box is not that of the mask"
    if int(mask.sum()) != region["area"]:
        return "wrong_mask", "the area is not that of the mask"
    return None


def _words(text: str) -> str:
    return plain(_TOKEN.sub(" ", text), WORDS_CHARS_MAX)


def _failure(error_class: str, message: str, reply: Reply) -> Failure:
    return Failure(error_class, message, raw_of(reply)[:RAW_CHARS_MAX])
