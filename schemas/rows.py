"""Records to Arrow columns, and rows to records, one pair of functions per table.

`to_table` writes with the table's own schema; `from_table` gives records. Floats pass through float32 where the
column is float32: confidences and boxes are float32-exact before they arrive, so nothing changes on the way.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any, NamedTuple

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
NO_BOX = (None,) * len(EDGES)


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


class Lists(NamedTuple):
    """A list column: the values of all lists one after another, and how many each list has."""

    values: Sequence[Any]
    counts: Sequence[int]


Columns = Mapping[str, Sequence[Any] | Lists]


def _turned(rows: Iterable[Sequence[Any]], n_columns: int) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True)) or [()] * n_columns


def _fields(records: Sequence[Any], names: Sequence[str]) -> dict[str, Sequence[Any]]:
    return dict(zip(names, _turned(map(attrgetter(*names), records), len(names)), strict=True))


def _edges(prefix: str, boxes: Iterable[Box | None]) -> dict[str, Sequence[Any]]:
    columns = _turned((box or NO_BOX for box in boxes), len(EDGES))
    return dict(zip(_edge_names(prefix), columns, strict=True))


def _listed(columns: Mapping[str, Sequence[Any]], lists: Iterable[Sequence[Any]]) -> dict[str, Lists]:
    counts = list(map(len, lists))
    return {name: Lists(values, counts) for name, values in columns.items()}


def boxes_of(row: dict[str, Any], prefix: str) -> list[Box | None]:
    """The boxes that four parallel list columns hold, None where the left edge is null."""
    columns = [row[name] for name in _edge_names(prefix)]
    return [None if box[0] is None else box for box in zip(*columns, strict=True)]


def _box_of(row: dict[str, Any], prefix: str) -> Box | None:
    box = tuple([row[name] for name in _edge_names(prefix)])
    return None if box[0] is None else box


@cache
def _edge_names(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}_{edge}" for edge in EDGES)


def image_columns(images: Sequence[Image]) -> Columns:
    files = [{"bytes": image.data, "path": image.path} for image in images]
    return {**_fields(images, IMAGE), **_fields([image.hashes for image in images], HASHES), "image": files}


def image_from(row: dict[str, Any]) -> Image:
    hashes = Hashes(**{name: row[name] for name in HASHES})
    file = row["image"]
    return Image(data=file["bytes"], path=file["path"], hashes=hashes, **{name: row[name] for name in IMAGE})


def finding_from(row: dict[str, Any]) -> Finding:
    return Finding(**row)


def question_columns(questions: Sequence[Question]) -> Columns:
    lists = [question.regions for question in questions]
    regions = list(chain.from_iterable(lists))
    told = {
        **_edges("region", [region.box_xyxy_px for region in regions]),
        "region_label": [region.label for region in regions],
        "region_provenance": [region.provenance for region in regions],
        "region_image": [region.image for region in regions],
    }
    return {**_fields(questions, (*QUESTION, "image_ids", "options")), **_listed(told, lists)}


def question_from(row: dict[str, Any]) -> Question:
    columns = (boxes_of(row, "region"), row["region_label"], row["region_provenance"], row["region_image"])
    return Question(
        **{name: row[name] for name in QUESTION},
        image_ids=tuple(row["image_ids"]),
        options=tuple(row["options"]),
        regions=tuple(Region(*values) for values in zip(*columns, strict=True)),
    )


def call_columns(calls: Sequence[ExpertCall]) -> Columns:
    lists = [call.candidates for call in calls]
    boxes, labels, confidences = _turned(chain.from_iterable(lists), 3)
    told = {**_edges("candidate", boxes), "candidate_label": labels, "candidate_conf": confidences}
    return {
        **_fields(calls, CALL),
        **_edges("box", [call.box_xyxy_px for call in calls]),
        **_edges("look", [call.look_xyxy_px for call in calls]),
        **_listed(told, lists),
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


def trajectory_columns(trajectories: Sequence[Trajectory]) -> Columns:
    known, walked = [each.regions for each in trajectories], [each.steps for each in trajectories]
    regions, steps = list(chain.from_iterable(known)), list(chain.from_iterable(walked))
    told = {
        **_edges("region", [region.box_xyxy_px for region in regions]),
        "region_label": [region.label for region in regions],
        "region_conf": [region.confidence for region in regions],
        "region_call_id": [region.call_id for region in regions],
        "region_image": [region.image for region in regions],
    }
    values = _fields(steps, tuple(STEP.values()))
    taken = {
        **_edges("step", [step.box_xyxy_px for step in steps]),
        **_edges("step_look", [step.look_xyxy_px for step in steps]),
        **{column: values[field] for column, field in STEP.items()},
    }
    return {
        **_fields(trajectories, (*TRAJECTORY, "image_ids")),
        **_fields([each.rule for each in trajectories], RULE),
        **_listed(told, known),
        **_listed(taken, walked),
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


def reject_from(row: dict[str, Any]) -> Reject:
    return Reject(**row)


TO_COLUMNS: dict[str, Callable[[Sequence[Any]], Columns]] = {
    "images": image_columns,
    "questions": question_columns,
    "findings": partial(_fields, names=FINDING),
    "expert_calls": call_columns,
    "trajectories": trajectory_columns,
    "rejects": partial(_fields, names=REJECT),
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
    table, columns = TABLES[name], TO_COLUMNS[name](list(records))
    schema = table.schema
    arrays = [_array(columns[field.name], field.type) for field in schema]
    data = pa.Table.from_arrays(arrays, schema=schema)
    check(table, data)
    return data


def _array(values: Sequence[Any] | Lists, type_: pa.DataType) -> pa.Array:
    if not isinstance(values, Lists):
        return pa.array(values, type_)
    ends = pa.array(accumulate(values.counts, initial=0), pa.int32())
    return pa.ListArray.from_arrays(ends, pa.array(values.values, type_.value_type), type=type_)


def from_table(name: str, data: pa.Table) -> list[Any]:
    """The records that an Arrow table of kind `name` holds."""
    return [FROM_ROW[name](row) for row in data.select(TABLES[name].schema.names).to_pylist()]
