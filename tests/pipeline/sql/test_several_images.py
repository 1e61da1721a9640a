"""Questions on several images break no rule, and a step or region moved to another of their images is noticed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_stores import SEARCHED, keys_of, rows_of, store_of_several, tampered

from pipeline.adapters.catalog import connect
from pipeline.stages.audit_rows import ERROR, load_checks, run_check, wrong_variants
from schemas.reader import Store

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def several_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A sound store, built once: look, but do not touch."""
    return store_of_several(tmp_path_factory.mktemp("several") / "store", 30, rescans=True, n_spots=3)


@pytest.fixture
def own_several(several_store: Store, tmp_path: Path) -> Store:
    shutil.copytree(several_store.root, tmp_path / "store")
    return Store(tmp_path / "store")


@pytest.mark.parametrize("kind", [{}, {"rescans": True, "n_spots": 3}, {"n_spots": 0}, {"n_spots": 0, "rescans": True}])
def test_a_sound_store_of_several_images_breaks_no_rule(tmp_path: Path, kind: dict[str, Any]):
    con = connect(store_of_several(tmp_path / "store", 18, **kind))
    errors = [run_check(con, check) for check in load_checks() if check.severity == ERROR]
    assert [(one.check.id, one.shown) for one in errors if one.n] == []
    assert list(wrong_variants(con)) == []
    looked = """
        SELECT DISTINCT len(image_ids), image FROM steps JOIN trajectories USING (question_id, origin, variant)
        WHERE mode = 'drill' ORDER BY ALL
    """
    assert con.execute(looked).fetchall() == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    again = "SELECT count(*) FROM steps WHERE mode = 'scan' AND step >= 3 AND text <> ''"
    assert (con.execute(again).fetchone()[0] > 10) == ("rescans" in kind and kind["n_spots"] > 0)
    stops = "SELECT DISTINCT stop_reason FROM trajectories WHERE origin_fallback IS NOT NULL"
    assert kind.get("n_spots") != 0 or con.execute(stops).fetchall() == [("exhausted",)]


def test_the_views_name_the_image_of_each_step_and_region(several_store: Store):
    con = connect(several_store)
    for row in rows_of(several_store, "trajectories", "train")[:40]:
        key = [row["question_id"], row["origin"], row["variant"]]
        which = "question_id = ? AND origin = ? AND variant = ?"
        steps = [(image, row["image_ids"][image]) for image in row["step_image"]]
        for view in ("steps", "steps_geom"):
            assert (
                con.execute(f"SELECT image, image_id FROM {view} WHERE {which} ORDER BY step", key).fetchall() == steps
            )
        regions = [(image, row["image_ids"][image]) for image in row["region_image"]]
        found = con.execute(f"SELECT image, image_id FROM known_regions WHERE {which} ORDER BY region", key)
        assert found.fetchall() == regions


def walk_key(row: dict[str, Any]) -> str:
    return f"{SEARCHED} {row['question_id']} {row['origin']} variant {row['variant']}"


def modes_around(row: dict[str, Any], step: int) -> tuple[str | None, str, str | None]:
    modes = [None, *row["step_mode"], None]
    return modes[step], modes[step + 1], modes[step + 2]


def is_look(row: dict[str, Any], step: int) -> bool:
    return row["step_mode"][step] != "scan"


def is_free_scan(row: dict[str, Any], step: int) -> bool:
    return modes_around(row, step) == ("drill", "scan", "drill") and step >= len(row["image_ids"])


def is_scan_of_a_round(row: dict[str, Any], step: int) -> bool:
    return modes_around(row, step) == ("drill", "scan", "scan")


def is_end_of_a_round(row: dict[str, Any], step: int) -> bool:
    return modes_around(row, step) == ("scan", "scan", None)


def is_after_a_round(row: dict[str, Any], step: int) -> bool:
    return modes_around(row, step)[:2] == ("scan", "drill") and step > 3 and row["step_mode"][step - 2] == "scan"


def is_first_scan(row: dict[str, Any], step: int) -> bool:
    return step == 0


def another(row: dict[str, Any], image: int) -> int:
    """The next image of the question that is another one."""
    ids = row["image_ids"]
    return next(i % len(ids) for i in range(image + 1, image + len(ids)) if ids[i % len(ids)] != ids[image])


def move_step(fits: Callable[..., bool], *, origin: str = "grn", of_row: bool = False) -> Callable[[Rows], str]:
    """A step of a question on three images is said to be on another one; named by its step or its row."""

    def edit(rows: Rows) -> str:
        row, step = find(rows, fits, origin)
        row["step_image"][step] = another(row, row["step_image"][step])
        return walk_key(row) if of_row else f"{walk_key(row)} step {step}"

    return edit


def find(rows: Rows, fits: Callable[..., bool], origin: str = "grn") -> tuple[dict[str, Any], int]:
    """The first such step of a question on three different images."""
    return next(
        (row, step)
        for row in rows
        if row["origin"] == origin and len(set(row["image_ids"])) == 3
        for step in range(len(row["step_mode"]))
        if fits(row, step)
    )


def end_a_round_too_soon(rows: Rows) -> str:
    row, step = find(rows, is_end_of_a_round)
    for name in [name for name in row if name.startswith("step_")]:
        row[name].pop()
    return f"{walk_key(row)} step {step - 1}"


def look_elsewhere_after_a_round(rows: Rows) -> str:
    """Look and region together are said to be on an image that was not the one scanned last."""
    row, step = find(rows, is_after_a_round)
    image = another(row, row["step_image"][step])
    row["step_image"][step] = row["region_image"][row["step_region"][step]] = image
    return f"{walk_key(row)} step {step}"


def change(column: str, value: Callable[[dict[str, Any]], Any], suffix: str = "", origin: str = "grn") -> Any:
    """Another value of a column, of a question on three different images with some regions."""

    def edit(rows: Rows) -> str:
        row = next(
            row
            for row in rows
            if row["origin"] == origin and len(set(row["image_ids"])) == 3 and len(row["region_label"]) > 1
        )
        row[column] = value(row)
        return walk_key(row) + suffix

    return edit


def with_first(column: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda row: [value if value is not None else another(row, row[column][0]), *row[column][1:]]


CASES = {
    "a look": ("step_image", move_step(is_look)),
    "an unasked look": ("step_image", move_step(is_look, origin="scan_only")),
    "a random look": ("random_looks", move_step(is_look, origin="random", of_row=True)),
    "a random look and its region": ("step_image", move_step(is_look, origin="random")),
    "the re-scan before a choice": ("step_image", move_step(is_free_scan)),
    "the first of a round of re-scans": ("step_image", move_step(is_scan_of_a_round)),
    "the last of a round of re-scans": ("step_image", move_step(is_end_of_a_round)),
    "a look after a round of re-scans": ("step_image", move_step(is_after_a_round)),
    "a look after a round, with its region": ("step_image", look_elsewhere_after_a_round),
    "a round that ends too soon": ("step_image", end_a_round_too_soon),
    "a first scan": ("first_step", move_step(is_first_scan, of_row=True)),
    "a look, by its call": ("call_answer", move_step(lambda row, step: row["step_mode"][step] == "drill")),
    "a scan, by its call": ("scan_answer", move_step(is_first_scan)),
    "a step on no image": ("step_image", change("step_image", with_first("step_image", 3), " step 0")),
    "a step before the first image": ("step_image", change("step_image", with_first("step_image", -1), " step 0")),
    "a region on no image": ("region_image", change("region_image", with_first("region_image", 3), " region 0")),
    "a region on another image": ("scan_answer", change("region_image", with_first("region_image", None), " region 0")),
    "a cell on another image": (
        "region_image",
        change("region_image", with_first("region_image", 1), " region 0", origin="drill_only"),
    ),
    "images in another order": ("trajectory_question", change("image_ids", lambda row: row["image_ids"][::-1])),
    "an image left out": ("trajectory_question", change("image_ids", lambda row: row["image_ids"][:2])),
    "a list of regions too short": ("list_lengths", change("region_image", lambda row: row["region_image"][:-1])),
    "a list of steps too short": ("list_lengths", change("step_image", lambda row: row["step_image"][:-1])),
    "a region on a null image": ("list_nulls", change("region_image", lambda row: [None, *row["region_image"][1:]])),
    "a step on a null image": ("list_nulls", change("step_image", lambda row: [None, *row["step_image"][1:]])),
}


@pytest.mark.parametrize("case", CASES)
def test_one_wrong_image_is_named_with_its_row_and_rule(case: str, own_several: Store):
    rule, edit = CASES[case]
    expected = []
    tampered(own_several, "trajectories", "train", lambda rows: expected.append(edit(rows)))
    assert expected[0] in keys_of(own_several, rule)


def drop_look(row: dict[str, Any]) -> None:
    """One whole image was not looked at."""
    for name in [name for name in row if name.startswith("step_")]:
        row[name] = row[name][:-2]
    row["n_looks"] -= 1


BLIND = {
    "a whole image not looked at": ("fallback", drop_look),
    "a whole image not looked at, by its end": ("stop_reason", drop_look),
    "length for exhausted": ("stop_reason", lambda row: row.update(stop_reason="length")),
    "a smaller whole": ("fallback", lambda row: row.update(region_x1=[*row["region_x1"][:-1], 39.0])),
    "one image twice": ("fallback", lambda row: row.update(region_image=[0, 0, 2])),
}


@pytest.mark.parametrize("case", BLIND)
def test_a_wrong_search_of_whole_images_is_named(case: str, tmp_path: Path):
    rule, spoil = BLIND[case]
    store, expected = store_of_several(tmp_path / "store", 9, n_spots=0), []

    def edit(rows: Rows) -> None:
        row = next(row for row in rows if row["origin"] == "grn" and len(set(row["image_ids"])) == 3)
        spoil(row)
        expected.append(walk_key(row))

    tampered(store, "trajectories", "train", edit)
    assert expected[0] in keys_of(store, rule)
