import numpy as np
import pytest

from pipeline.core.phantom_render import Anatomy, Mark, box_at, draw, lung_level

ANATOMY = Anatomy(
    centre_x=224,
    lung_y=212,
    lung_rx=83,
    lung_ry=167,
    gap=27,
    heart=(256, 296, 74, 66),
    lung_tone=60,
    tissue_tone=135,
    rib_phase=0.3,
    rib_spacing=38,
    waves=((1.0, 3.0, 0.2),),
)
LEFT, RIGHT = -1, 1
NODULE = (60, 180, 110, 230)


def difference(mark, side_px=448, without=()):
    return draw(ANATOMY, (mark,), side_px, 7).astype(int) - draw(ANATOMY, without, side_px, 7)


@pytest.mark.parametrize("side_px", [112, 224, 300, 448, 672])
@pytest.mark.parametrize(
    ("kind", "box"),
    [
        ("nodule", NODULE),
        ("consolidation", (60, 180, 116, 222)),
        ("effusion", (40, 290, 140, 370)),
        ("pneumothorax", (38, 130, 92, 260)),
        ("hilum", (120, 130, 224, 250)),
        ("rib crossing", (100, 90, 134, 124)),
        ("clip", (70, 270, 94, 294)),
    ],
)
def test_a_mark_shows_inside_its_box_and_nowhere_else(kind, box, side_px):
    x0, y0, x1, y1 = box_at(box, side_px)
    changed = difference(Mark(kind, box, 0.4), side_px)
    assert np.abs(changed[y0:y1, x0:x1]).max() >= 15
    changed[y0:y1, x0:x1] = 0
    assert not changed.any()


@pytest.mark.parametrize("kind", ["nodule", "consolidation"])
@pytest.mark.parametrize("variety", [0.0, 0.5, 0.999])
def test_a_findings_box_is_tight(kind, variety):
    rows, columns = np.nonzero(difference(Mark(kind, NODULE, variety)) >= 2)
    x0, y0, x1, y1 = NODULE
    slack = (columns.min() - x0, rows.min() - y0, x1 - 1 - columns.max(), y1 - 1 - rows.max())
    assert max(slack) <= 3, slack


@pytest.mark.parametrize("texture", ["striped", "spiculated"])
@pytest.mark.parametrize(("x", "y"), [(60, 180), (61, 181), (62, 182), (63, 183)])
def test_texture_has_zero_mean_and_is_never_clipped(texture, x, y):
    box = (x, y, x + 48, y + 48)
    plain = draw(ANATOMY, (Mark("nodule", box, 0.4),), 448, 7)
    textured = draw(ANATOMY, (Mark("nodule", box, 0.4, texture),), 448, 7)
    change = (textured.astype(int) - plain)[y : y + 48, x : x + 48]
    assert abs(change.mean()) < 0.1
    assert change.max() > 20
    assert change.min() < -20
    inside = textured[y : y + 48, x : x + 48][change != 0]
    assert inside.min() > 0
    assert inside.max() < 255


@pytest.mark.parametrize(("side_px", "shows"), [(112, False), (223, False), (224, True), (448, True), (896, True)])
def test_texture_needs_two_pixels_a_period(side_px, shows):
    textured = difference(Mark("nodule", NODULE, 0.4, "striped"), side_px, (Mark("nodule", NODULE, 0.4),))
    assert (np.abs(textured).max() > 15) == shows


def test_noise_follows_its_key():
    assert np.array_equal(draw(ANATOMY, (), 112, 7), draw(ANATOMY, (), 112, 7))
    assert not np.array_equal(draw(ANATOMY, (), 112, 7), draw(ANATOMY, (), 112, 8))


def test_lungs_mirror_each_other_and_are_dark_where_they_say():
    assert lung_level(ANATOMY, LEFT, 224 - 100.0, 200.0) == pytest.approx(
        lung_level(ANATOMY, RIGHT, 224 + 100.0, 200.0)
    )
    image = draw(ANATOMY, (), 448, 7).astype(float)
    y, x = np.mgrid[0:448, 0:448] + 0.5
    deep = lung_level(ANATOMY, LEFT, x, y) > 0.3
    assert image[deep].mean() < 85
    assert image[350:400, 60:160].mean() > image[deep].mean() + 40


@pytest.mark.parametrize(
    ("side_px", "box"),
    [(448, (3, 5, 43, 65)), (224, (2, 3, 22, 33)), (112, (1, 1, 11, 16)), (896, (6, 10, 86, 130))],
)
def test_frame_boxes_scale_rounding_half_up(side_px, box):
    assert box_at((3, 5, 43, 65), side_px) == box
