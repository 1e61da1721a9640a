"""Records to Arrow rows and back, one pair of functions per table.

`to_table` writes with the table's own schema; `from_table` gives records. Floats pass through float32 where the
column is float32: confidences and boxes are float32-exact before they arrive, so nothing changes on the way.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from schemas.boxes import Box
from schemas.columns import Table, check
from schemas.records import (
    ExpertCall,
    Finding,
    Hashes,
    Image,
    KnownRegion,
    Question,
    Region,
    Reject,
    Rule,
    Step,
    Trajectory,
)
from schemas.tables import TABLES

EDGES = ("x0", "y0", "x1", "y1")


def _scalars(record: type, table: Table) -> tuple[str, ...]:
    """The fields of `record` that are plain columns of `table` under the same name."""
    plain = {column.name for column in table.columns if not pa.types.is_nested(column.type)}
    return tuple(name for name in record.__dataclass_fields__ if name in plain)


IMAGE = _scalars(Image, TABLES["images"])
HASHES = _scalars(Hashes, TABLES["images"])
FINDING = _scalars(Finding, TABLES["findings"])
QUESTION = _scalars(Question, TABLES["questions"])
CALL = _scalars(ExpertCall, TABLES["expert_calls"])
TRAJECTORY = _scalars(Trajectory, TABLES["trajectories"])
RULE = _scalars(Rule, TABLES["trajectories"])
REJECT = _scalars(Reject, TABLES["rejects"])


def _edges(prefix: str, boxes: Sequence[Box | None]) -> dict[str, list]:
    return {
        f"{prefix}_{edge}": [None if box is None else box[index] for box in boxes] for index, edge in enumerate(EDGES)
    }


def _edge(prefix: str, box: Box | None) -> dict[str, float | None]:
    return {name: values[0] for name, values in _edges(prefix, [box]).items()}


def boxes_of(row: dict[str, Any], prefix: str) -> list[Box | None]:
    """The boxes that four parallel list columns hold, None where the left edge is null."""
    columns = [row[f"{prefix}_{edge}"] for edge in EDGES]
    return [None if box[0] is None else box for box in zip(*columns, strict=True)]


def _box_of(row: dict[str, Any], prefix: str) -> Box | None:
    box = tuple(row[f"{prefix}_{edge}"] for edge in EDGES)
    return None if box[0] is None else box


def _pick(record: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def image_row(image: Image) -> dict[str, Any]:
    file = {"bytes": image.data, "path": image.path}
    return {**_pick(image, IMAGE), **_pick(image.hashes, HASHES), "image": file}


def image_from(row: dict[str, Any]) -> Image:
    hashes = Hashes(**{name: row[name] for name in HASHES})
    file = row["image"]
    return Image(data=file["bytes"], path=file["path"], hashes=hashes, **{name: row[name] for name in IMAGE})


def finding_row(finding: Finding) -> dict[str, Any]:
    return _pick(finding, FINDING)


def finding_from(row: dict[str, Any]) -> Finding:
    return Finding(**row)


def question_row(question: Question) -> dict[str, Any]:
    regions = question.regions
    return {
        **_pick(question, QUESTION),
        "image_ids": list(question.image_ids),
        "options": list(question.options),
        **_edges("region", [region.box_xyxy_px for region in regions]),
        "region_label": [region.label for region in regions],
        "region_provenance": [region.provenance for region in regions],
        "region_image": [region.image for region in regions],
    }


def question_from(row: dict[str, Any]) -> Question:
    columns = (boxes_of(row, "region"), row["region_label"], row["region_provenance"], row["region_image"])
    return Question(
        **{name: row[name] for name in QUESTION},
        image_ids=tuple(row["image_ids"]),
        options=tuple(row["options"]),
        regions=tuple(Region(*values) for values in zip(*columns, strict=True)),
    )


def call_row(call: ExpertCall) -> dict[str, Any]:
    return {
        **_pick(call, CALL),
        **_edge("box", call.box_xyxy_px),
        **_edge("look", call.look_xyxy_px),
        **_edges("candidate", [box for box, _, _ in call.candidates]),
        "candidate_label": [label for _, label, _ in call.candidates],
        "candidate_conf": [confidence for _, _, confidence in call.candidates],
    }


def call_from(row: dict[str, Any]) -> ExpertCall:
    columns = (boxes_of(row, "candidate"), row["candidate_label"], row["candidate_conf"])
    return ExpertCall(
        **{name: row[name] for name in CALL},
        box_xyxy_px=_box_of(row, "box"),
        look_xyxy_px=_box_of(row, "look"),
        candidates=tuple(zip(*columns, strict=True)),
    )


STEP = {  # column -> field of Step
    "step_mode": "mode",
    "step_round": "round",
    "step_region": "region",
    "step_conf_before": "confidence_before",
    "step_conf_after": "confidence_after",
    "step_delta_c": "delta_c",
    "step_candidates": "candidates",
    "step_candidate_conf": "candidate_confidences",
    "step_nucleus": "nucleus",
    "step_prob": "probability",
    "step_rank": "rank",
    "step_call_id": "call_id",
    "step_text": "text",
    "step_image": "image",
}
TUPLES = ("candidates", "candidate_confidences", "nucleus")


def trajectory_row(trajectory: Trajectory) -> dict[str, Any]:
    regions, steps = trajectory.regions, trajectory.steps
    return {
        **_pick(trajectory, TRAJECTORY),
        "image_ids": list(trajectory.image_ids),
        **_pick(trajectory.rule, RULE),
        **_edges("region", [region.box_xyxy_px for region in regions]),
        "region_label": [region.label for region in regions],
        "region_conf": [region.confidence for region in regions],
        "region_call_id": [region.call_id for region in regions],
        "region_image": [region.image for region in regions],
        **_edges("step", [step.box_xyxy_px for step in steps]),
        **_edges("step_look", [step.look_xyxy_px for step in steps]),
        **{column: [getattr(step, field) for step in steps] for column, field in STEP.items()},
    }


def trajectory_from(row: dict[str, Any]) -> Trajectory:
    columns = (row[f"region_{name}"] for name in ("label", "conf", "call_id", "image"))
    regions = zip(boxes_of(row, "region"), *columns, strict=True)
    return Trajectory(
        **{name: row[name] for name in TRAJECTORY},
        image_ids=tuple(row["image_ids"]),
        rule=Rule(**{name: row[name] for name in RULE}),
        regions=tuple(KnownRegion(*values) for values in regions),
        steps=tuple(_steps(row)),
    )


def _steps(row: dict[str, Any]) -> Iterable[Step]:
    boxes, looks = boxes_of(row, "step"), boxes_of(row, "step_look")
    for index, (box, look) in enumerate(zip(boxes, looks, strict=True)):
        values = {field: row[column][index] for column, field in STEP.items()}
        values |= {name: tuple(values[name]) for name in TUPLES}
        yield Step(box_xyxy_px=box, look_xyxy_px=look, **values)


def reject_row(reject: Reject) -> dict[str, Any]:
    return _pick(reject, REJECT)


def reject_from(row: dict[str, Any]) -> Reject:
    return Reject(**row)


TO_ROW: dict[str, Callable[[Any], dict[str, Any]]] = {
    "images": image_row,
    "questions": question_row,
    "findings": finding_row,
    "expert_calls": call_row,
    "trajectories": trajectory_row,
    "rejects": reject_row,
}
FROM_ROW: dict[str, Callable[[dict[str, Any]], Any]] = {
    "images": image_from,
    "questions": question_from,
    "findings": finding_from,
    "expert_calls": call_from,
    "trajectories": trajectory_from,
    "rejects": reject_from,
}


def to_table(name: str, records: Iterable[Any]) -> pa.Table:
    """Records of table `name` as an Arrow table with exactly its schema."""
    table: Table = TABLES[name]
    data = pa.Table.from_pylist([TO_ROW[name](record) for record in records], schema=table.schema)
    check(table, data)
    return data


def from_table(name: str, data: pa.Table) -> list[Any]:
    """The records that an Arrow table of kind `name` holds."""
    return [FROM_ROW[name](row) for row in data.select(TABLES[name].schema.names).to_pylist()]
