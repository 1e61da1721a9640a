import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.adapters.experts.contrast import Sums, contrast, suppressed, windows
from pipeline.adapters.experts.saliency import SaliencyExpert, to_grey
from schemas.boxes import clamp, grow, inside, iou
from schemas.experts import Ask, Drill, Scan
from tests.doubles import question

SQUARE = (100, 60, 132, 92)


def scan(expert, image):
    return expert.answer([Ask(question(), "image0", image, Scan())])[0]


def drill(expert, image, box, label="x", margin=1.0, round_=1):
    look = clamp(grow(box, margin), image.size)
    return expert.answer([Ask(question(), "image0", image, Drill(box, label, look, round_))])[0]


def picture(*, size=(256, 200), ground=80, spot=160, box=SQUARE, noise=6, seed=0):
    """A textured ground with one square spot."""
    pixels = np.full(size[::-1], float(ground))
    pixels[box[1] : box[3], box[0] : box[2]] = spot
    pixels += np.random.default_rng(seed).normal(0, noise, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(("spot", "label"), [(160, "bright spot"), (20, "dark spot")])
def test_a_scan_finds_the_spot_first_and_names_its_polarity(spot, label):
    seen = scan(SaliencyExpert(), picture(spot=spot))
    best = seen.candidates[0]
    assert best.confidence == max(each.confidence for each in seen.candidates)
    assert iou(best.box_xyxy_px, SQUARE) > 0.4  # windows are an octave apart; drills close the gap
    assert best.label == label
    assert seen.text.startswith(f"strong {label} on the left")


def test_boxes_of_a_large_image_come_back_in_its_own_pixels():
    large = picture().resize((1024, 800), Image.Resampling.NEAREST)
    best = scan(SaliencyExpert(), large).candidates[0]
    assert iou(best.box_xyxy_px, tuple(4 * edge for edge in SQUARE)) > 0.4


@pytest.mark.parametrize("offset", [(-10, 6), (8, 8), (0, -12)])
def test_a_drill_moves_the_box_to_the_spot_and_is_surer(offset):
    off = tuple(float(edge + offset[i % 2]) for i, edge in enumerate(SQUARE))
    image = picture(size=(512, 400))
    first = drill(SaliencyExpert(), image, off).candidates[0]
    assert iou(first.box_xyxy_px, SQUARE) > iou(off, SQUARE)
    again = drill(SaliencyExpert(), image, first.box_xyxy_px, margin=0.5, round_=2).candidates[0]
    assert again.confidence > 0.6


def test_a_drill_closes_in_on_a_spot_smaller_than_the_box():
    wide = (88.0, 48.0, 152.0, 112.0)  # four times the area of the spot, IoU ¼
    found = drill(SaliencyExpert(), picture(size=(512, 400)), wide).candidates[0]
    assert iou(found.box_xyxy_px, SQUARE) > 0.7


def test_noise_is_fainter_than_a_spot_and_never_more_than_eight_boxes_come():
    noise = scan(SaliencyExpert(), picture(spot=80, noise=30)).candidates
    assert len(noise) <= 8
    assert max(each.confidence for each in noise) < scan(SaliencyExpert(), picture()).candidates[0].confidence
    busy = Image.fromarray(np.kron(np.indices((8, 8)).sum(0) % 2 * 200, np.ones((32, 32))).astype(np.uint8))
    boxes = [each.box_xyxy_px for each in scan(SaliencyExpert(), busy).candidates]
    assert len(boxes) == 8
    assert all(iou(a, b) <= 0.5 for i, a in enumerate(boxes) for b in boxes[:i])
    assert len(scan(SaliencyExpert(boxes_max=3), busy).candidates) == 3


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 3), (5, 400), (64, 64), (2000, 4)])
def test_flat_and_tiny_images_give_an_honest_nothing(size):
    flat = Image.new("L", size, 128)
    assert scan(SaliencyExpert(), flat).candidates == ()
    whole = (0.0, 0.0, float(size[0]), float(size[1]))
    seen = drill(SaliencyExpert(), flat, whole, "whole image")
    assert [(each.box_xyxy_px, each.confidence) for each in seen.candidates] == [(whole, 0.0)]


MODES = "1 L P RGB RGBA CMYK YCbCr LAB HSV I F LA PA RGBX RGBa La I;16 I;16L I;16B".split()


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pillow_is_looked_at(mode):
    flat = scan(SaliencyExpert(), Image.new(mode, (60, 50)))
    assert flat.candidates == ()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "I", "F", "I;16"])
def test_the_spot_is_found_in_modes_that_hold_it(mode):
    image = picture()
    if mode in ("I", "F", "I;16"):  # twelve bits, or fractions: stretched, not clipped
        levels = np.asarray(image).astype(np.float64)
        dtype, scale = {"I": (np.int32, 300), "F": (np.float32, 0.003), "I;16": (np.uint16, 16)}[mode]
        image = Image.fromarray((levels * scale).astype(dtype))
        assert image.mode == mode
    else:
        image = image.convert(mode)
    assert iou(scan(SaliencyExpert(), image).candidates[0].box_xyxy_px, SQUARE) > 0.4


def test_palettes_with_transparency_and_broken_numbers_pass_without_a_warning():
    palette = picture().convert("P")
    palette.info["transparency"] = bytes(256)
    assert to_grey(palette).mode == "L"
    values = np.array([[math.nan, 1.0], [math.inf, 3.0]], dtype=np.float32)
    assert np.asarray(to_grey(Image.fromarray(values))).tolist() == [[0, 0], [0, 255]]
    assert not np.asarray(to_grey(Image.fromarray(np.full((2, 2), math.nan, dtype=np.float32)))).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 99), st.tuples(*[st.floats(0, 1)] * 4))
def test_answers_lie_in_the_image_whatever_is_asked(width, height, seed, corners):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    image = Image.fromarray(pixels)
    found = scan(SaliencyExpert(), image).candidates
    (x0, x1), (y0, y1) = sorted(corners[::2]), sorted(corners[1::2])
    box = (x0 * width, y0 * height, x1 * width, y1 * height)
    if inside(box, image.size):
        found += drill(SaliencyExpert(), image, box).candidates
    assert all(inside(each.box_xyxy_px, image.size) and 0 <= each.confidence < 1 for each in found)


def test_contrast_is_the_formula_of_the_docstring():
    pixels = np.random.default_rng(3).integers(0, 256, (40, 50), dtype=np.uint8)
    boxes = np.array([[10, 12, 22, 24], [0, 0, 12, 12], [30, 20, 50, 40], [0, 0, 50, 40]])
    expected = []
    for x0, y0, x1, y1 in boxes:
        margin_x, margin_y = round((x1 - x0) * 0.2071), round((y1 - y0) * 0.2071)
        ring = np.zeros(pixels.shape, bool)
        ring[max(0, y0 - margin_y) : y1 + margin_y, max(0, x0 - margin_x) : x1 + margin_x] = True
        ring[y0:y1, x0:x1] = False
        usable = ring.sum() * 2 >= (x1 - x0) * (y1 - y0)
        around = pixels[ring].astype(float)
        expected.append((pixels[y0:y1, x0:x1].mean() - around.mean()) / (around.std() + 1) if usable else 0.0)
    assert contrast(Sums.of(pixels), boxes) == pytest.approx(expected)
    assert expected[-1] == 0.0  # the whole image has no ring


def test_windows_are_a_grid_and_only_where_asked():
    assert windows((10, 12), 8, 8, 2).tolist() == [[x, y, x + 8, y + 8] for y in (0, 2) for x in (0, 2, 4)]
    assert windows((10, 12), 8, 8, 1, (5.0, 5.0, 5.5, 5.5)).tolist() == [[1, 1, 9, 9]]
    assert windows((10, 12), 3, 8, 1).shape == windows((10, 12), 8, 11, 1).shape == (0, 4)


def test_suppression_keeps_the_strongest_of_what_overlaps():
    boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [0, 0, 4, 4], [20, 0, 30, 10], [40, 0, 50, 10]])
    strengths = np.array([0.5, 0.9, 0.3, 0.5, 0.1])
    assert suppressed(boxes, strengths, 0.2, 8) == [1, 3, 2]  # the second hides the first; half of the small one shows
    assert suppressed(boxes, strengths, 0.2, 1) == [1]


def test_answers_do_not_depend_on_the_batch():
    expert, images = SaliencyExpert(), [picture(seed=i) for i in range(3)]
    asks = [Ask(question(), f"image{i}", image, Scan()) for i, image in enumerate(images)]
    assert expert.answer(asks) == [expert.answer([ask])[0] for ask in asks]
    assert expert.answer(asks[::-1]) == expert.answer(asks)[::-1]
