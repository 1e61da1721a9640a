"""`build-trajectories --expert hf` as people run it."""

import json
from itertools import islice
from pathlib import Path

import pytest

from cli import app
from pipeline.adapters.pixels import stored_image
from pipeline.adapters.png import write_png
from schemas.errors import ExpertError
from schemas.reader import Store
from tests.pipeline.adapters.experts.tiny_seer import CROP_PX, VIEW_PX, phantoms
from tests.pipeline.small_stores import asked, put_questions
from tests.processes import bytes_of, fovea

SMALL = ("dtype=float32", "device=cpu", f"view_px={VIEW_PX}", f"crop_px={CROP_PX}", "max_tokens=64", "batch=4")
N = 5


def drawn(root: Path) -> Path:
    """A store with a question on each of a few phantoms."""
    shown = list(islice(phantoms(900), N))
    licence = {"source": "drawn", "licence": "CC0-1.0", "modality": "drawing"}
    images = [stored_image(write_png(each.pixels), f"{index}.png", **licence) for index, each in shown]
    told = [
        asked(number, image, question=each.questions[0].text, regions=())
        for number, (image, (_, each)) in enumerate(zip(images, shown, strict=True))
    ]
    put_questions(Store(root), images, told)
    return root


def line(root: Path, model: Path, *settings: str) -> list[str]:
    told = [f"path={model}", f"prompts={model / 'prompts.toml'}", "scan_confidence=tokens", *SMALL, *settings]
    options = [each for setting in told for each in ("--expert-set", setting)]
    return ["build-trajectories", "--store", str(root), "--source", "drawn", "--expert", "hf", "--json", *options]


def build_here(root: Path, model: Path, *settings: str) -> None:
    """In this process, where torch is there already."""
    app(line(root, model, *settings), standalone_mode=False)


def test_a_model_in_a_folder_builds_the_same_store_from_anywhere(seer, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(seer)
    stores = [drawn(tmp_path / name) for name in ("one", "two")]
    made = fovea(*line(stores[0], seer))
    assert (made.returncode, made.stderr.count("Traceback")) == (0, 0), made.stderr
    build_here(stores[1], elsewhere)
    assert bytes_of(stores[0]) == bytes_of(stores[1])
    snapshot = Store(stores[0]).snapshot()
    assert len(set(snapshot.read("trajectories")["question_id"].to_pylist())) == N
    calls = snapshot.read("expert_calls").to_pylist()
    assert {json.loads(row["raw"])["rule"] for row in calls} == {"tokens", "logprobs"}
    used = [json.loads(path.read_bytes())["usage"] for path in stores[0].glob("work/trajectories/*.json")]
    assert sum(each["n_asks"] for each in used) >= len(calls)
    assert {each["n_halvings"] for each in used} == {0}
    published = b"".join(path.read_bytes() for path in stores[0].rglob("*") if path.is_file())
    assert str(seer).encode() not in published


def test_what_cannot_be_used_ends_the_command_with_what_to_do(seer, tmp_path):
    root = drawn(tmp_path / "store")
    gone = fovea(*line(root, tmp_path / "gone"))
    assert (gone.returncode, "the model's folder is not there" in gone.stderr) == (2, True)
    assert "Traceback" not in gone.stderr
    with pytest.raises(ExpertError, match="its numbers fit coordinates=absolute"):
        build_here(root, seer, "coordinates=thousand")
    assert Store(root).head().version == 1
