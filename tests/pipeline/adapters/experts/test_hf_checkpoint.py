"""Checkpoint folders: which are refused and why, and what a model's name depends on."""

import json
import os
import shutil

import pytest

from pipeline.adapters.experts import hf_checkpoint
from pipeline.adapters.experts.hf_checkpoint import Checkpoint
from pipeline.adapters.experts.registry import make_expert
from schemas.errors import UsageError

QWEN25 = {"model_type": "qwen2_5_vl", "vision_config": {"patch_size": 14, "spatial_merge_size": 2}}
QWEN3 = {"model_type": "qwen3_vl", "vision_config": {"patch_size": 16, "spatial_merge_size": 2}}
FILES = {"tokenizer.json": "{}", "preprocessor_config.json": "{}", "model.safetensors": "weights"}
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "model"
    made.mkdir()
    for name, text in ({"config.json": json.dumps(QWEN25)} | FILES).items():
        (made / name).write_text(text)
    return made


def put_index(folder, names):
    (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / INDEX).write_text(json.dumps({"weight_map": {f"w{n}": name for n, name in enumerate(names)}}))


def test_a_family_counts_in_its_own_way_and_takes_its_own_patches(folder):
    assert (Checkpoint.at(str(folder)).coordinates, Checkpoint.at(str(folder)).multiple_px) == ("absolute", 28)
    (folder / "config.json").write_text(json.dumps(QWEN3))
    assert (Checkpoint.at(str(folder)).coordinates, Checkpoint.at(str(folder)).multiple_px) == ("thousand", 32)


def spoil_type(folder):
    (folder / "config.json").write_text(json.dumps(QWEN25 | {"model_type": "llava"}))


def spoil_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (shutil.rmtree, "folder is not there"),
        (spoil_type, "type 'llava'"),
        (spoil_weights, "only pickled weights, which are never read"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (lambda folder: put_index(folder, ["a.safetensors"]), r"weights are missing: \['a.safetensors'\]"),
        (lambda folder: put_index(folder, ["../model/config.json"]), "weights are missing"),
        (lambda folder: put_index(folder, []), "weights are missing"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda folder: (folder / "config.json").write_text("[]"), "no JSON object"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "qwen3_vl"}'), "size of a patch"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer or the image processor is not there"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "tokenizer or the image processor"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "an adapter, not a whole model"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_at_once(folder, spoil, why):
    make_expert("hf", {"path": str(folder)})
    spoil(folder)
    with pytest.raises(UsageError, match=why) as raised:
        make_expert("hf", {"path": str(folder)})
    assert raised.value.fix


def test_the_name_is_of_the_bytes_and_not_of_the_place(folder, tmp_path):
    name = Checkpoint.at(str(folder)).sha256
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert Checkpoint.at(str(copy)).sha256 == name
    (copy / "optimizer.safetensors").write_text("moments")
    (copy / "README.md").write_text("about")
    os.utime(copy / "model.safetensors", ns=(1, 1))
    assert Checkpoint.at(str(copy)).sha256 == name
    names = {name}
    for file in ("config.json", *FILES):
        changed = shutil.copytree(folder, tmp_path / file)
        (changed / file).write_text((changed / file).read_text() + " ")
        names.add(Checkpoint.at(str(changed)).sha256)
    assert len(names) == 2 + len(FILES)


def test_parts_count_under_their_names(folder):
    for name in ("b.safetensors", "a.safetensors", "c.safetensors"):
        (folder / name).write_text(name)
    put_index(folder, ["b.safetensors", "a.safetensors", "b.safetensors"])
    checkpoint = Checkpoint.at(str(folder))
    assert [name for name in checkpoint.files if name.endswith(".safetensors")] == ["a.safetensors", "b.safetensors"]
    name = checkpoint.sha256
    (folder / "a.safetensors").rename(folder / "t")
    (folder / "b.safetensors").rename(folder / "a.safetensors")
    (folder / "t").rename(folder / "b.safetensors")
    assert Checkpoint.at(str(folder)).sha256 != name


def test_weights_are_read_once_for_any_number_of_experts(folder, monkeypatch):
    read = []
    original = hf_checkpoint._file_sha256
    monkeypatch.setattr(hf_checkpoint, "_file_sha256", lambda path: read.append(path.name) or original(path))
    ids = {make_expert("hf", {"path": str(folder), "batch": batch}).identity.id for batch in (1, 2, 3)}
    assert len(ids) == 1
    assert read.count("model.safetensors") == 1
