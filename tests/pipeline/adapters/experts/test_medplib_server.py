"""The reference server: requests it refuses, masks made regions, and what it may import where it runs."""

import ast
import base64
import hashlib
import io
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.adapters.crew import in_order
from pipeline.adapters.experts import medplib_service
from pipeline.adapters.experts.masks import decoded
from pipeline.adapters.experts.medplib_contract import CONTRACT, REGION, breach
from pipeline.adapters.experts.medplib_server import digests, main
from pipeline.adapters.experts.medplib_service import Drawn, Service, Spoken, regions_of, revision_of
from tests.pipeline.medplib_servers import StandIn
from tests.processes import ROOT

FOLDER = ROOT / "pipeline" / "adapters" / "experts"
ABROAD = ("masks", "medplib_contract", "medplib_model", "medplib_server", "medplib_service")  # run by Python 3.10 too


def encoded(image: Image.Image, kind: str = "PNG") -> str:
    file = io.BytesIO()
    image.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def spots(size=(64, 48)) -> Image.Image:
    pixels = np.zeros(size[::-1], np.uint8)
    pixels[8:16, 4:20] = 200
    pixels[30:40, 40:60] = 120
    return Image.fromarray(pixels)


PICTURE = encoded(spots())
SCAN = {"image_b64": PICTURE, "query": "Where?", "max_regions": 8}
DRILL = {"image_b64": PICTURE, "box_xyxy_norm": [0.0625, 0.125, 0.3125, 0.5], "question": f"Is {REGION} bright?"}


def ask(service: Service, name: str, body: object) -> tuple[int, dict]:
    status, data = service.respond(name, json.dumps(body).encode())
    return status, json.loads(data)


def test_answers_keep_to_the_contract_and_name_their_weights():
    service = Service(StandIn(), {"a.bin": "00"})
    told = {"scan": SCAN, "drill": DRILL, "answer": {"image_b64": PICTURE, "question": "What?"}}
    for name, body in told.items():
        status, reply = ask(service, name, body)
        assert (status, breach(f"{name}_answer", reply), reply["revision"]) == (200, None, service.revision)
    about = ask(service, "health", {})[1]
    assert (about["contract"], about["model"], about["weights"]) == (CONTRACT, "stand-in", {"a.bin": "00"})
    assert about["settings"]["mask_above"] == 0.1
    assert about["revision"] == service.revision


def test_the_mask_becomes_parts_with_boxes_areas_and_scores():
    reply = ask(Service(StandIn()), "scan", SCAN)[1]
    boxes = [[edge * (64, 48)[i % 2] for i, edge in enumerate(each["box_xyxy_norm"])] for each in reply["regions"]]
    assert boxes == [[4, 8, 20, 16], [40, 30, 60, 40]]
    assert [each["area"] for each in reply["regions"]] == [16 * 8, 20 * 10]
    assert [each["score"] for each in reply["regions"]] == pytest.approx([0.9, 0.9 * 120 / 160])
    for each, box in zip(reply["regions"], boxes, strict=True):
        mask = decoded(each["mask_rle"], (64, 48))
        assert mask[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])].all()
        assert mask.sum() == each["area"]


def test_the_best_regions_are_kept_and_a_model_that_drew_nothing_says_so():
    assert len(ask(Service(StandIn()), "scan", {**SCAN, "max_regions": 1})[1]["regions"]) == 1
    blank = {**SCAN, "image_b64": encoded(Image.new("L", (9, 9)))}
    reply = ask(Service(StandIn()), "scan", blank)[1]
    assert (reply["regions"], reply["seg_emitted"]) == ([], False)


@pytest.mark.parametrize(
    ("shares", "iou", "scores"),
    [
        ([[0.5, 0.1, 0.9]], 0.5, [0.45, 0.25]),  # 0.1 is not above 0.1
        ([[0.5, 0.7, 0.0]], 1.7, [0.6]),  # predicted IoU is clipped
        ([[0.5, 0.7, 0.0]], -0.2, [0.0]),
        ([[0.1, 0.0, 0.05]], 1.0, []),
    ],
)
def test_scores(shares, iou, scores):
    found = regions_of(Drawn("", np.array(shares), iou), (3, 1), 8)
    assert [each["score"] for each in found] == pytest.approx(scores)


@pytest.mark.parametrize(
    "drawn",
    [
        Drawn("", np.full((48, 64), np.nan), 0.5),
        Drawn("", np.full((48, 64), 1.5), 0.5),
        Drawn("", np.full((64, 48), 0.5), 0.5),
        Drawn("", np.full((48, 64), 0.5), math.nan),
    ],
)
def test_a_model_that_draws_nonsense_is_an_error_and_no_answer(drawn, capsys):
    model = StandIn()
    model.draw = lambda image, text: drawn
    assert ask(Service(model), "scan", SCAN) == (500, {"error": {"message": "ValueError"}})
    model.speak = lambda image, text, region: Spoken("yes", math.nan, 0.1)
    assert ask(Service(model), "drill", DRILL)[0] == 500
    assert ask(Service(model), "scan", {**SCAN, "query": ""})[0] == 422
    assert "scan: ValueError" in capsys.readouterr().err


def test_a_model_out_of_memory_is_an_error_and_the_next_request_is_answered(capsys):
    service = Service(StandIn())
    assert ask(service, "scan", {**SCAN, "query": "fall over"}) == (500, {"error": {"message": "MemoryError"}})
    assert ask(service, "scan", SCAN)[0] == 200


def test_one_request_at_a_time_reaches_the_model():
    inside, most = [], []

    def alone(answer):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.005)
        inside.pop()
        return answer

    model = StandIn()
    model.draw = lambda image, text: alone(Drawn("nothing"))
    model.speak = lambda image, text, region: alone(Spoken("yes", 0.9, 0.1))
    service = Service(model)
    statuses = in_order(lambda each: ask(service, *each)[0], [("scan", SCAN), ("drill", DRILL)] * 8, 8)
    assert (set(statuses), len(most), max(most)) == ({200}, 16, 1)


def test_a_box_is_rasterised_whole():
    service = Service(StandIn())
    assert ask(service, "drill", DRILL)[0] == 200
    region = service.model.seen[-1][2]
    assert (region.shape, region.sum()) == ((48, 64), 16 * 18)
    assert region[6:24, 4:20].all()
    assert ask(service, "drill", {**DRILL, "box_xyxy_norm": [0.999, 0.999, 1, 1]})[0] == 200
    assert service.model.seen[-1][2].sum() == 1  # never empty


@pytest.mark.parametrize(
    ("name", "body", "status", "said"),
    [
        ("scan", {**SCAN, "image_b64": "!!"}, 422, "no picture"),
        ("scan", {**SCAN, "image_b64": base64.b64encode(b"not a picture").decode()}, 422, "no picture"),
        ("scan", {**SCAN, "image_b64": PICTURE[:80]}, 422, "no picture"),
        ("scan", {**SCAN, "image_b64": encoded(Image.new("RGBA", (3, 3)))}, 422, "RGBA of 3 x 3"),
        ("scan", {**SCAN, "image_b64": encoded(Image.new("L", (3, 3)), "BMP")}, 422, "no picture"),
        ("scan", {**SCAN, "query": "Where is <SEG>?"}, 422, "<SEG>"),
        ("scan", {**SCAN, "max_regions": 0}, 422, "max_regions is below 1"),
        ("scan", {**SCAN, "max_region": 3}, 422, "not in the contract"),
        ("scan", [], 422, "no object"),
        ("drill", {**DRILL, "question": "Is it bright?"}, 422, "0 times, not 1"),
        ("drill", {**DRILL, "box_xyxy_norm": [0.5, 0, 0.5, 1]}, 422, "empty or inverted"),
        ("drill", {**DRILL, "box_xyxy_norm": [0, 0, 1, 1.1]}, 422, "is above 1"),
        ("answer", {"image_b64": PICTURE, "question": f"Is {REGION} bright?"}, 422, "1 times, not 0"),
        ("answer", {**DRILL, "question": "Is it bright?"}, 422, "0 times, not 1"),
        ("guess", {}, 404, "the paths are"),
        ("", {}, 404, "the paths are"),
    ],
)
def test_a_request_that_breaks_the_contract_is_refused_with_its_reason(name, body, status, said):
    service = Service(StandIn())
    told = ask(service, name, body)
    assert (told[0], service.model.seen) == (status, [])
    assert said in told[1]["error"]["message"]


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(medplib_service, "PIXELS_MAX", 64 * 48)
    assert ask(Service(StandIn()), "scan", SCAN)[0] == 200
    monkeypatch.setattr(medplib_service, "PIXELS_MAX", 64 * 48 - 1)
    monkeypatch.setattr(Image.Image, "convert", None)
    status, told = ask(Service(StandIn()), "scan", SCAN)
    assert (status, "L of 64 x 48" in told["error"]["message"]) == (422, True)


def test_what_is_no_json_is_refused():
    for content in (b"", b"{", b"\xff", b"[" * 100_000):
        assert Service(StandIn()).respond("scan", content)[0] == 400


def test_the_revision_is_of_what_the_model_is_and_not_of_where_it_lies(tmp_path):
    def put(place: str, folder: str) -> tuple[Path, Path]:
        files = {f"{folder}/a.bin": b"a", f"{folder}/inner/b.bin": b"b", "clip/d.bin": b"d", "sam.pth": b"c"}
        for name, data in files.items():
            (tmp_path / place / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / place / name).write_bytes(data)
        config = {"hidden": 7, "mm_vision_tower": str(tmp_path / place / "clip")}
        (tmp_path / place / folder / "config.json").write_text(json.dumps(config))
        return tmp_path / place / folder, tmp_path / place / "sam.pth"

    weights, sam = put("one", "model")
    found = dict(digests(weights, sam))
    assert sorted(found) == ["config", "model/a.bin", "model/inner/b.bin", "sam", "tower/d.bin"]
    assert found["model/inner/b.bin"] == hashlib.sha256(b"b").hexdigest()
    elsewhere = put("two", "medplib-7b")
    (elsewhere[0] / ".cache").mkdir()
    (elsewhere[0] / ".cache" / "a.bin.metadata").write_text("fetched at noon")
    assert dict(digests(*elsewhere)) == found
    for name in ("model/a.bin", "sam.pth", "clip/d.bin"):
        place = f"other {name[0]}"
        other = put(place, "model")
        (tmp_path / place / name).write_bytes(b"changed")
        assert dict(digests(*other)) != found
    configs = [{"hidden": hidden, "mm_vision_tower": tower} for hidden, tower in ((8, tmp_path), (7, "openai/clip"))]
    for config in configs:
        (weights / "config.json").write_text(json.dumps(config, default=str))
        assert dict(digests(weights, sam))["config"] != found["config"]


def test_the_revision_is_of_weights_name_and_settings():
    base = revision_of("m", {"sam": "1"}, {"x": 1})
    others = [revision_of("n", {"sam": "1"}, {"x": 1}), revision_of("m", {"sam": "2"}, {"x": 1})]
    assert len({base, *others, revision_of("m", {"sam": "1"}, {"x": 2})}) == 4


def test_other_machines_are_not_served_without_a_key(monkeypatch, capsys):
    monkeypatch.delenv("FOVEA_EXPERT_API_KEY", raising=False)
    for host in ("0.0.0.0", "::", "", "::1"):  # the last is of this machine, and would not be listened to
        with pytest.raises(SystemExit):
            main(["--weights", "w", "--sam", "s", "--host", host])
        assert "without a key" in capsys.readouterr().err


@pytest.mark.parametrize("name", ABROAD)
def test_what_runs_beside_medplib_is_python_3_10_and_needs_little(name):
    """At import: the standard library, numpy, Pillow, and of ours what itself needs no more."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"), feature_version=(3, 10))
    late = {"deepspeed", "torch", "model"}
    for node in ast.walk(tree):
        modules = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module] if isinstance(node, ast.ImportFrom) else []
        for module in modules:
            inner = module.removeprefix("pipeline.adapters.experts.")
            is_light = module.partition(".")[0] in {*sys.stdlib_module_names, "numpy", "PIL"} - {"tomllib"}
            is_late = module.partition(".")[0] in late and node not in tree.body
            assert is_light or is_late or inner in ABROAD or module in ("schemas.boxes", "schemas.frames"), module


def test_nothing_of_fovea_imports_the_server():
    for path in (each for folder in ("schemas", "pipeline", "trainer") for each in (ROOT / folder).rglob("*.py")):
        if path.stem not in ABROAD:
            text = path.read_text(encoding="utf-8")
            assert not any(f"experts.{each}" in text for each in ABROAD[2:]), path
    assert os.path.exists(FOLDER / "medplib_contract.json")
