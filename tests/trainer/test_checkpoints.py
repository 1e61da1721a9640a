import os
import shutil
from copy import deepcopy

import pytest
import torch
from safetensors.torch import load_file, save_file

import trainer.checkpoints
from schemas.errors import CheckpointError
from trainer.checkpoints import Checkpoints, base_identity, trained_parameters
from trainer.policy import Policy


@pytest.fixture
def own(policy):
    """A policy of this test's own, vision merger without gradient, and its optimizer after two steps."""
    mine = Policy(deepcopy(policy.model), policy.processor)
    optimizer = torch.optim.AdamW(trained_parameters(mine).values(), lr=1e-2)
    for seed in (1, 2):
        pull(mine, optimizer, seed)
    return mine, optimizer


def pull(policy, optimizer, seed):
    """A step with random gradients; the merger has none, as a part that no row used."""
    draw = torch.Generator().manual_seed(seed)
    for name, weight in trained_parameters(policy).items():
        weight.grad = None if "merger" in name else torch.randn(weight.shape, generator=draw)
    optimizer.step()


def bits(policy, optimizer):
    weights = {name: one.detach().clone() for name, one in policy.model.named_parameters()}
    names = {id(one): name for name, one in trained_parameters(policy).items()}
    moments = {
        f"{names[id(one)]}.{kind}": value.clone()
        for one, state in optimizer.state.items()
        for kind, value in state.items()
    }
    return weights, moments


def assert_same_bits(ours, theirs):
    for some, others in zip(ours, theirs, strict=True):
        assert some.keys() == others.keys()
        assert all(torch.equal(some[name], others[name]) and some[name].dtype == others[name].dtype for name in others)


def reloaded(saved, step):
    policy = Policy.load(saved.path(step))
    optimizer = torch.optim.AdamW(trained_parameters(policy).values(), lr=1e-2)
    saved.restore_optimizer(step, policy, optimizer)
    return policy, optimizer


def test_weights_and_moments_come_back_to_the_bit_and_go_on_alike(own, tmp_path):
    saved = Checkpoints(tmp_path)
    saved.save(2, *own)
    again = reloaded(saved, 2)
    assert_same_bits(bits(*again), bits(*own))
    assert not any("merger" in name for name in bits(*again)[1])
    pull(*own, seed=3)
    pull(*again, seed=3)
    assert_same_bits(bits(*again), bits(*own))


def test_what_is_frozen_has_no_moments(policy, tmp_path):
    frozen = Policy(deepcopy(policy.model), policy.processor, freeze_vision=True)
    names = list(trained_parameters(frozen))
    assert names == sorted(names)
    assert not any("visual" in name for name in names)
    assert any("visual" in name for name in trained_parameters(policy))


def test_a_save_that_is_killed_leaves_the_one_before(own, tmp_path, monkeypatch):
    saved = Checkpoints(tmp_path)
    saved.save(1, *own)
    before = {path.name: path.read_bytes() for path in saved.path(1).iterdir()}
    whole = trainer.checkpoints.save_file

    def dies(tensors, path):
        whole(tensors, path)
        raise KeyboardInterrupt

    for step in (1, 2):  # also where the very same step is written again
        with monkeypatch.context() as patch:
            patch.setattr(trainer.checkpoints, "save_file", dies)
            with pytest.raises(KeyboardInterrupt):
                saved.save(step, *own)
        assert saved.steps() == [1]
        assert {path.name: path.read_bytes() for path in saved.path(1).iterdir()} == before
    saved.save(2, *own)
    assert sorted(path.name for path in saved.folder.iterdir()) == ["step-000001", "step-000002"]


def test_every_byte_is_on_the_disk_before_a_checkpoint_has_its_name(own, tmp_path, monkeypatch):
    """A rename may outlive a power cut that the data before it did not."""
    saved, synced, replace = Checkpoints(tmp_path), set(), os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))

    def checked(source, target):
        assert {path.stat().st_ino for path in [source, *source.rglob("*")]} <= synced
        replace(source, target)

    monkeypatch.setattr(os, "replace", checked)
    saved.save(1, *own)
    assert saved.steps() == [1]
    assert saved.folder.stat().st_ino in synced


def test_a_removal_that_is_killed_leaves_no_half_checkpoint(own, tmp_path, monkeypatch):
    saved = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        saved.save(step, *own)

    def dies(path):
        (path / "model.safetensors").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", dies)
        with pytest.raises(KeyboardInterrupt):
            saved.prune(1, set())
    assert saved.steps() == [2, 3]
    for step in saved.steps():
        Policy.load(saved.path(step))
    saved.save(4, *own)
    saved.prune(1, set())
    assert [path.name for path in saved.folder.iterdir()] == ["step-000004"]


def test_pruning_keeps_the_newest_and_the_borders(tmp_path):
    saved = Checkpoints(tmp_path)
    for step in (0, 2, 3, 4, 6, 8):
        saved.path(step).mkdir(parents=True)
        (saved.path(step) / "state.json").write_text("{}")
    saved.prune(2, {0, 3, 9})
    assert saved.steps() == [0, 3, 6, 8]
    saved.prune(5, set())
    assert saved.steps() == [0, 3, 6, 8]


def test_finding_one(tmp_path):
    saved = Checkpoints(tmp_path)
    assert (saved.latest(), saved.steps()) == (None, [])
    with pytest.raises(CheckpointError, match="there are: none"):
        saved.find("latest")
    for step in (3, 12):
        saved.path(step).mkdir(parents=True)
        (saved.path(step) / "state.json").write_text("{}")
    saved.path(40).mkdir()  # no state: not finished
    assert saved.latest() == 12
    assert saved.find("latest") == saved.find("12") == saved.path(12)
    shutil.copytree(saved.path(12), tmp_path / "checkpoints" / "step-000013-good")  # a copy that somebody keeps
    assert saved.steps() == [3, 12]
    for name in ("4", "40", "13", "newest", "-3", "", "³"):
        with pytest.raises(CheckpointError, match="there are: 3, 12"):
            saved.find(name)


def test_an_optimizer_that_cannot_be_read_is_named(own, tmp_path):
    saved = Checkpoints(tmp_path)
    saved.save(1, *own)
    path = saved.path(1) / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError) as error:
        saved.restore_optimizer(1, *own)
    assert error.value.where == str(path)


@pytest.mark.parametrize("spoil", ["lacks a moment", "another shape"])
def test_moments_of_another_model_are_refused(own, tmp_path, spoil):
    saved = Checkpoints(tmp_path)
    saved.save(1, *own)
    path = saved.path(1) / "optimizer.safetensors"
    stored = load_file(path)
    name = next(one for one in stored if one.endswith(".exp_avg"))
    if spoil == "lacks a moment":
        del stored[name]
    else:
        stored[name] = stored[name].flatten()[1:]
    save_file(stored, path)
    with pytest.raises(CheckpointError, match=name.removesuffix(".exp_avg")):
        saved.restore_optimizer(1, *own)


def test_a_base_is_named_by_its_configuration_and_weights(policy, tmp_path, monkeypatch):
    folder = tmp_path / "one"
    policy.save(folder)
    name = base_identity(str(folder))
    assert base_identity(str(shutil.copytree(folder, tmp_path / "two"))) == name
    (folder / "notes.md").write_text("no matter")
    assert base_identity(str(folder)) == name
    weights, config = folder / "model.safetensors", folder / "config.json"
    data = weights.read_bytes()
    for at in (len(data) - 1, len(data) // 2):
        weights.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert base_identity(str(folder)) != name
    weights.write_bytes(data)
    config.write_text(config.read_text() + "\n")
    assert base_identity(str(folder)) != name
    weights.write_bytes(b"")  # a download that broke off: named as well, and refused when it is loaded
    assert base_identity(str(folder)) != name
    assert base_identity("tiny") == "tiny"
    with pytest.raises(CheckpointError, match="no such model"):
        base_identity(str(tmp_path / "nothing"))


def test_of_a_large_file_some_blocks_count_from_beginning_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer.checkpoints, "BLOCK", 4)
    monkeypatch.setattr(trainer.checkpoints, "BLOCKS_MAX", 5)
    (tmp_path / "config.json").write_text("{}")
    path, names = tmp_path / "model.safetensors", set()
    for at in range(40):  # ten blocks, of which every other is read
        path.write_bytes(bytes(at) + b"x" + bytes(39 - at))
        names.add(base_identity(str(tmp_path)))
    assert len(names) == 1 + 20  # those in blocks that are not read look alike
