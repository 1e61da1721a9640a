"""Every rule about trajectories notices one stored value that breaks it, and names the row or the step."""

from collections.abc import Callable
from typing import Any

import pytest
from small_stores import SEARCHED, keys_of, tampered

from schemas.reader import Store

Rows = list[dict[str, Any]]


def step_where(rows: Rows, origin: str, fits: Callable[[dict[str, Any], int], bool]) -> tuple[dict[str, Any], int]:
    return next(
        (row, step)
        for row in rows
        if row["origin"] == origin
        for step in range(len(row["step_mode"]))
        if fits(row, step)
    )


def walk_key(row: dict[str, Any]) -> str:
    return f"{SEARCHED} {row['question_id']} {row['origin']} variant {row['variant']}"


def is_first_drill(row: dict[str, Any], step: int) -> bool:
    return row["step_mode"][step] == "drill" and row["step_round"][step] == 1


def is_second_round(row: dict[str, Any], step: int) -> bool:
    return row["step_round"][step] == 2


def goes_on(row: dict[str, Any], step: int) -> bool:
    return step + 1 < len(row["step_round"]) and row["step_round"][step + 1] == 2


def is_choice(row: dict[str, Any], step: int) -> bool:
    return len(row["step_candidates"][step]) > 1


def is_wide_choice(row: dict[str, Any], step: int) -> bool:
    return len(row["step_nucleus"][step]) > 1


def is_clipped_choice(row: dict[str, Any], step: int) -> bool:
    return len(row["step_candidates"][step]) > 2 and len(row["step_nucleus"][step]) == 1


def is_first_step(row: dict[str, Any], step: int) -> bool:
    return step == 0


def is_free_look(row: dict[str, Any], step: int) -> bool:
    return is_first_drill(row, step) and row["step_look_x0"][step] > 0


def gain(row: dict[str, Any], step: int) -> float:
    before, after = row["step_conf_before"][step], row["step_conf_after"][step]
    return (after - before) / (before + 1e-6)


def change(
    column: str, value: Any, *, origin: str = "grn", fits: Any = is_first_drill, of_row: bool = False, back: int = 0
) -> Callable[[Rows], str]:
    """An edit of one entry of a step column, named by its step, the step `back` before it, or its row.

    `value` may be a function of the old one.
    """

    def edit(rows: Rows) -> str:
        row, step = step_where(rows, origin, fits)
        row[column][step] = value(row[column][step]) if callable(value) else value
        return walk_key(row) if of_row else f"{walk_key(row)} step {step - back}"

    return edit


def change_row(column: str, value: Any, **fits: Any) -> Callable[[Rows], str]:
    """An edit of a whole column of the first row that has these values; GRN rows unless they say otherwise."""

    def edit(rows: Rows) -> str:
        fit = {"origin": "grn", **fits}
        row = next(row for row in rows if all(row[name] == wanted for name, wanted in fit.items()))
        row[column] = value(row[column]) if callable(value) else value
        return walk_key(row)

    return edit


def change_rule(column: str, value: float, fits: Any) -> Callable[[Rows], str]:
    """An edit of a number that a row was decided with, named by the first step whose decision it changes."""

    def edit(rows: Rows) -> str:
        row, step = step_where(rows, "grn", fits)
        row[column] = value
        return f"{walk_key(row)} step {step}"

    return edit


def reset_gain(row: dict[str, Any], step: int, after: float) -> None:
    row["step_conf_after"][step] = after
    row["step_delta_c"][step] = gain(row, step)


def stop_gaining(rows: Rows) -> str:
    """The first round no longer gains enough, but the second still follows."""
    row, step = step_where(rows, "grn", goes_on)
    reset_gain(row, step, row["step_conf_before"][step] * 1.1)
    row["step_conf_before"][step + 1] = row["step_conf_after"][step]
    reset_gain(row, step + 1, row["step_conf_after"][step + 1])
    return f"{walk_key(row)} step {step}"


def already_confident(rows: Rows) -> str:
    row, step = step_where(rows, "grn", goes_on)
    reset_gain(row, step, 0.9)
    return f"{walk_key(row)} step {step}"


def leave_a_region(rows: Rows) -> str:
    """An exhausted search knew one region more, in a corner of its own."""
    row = next(row for row in rows if row["origin"] == "grn" and row["stop_reason"] == "exhausted")
    added = {"x0": 0.0, "y0": 0.0, "x1": 1.0, "y1": 1.0, "label": "corner", "conf": 0.0}
    for name, value in (added | {"call_id": row["step_call_id"][0]}).items():
        row[f"region_{name}"].append(value)
    return f"{walk_key(row)} step {len(row['step_mode'])}"


def repeat_variant(rows: Rows) -> str:
    row = next(row for row in rows if row["origin"] == "cvs")
    rows.append({**row, "variant": 6})
    return f"{SEARCHED} {row['question_id']}"


def twice(rows: Rows) -> str:
    rows.append(rows[0])
    return walk_key(rows[0])


def drop_plain(rows: Rows) -> str:
    row = next(row for row in rows if row["origin"] == "grn")
    rows.remove(row)
    return f"{SEARCHED} {row['question_id']}"


def change_region(column: str, value: Any) -> Callable[[Rows], str]:
    """An edit of the first entry of a region list of the first GRN row that has two scanned regions."""

    def edit(rows: Rows) -> str:
        row = next(row for row in rows if row["origin"] == "grn" and len(row["region_label"]) > 1)
        row[column][0] = value(row[column][0]) if callable(value) else value
        return f"{walk_key(row)} region 0"

    return edit


def reseed(rows: Rows) -> str:
    rows[0]["seed"] += 1
    return SEARCHED


def shorten(rows: Rows) -> str:
    rows[0]["step_text"].pop()
    return walk_key(rows[0])


DECISIONS = {
    "a gain": ("delta_c", change("step_delta_c", lambda old: old + 0.01)),
    "the last digit of a gain": ("delta_c", change("step_delta_c", lambda old: old + 4e-6)),
    "a gain too small to go on": ("mode_switch", stop_gaining),
    "a round": ("mode_switch", change("step_round", 3, fits=is_second_round, back=1)),
    "confidence before round 1": ("confidence_chain", change("step_conf_before", lambda old: old * 0.999)),
    "confidence before round 2": ("confidence_chain", change("step_conf_before", 0.5, fits=is_second_round)),
    "a confidence above ξ before the end": ("stop_reason", already_confident),
    "length for exhausted": ("stop_reason", change_row("stop_reason", "length", stop_reason="exhausted")),
    "exhausted for length": ("stop_reason", change_row("stop_reason", "exhausted", stop_reason="length")),
    "confident for length": ("stop_reason", change_row("stop_reason", "confident", stop_reason="length")),
    "the number of looks": ("looks", change_row("n_looks", lambda old: old + 1)),
    "the most looks": ("looks", change_row("looks_max", 1, stop_reason="length")),
    "a region more in the nucleus": ("nucleus", change("step_nucleus", lambda old: [*old, 99])),
    "the order of a nucleus": (
        "nucleus",
        change("step_nucleus", lambda old: old[::-1], origin="cvs", fits=is_wide_choice),
    ),
    "p0": ("nucleus", change_rule("mass", 1.0, is_clipped_choice)),
    "τ": ("choice_probability", change_rule("temperature", 0.3, is_choice)),
    "a probability": ("choice_probability", change("step_prob", lambda old: old - 1e-4, fits=is_choice)),
    "a rank": ("choice_probability", change("step_rank", 1, fits=is_choice)),
    "a choice not the best": ("chosen", change("step_region", lambda old: 1 - min(old, 1), fits=is_choice)),
    "a candidate left out": ("candidates", change("step_candidates", lambda old: old[:-1], fits=is_choice)),
    "the confidence of a candidate": (
        "candidates",
        change("step_candidate_conf", lambda old: [*old[:-1], 0.123], fits=is_choice),
    ),
    "a region left at the end": ("candidates", leave_a_region),
    "no scan": ("first_step", change("step_mode", "drill", fits=is_first_step, of_row=True)),
    "a repeated variant": ("same_variants", repeat_variant),
    "random looks of another size": (
        "random_looks",
        change("step_look_x1", lambda old: old + 0.5, origin="random", fits=is_first_step, of_row=True),
    ),
    "a fallback with confidence": ("fallback", change_row("region_conf", [0.5], origin_fallback="whole_image")),
}
PLACES = {
    "a look": ("look_margin", change("step_look_x0", lambda old: old + 0.01, fits=is_free_look)),
    "a look of round 2": ("look_margin", change("step_look_y1", lambda old: old - 0.01, fits=is_second_round)),
    "a box outside": ("box_bounds", change("step_x1", 64.5)),
    "a box inside out": ("box_bounds", change("step_x0", 63.9)),
    "a box without a number": ("box_bounds", change("step_y0", float("nan"))),
    "a crop outside": ("box_bounds", change("step_look_y1", 48.01)),
    "a known region outside": ("box_bounds", change_region("region_x0", -1.0)),
}
SOURCES = {
    "confidence after": ("call_answer", change("step_conf_after", lambda old: old * (1 - 1e-6))),
    "box after": ("call_answer", change("step_x0", lambda old: old + 0.25)),
    "words": ("call_answer", change("step_text", "a shadow")),
    "confidence of a region": ("scan_answer", change_region("region_conf", lambda old: old * 0.99)),
    "box of a region": ("scan_answer", change_region("region_y1", lambda old: old - 0.5)),
    "call of a scan": ("scan_answer", change("step_call_id", "0" * 64, fits=is_first_step)),
    "a call that is not there": ("call_exists", change("step_call_id", "0" * 64)),
    "a question that is not there": ("trajectory_question", change_row("source", "elsewhere")),
    "a gold answer": ("answers", change_row("answer", "maybe")),
    "the source of an answer": ("answers", change_row("answer_source", None)),
}
SHAPES = {
    "a scan of a region": ("step_shape", change("step_region", 0, fits=is_first_step)),
    "a drill without a call": ("step_shape", change("step_call_id", None)),
    "a confidence above 1": ("confidence_range", change("step_conf_after", 1.5)),
    "a confidence without a number": ("confidence_range", change("step_conf_before", float("nan"))),
    "the number of a variant": ("variants", change_row("variant", 1)),
    "no plain GRN": ("variants", drop_plain),
    "a row twice": ("key_unique", twice),
    "another seed": ("same_settings", reseed),
    "an unknown word": ("enums", change_row("stop_reason", "tired")),
    "a list too short": ("list_lengths", shorten),
    "a null entry": ("list_nulls", change("step_text", None, of_row=True)),
}
CASES = DECISIONS | PLACES | SOURCES | SHAPES


@pytest.mark.parametrize("case", CASES)
def test_one_wrong_value_is_named_with_its_row_and_rule(case: str, own_store: Store):
    rule, edit = CASES[case]
    expected = []
    tampered(own_store, "trajectories", "train", lambda rows: expected.append(edit(rows)))
    assert expected[0] in keys_of(own_store, rule)
