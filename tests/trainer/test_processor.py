import sys

import numpy as np
import pytest
import torch
from PIL import Image

from schemas.errors import CheckpointError, InputError
from trainer.processor import Processor, resized_size_px


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 448, 3), dtype=np.uint8))


def test_pixels_are_those_of_the_stock_processor(policy, photo):
    ours = policy.processor.encode_image(photo, 3136, 12544)
    stock = policy.processor.image_processor(
        images=[photo], size={"shortest_edge": 3136, "longest_edge": 12544}, return_tensors="pt"
    )
    assert torch.equal(ours.pixel_values, stock["pixel_values"])
    assert list(ours.grid_thw) == stock["image_grid_thw"][0].tolist() == [1, 6, 8]


def test_the_key_follows_the_pixels_the_policy_sees(policy, photo):
    changed = photo.copy()
    changed.putpixel((200, 100), (255, 255, 255))
    keys = {policy.processor.encode_image(image, 3136, 12544).key for image in (photo, photo.copy(), changed)}
    assert len(keys) == 2


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_any_mode_becomes_rgb(policy, photo, mode):
    assert policy.processor.encode_image(photo.convert(mode), 3136, 12544).pixel_values.shape == (48, 1176)


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((448, 300), (112, 84)),
        ((448, 448), (112, 112)),
        ((20, 20), (56, 56)),
        ((100, 60), (112, 56)),
        ((112, 84), (112, 84)),
    ],
)
def test_resizing_is_to_whole_tokens_within_two_areas(size, resized):
    assert resized_size_px(size, 3136, 12544) == resized


@pytest.mark.parametrize("size", [(2100, 10), (4000, 30)])
def test_a_sliver_is_an_input_error(size):
    with pytest.raises(InputError):
        resized_size_px(size, 784, 12544)


def test_the_stand_in_for_torchvision_does_not_stay():
    resized_size_px((100, 100), 3136, 12544)
    stand_in = sys.modules.get("torchvision")
    assert stand_in is None or stand_in.__version__ != "0.0.0"


def test_a_folder_without_tokenizer_is_a_checkpoint_error(tmp_path):
    with pytest.raises(CheckpointError) as error:
        Processor.load(tmp_path)
    assert error.value.where == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer.json", None),  # the library then makes a tokenizer of the markers alone
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "{"),
        ("tokenizer_config.json", "[]"),
        ("preprocessor_config.json", "[]"),
    ],
)
def test_a_folder_with_a_broken_file_is_a_checkpoint_error(policy, tmp_path, name, text):
    policy.processor.save(tmp_path)
    Processor.load(tmp_path)
    (tmp_path / name).unlink() if text is None else (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError) as error:
        Processor.load(tmp_path)
    assert name in error.value.fix
