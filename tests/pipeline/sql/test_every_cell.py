"""No entry of a list of a trajectory, and no box, crop or word of a call that it rests on, can be changed unseen."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from small_stores import store_of_several

from pipeline.adapters.catalog import connect
from pipeline.stages.audit_rows import ERROR, load_checks, wrong_variants
from schemas.seeds import digest_int
from schemas.tables import TABLES

Row = dict[str, Any]
LISTS = [name for name in TABLES["trajectories"].schema.names if name.startswith(("step_", "region_"))]
CALLS = [name for name in TABLES["expert_calls"].schema.names if name.startswith(("box_", "look_", "candidate_"))]
CALLS += ["round", "text"]
UNSEEN = ("candidate_label", "drill")  # what a drill calls its region is in no trajectory


@pytest.fixture(scope="module", params=[{"rescans": True, "n_spots": 3}, {}, {"n_spots": 0}], ids=str)
def audited(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store in memory whose rows may be replaced."""
    con = connect(store_of_several(tmp_path_factory.mktemp("cells") / "store", 12, **request.param))
    for table in ("trajectories", "expert_calls"):
        con.execute(f"CREATE TABLE sound_{table} AS SELECT * FROM {table}")
    yield con
    con.close()


def named(con: Any, table: str, spoil: Callable[[int, Row], None]) -> tuple[list[Row], str]:
    """The rows after `spoil` of each, and all that the audit then names, one key a line."""
    sound = con.sql(f"SELECT * FROM sound_{table}").to_arrow_table()
    rows = sound.to_pylist()
    for number, row in enumerate(rows):
        spoil(number, row)
    con.register("spoiled", pa.Table.from_pylist(rows, schema=sound.schema))
    con.execute(f"CREATE OR REPLACE VIEW {table} AS SELECT * FROM spoiled")
    checks = [check for check in load_checks() if check.severity == ERROR]
    keys = [key for check in checks for key, _ in con.execute(check.sql).fetchall()]
    keys += [offence.key for offence in wrong_variants(con)]
    con.execute(f"CREATE OR REPLACE VIEW {table} AS SELECT * FROM sound_{table}")
    return rows, "".join(f"{key} \n" for key in keys)


def another(name: str, value: Any, row: Row) -> Any:
    """A value near `value` that is not it; None where there is none."""
    if value is None or value == []:
        return None
    if isinstance(value, list):
        return [*value[:-1], another(name, value[-1], row)]
    if name.endswith("_image"):
        ids = row["image_ids"]
        return next((i for i in range(len(ids)) if ids[i] != ids[value]), None)
    if isinstance(value, float):
        edge = {"0": 0.25, "1": -0.25}.get(name[-1])
        return value + (edge or (-0.01 if value > 0.5 else 0.01) * (1 + abs(value)))
    return value + 1 if isinstance(value, int) else value + "!"


def walk_key(row: Row) -> str:
    return f"{row['slice']} {row['question_id']} {row['origin']} variant {row['variant']} "


@pytest.mark.parametrize("turn", range(4))
def test_one_entry_of_a_list_is_named_with_its_trajectory(audited: Any, turn: int):
    changed: dict[int, str] = {}

    def spoil(number: int, row: Row) -> None:
        name = LISTS[(number + 9 * turn) % len(LISTS)]
        entries = {place: another(name, value, row) for place, value in enumerate(row[name])}
        if places := [place for place, value in entries.items() if value is not None]:
            place = places[digest_int("cell", turn, number) % len(places)]
            changed[number] = f"{name}[{place}]"
            row[name][place] = entries[place]

    rows, keys = named(audited, "trajectories", spoil)
    assert len({what.partition("[")[0] for what in changed.values()}) > 20
    unseen = [(what, walk_key(rows[number])) for number, what in changed.items() if walk_key(rows[number]) not in keys]
    assert unseen == []


@pytest.mark.parametrize("turn", range(3))
def test_one_number_or_word_of_a_call_is_named_with_the_call_or_what_rests_on_it(audited: Any, turn: int):
    changed: dict[str, str] = {}

    def spoil(number: int, row: Row) -> None:
        name = CALLS[(number + 5 * turn) % len(CALLS)]
        value = another(name, row[name], row) if (name, row["mode"]) != UNSEEN else None
        if value is not None and number % 3 == turn:
            row[name], changed[row["call_id"]] = value, name

    _, keys = named(audited, "expert_calls", spoil)
    assert len(changed) > 10
    assert unseen(audited, changed, keys) == []


def test_a_call_made_for_another_question_about_the_picture_supports_nothing(audited: Any):
    changed: dict[str, str] = {}
    asked = audited.execute("SELECT image_id, question_id FROM question_images").fetchall()

    def spoil(_: int, row: Row) -> None:
        others = {question for image, question in asked if image == row["image_id"]} - {row["question_id"]}
        if others:
            row["question_id"] = changed[row["call_id"]] = min(others)

    _, keys = named(audited, "expert_calls", spoil)
    assert changed
    assert unseen(audited, changed, keys) == []


def unseen(con: Any, changed: dict[str, str], keys: str) -> list[tuple[str, str]]:
    """(change, trajectory) where neither the changed call nor the trajectory that rests on it is named."""
    walks = con.execute(
        "SELECT slice, question_id, origin, variant, list_concat(step_call_id, region_call_id) FROM trajectories"
    ).fetchall()
    return [
        (changed[call], walk)
        for *key, calls in walks
        if (walk := "{} {} {} variant {} ".format(*key)) not in keys
        for call in set(calls) & changed.keys()
        if f"{call} " not in keys
    ]
