import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image

from pipeline.adapters.experts.annotations import AnnotationsExpert, visibility
from pipeline.adapters.experts.registry import make_expert
from pipeline.adapters.experts.saliency import SaliencyExpert
from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem
from pipeline.core.phantom import phantom
from pipeline.core.search import search
from schemas.boxes import clamp, grow
from schemas.errors import UsageError
from schemas.experts import Ask, Drill, Scan
from schemas.records import Region
from tests.doubles import question
from tests.rederived import problems

NODULE = Region((40.0, 100.0, 56.0, 116.0), "nodule", "finding")
HILUM = Region((250.0, 150.0, 350.0, 260.0), "hilum", "distractor")
BLANK = Image.new("L", (448, 448), 90)
WHOLE = (0.0, 0.0, 448.0, 448.0)


def scan(expert, asked, image=BLANK):
    return expert.answer([Ask(asked, "image0", image, Scan())])[0]


def drill(expert, asked, box, label="x", margin=1.0, image=BLANK, round_=1):
    look = clamp(grow(box, margin), image.size)
    return expert.answer([Ask(asked, "image0", image, Drill(box, label, look, round_))])[0]


@pytest.mark.parametrize(
    ("box", "view", "view_px", "expected"),
    [
        ((0, 0, 8, 8), WHOLE, 448, 0.5),  # 8 px of the view are half visible
        ((0, 0, 8, 200), WHOLE, 448, 0.5),  # the shorter side counts
        ((0, 0, 32, 32), WHOLE, 112, 0.5),  # a view of 112 px shows 32 px as 8
        ((0, 0, 8, 8), (0, 0, 112, 112), 448, 1024 / (1024 + 64)),  # a crop is enlarged to the view
        ((0, 0, 8, 8), (0, 0, 56, 224), 448, 1024 / (1024 + 64)),  # … to its area, whatever its shape
        ((0, 0, 16, 16), (8, 0, 448, 440), 440, 0.5),  # what sticks out is not seen
        ((0, 0, 8, 8), (100, 100, 200, 200), 448, 0.0),
    ],
)
def test_visibility(box, view, view_px, expected):
    assert visibility(box, view, view_px) == pytest.approx(expected)


def test_annotations_scan_in_order_with_relevance_times_visibility():
    asked = question(question="Is the nodule striped?", answer="yes", regions=(HILUM, NODULE))
    seen = scan(AnnotationsExpert(), asked)
    assert [(each.label, each.box_xyxy_px) for each in seen.candidates] == [
        ("hilum", HILUM.box_xyxy_px),
        ("nodule", NODULE.box_xyxy_px),
    ]
    assert [each.confidence for each in seen.candidates] == pytest.approx(
        [0.25 * 100**2 / (100**2 + 64), 0.95 * 16**2 / (16**2 + 64)]
    )
    assert seen.text == "likely nodule on the upper left, doubtful hilum on the middle right"  # surest first


def test_zooming_raises_the_confidence_by_what_delta_measures():
    expert, asked = AnnotationsExpert(view_px=112), question(answer="yes", regions=(NODULE,))
    before = scan(expert, asked).candidates[0].confidence
    rounds = [
        drill(expert, asked, NODULE.box_xyxy_px, "nodule", margin).candidates[0].confidence for margin in (1, 0.5, 0.25)
    ]
    assert before == pytest.approx(0.95 * 4**2 / (4**2 + 64))  # 16 px shrunk to a quarter
    assert rounds[0] == pytest.approx(0.95 * (112 / 3) ** 2 / ((112 / 3) ** 2 + 64))
    assert [before, *rounds] == sorted([before, *rounds])
    assert (rounds[0] - before) / before > 0.15 > (rounds[1] - rounds[0]) / rounds[0]


def test_annotations_are_those_of_the_image_asked_about_and_inside_it():
    elsewhere = replace(NODULE, image=1, label="other image")
    outside = replace(NODULE, box_xyxy_px=(900.0, 0.0, 950.0, 50.0), label="outside")
    edge = replace(NODULE, box_xyxy_px=(430.0, 0.0, 470.0, 50.0), label="edge")
    asked = question(image_ids=("image0", "image1"), regions=(elsewhere, outside, edge))
    assert [(each.label, each.box_xyxy_px) for each in scan(AnnotationsExpert(), asked).candidates] == [
        ("edge", (430.0, 0.0, 448.0, 50.0))
    ]


def test_an_image_that_a_question_has_twice_bears_the_marks_of_both_wherever_it_is_asked_about():
    image, regions = Image.new("L", (448, 448)), (NODULE, replace(NODULE, image=1, label="second"))
    asked = question(image_ids=("image0", "image0"), regions=regions)
    told = AnnotationsExpert().answer([Ask(asked, "image0", image, Scan(image=index)) for index in (0, 1)])
    assert [each.label for each in told[0].candidates] == ["nodule", "second"]
    assert told[0] == told[1]


@pytest.mark.parametrize("name", ["annotations", "saliency"])
def test_shipped_experts_search_several_images_by_the_rules(name):
    made = [phantom(0, index, "L2", side) for index, side in ((5, 224), (6, 112), (7, 448))]
    regions = tuple(
        Region(each.box_xyxy_px, each.label, each.provenance, image)
        for image, one in enumerate(made)
        for each in one.regions
    )
    images = [Image.fromarray(one.pixels) for one in made]
    shown = tuple(SearchImage(f"image{i}", image.size, lambda image=image: image) for i, image in enumerate(images))
    ids = tuple(each.image_id for each in shown)
    item = SearchItem(question(question="Is there a nodule?", image_ids=ids, regions=regions), shown)
    config = SearchConfig(origins=("scan_only", "drill_only", "random"))
    found = search([item], make_expert(name, {}), config, source="p", seed=0)
    assert not found.rejects
    for row in found.trajectories:
        assert row.origin == "random" or problems(row, list(item.sizes)) == []
        if name == "annotations" and row.origin == "grn":
            marked = {(box.box_xyxy_px, box.image) for box in regions}
            assert {(box.box_xyxy_px, box.image) for box in row.regions} == marked


def test_an_image_without_annotations_gives_nothing_and_no_confidence():
    asked = question()
    assert scan(AnnotationsExpert(), asked).candidates == ()
    seen = drill(AnnotationsExpert(), asked, WHOLE, "whole image")
    assert [(each.box_xyxy_px, each.label, each.confidence) for each in seen.candidates] == [
        (WHOLE, "whole image", 0.0)
    ]


@pytest.mark.parametrize(
    ("box", "label", "found"),
    [
        (NODULE.box_xyxy_px, "nodule", "nodule"),
        ((42.0, 100.0, 58.0, 116.0), "x", "nodule"),  # IoU 0.78: the region itself
        ((0.0, 0.0, 224.0, 224.0), "upper left quadrant", "nodule"),  # the surest inside
        ((224.0, 0.0, 448.0, 224.0), "upper right quadrant", "hilum"),  # centre (300, 205)
        ((224.0, 224.0, 448.0, 448.0), "lower right quadrant", None),
        (WHOLE, "whole image", "nodule"),  # of two inside, the surer
    ],
)
def test_a_drill_finds_the_annotation_that_the_box_means(box, label, found):
    asked = question(regions=(HILUM, NODULE))
    (candidate,) = drill(AnnotationsExpert(), asked, box, label, margin=0.0).candidates
    regions = {"nodule": NODULE.box_xyxy_px, "hilum": HILUM.box_xyxy_px, None: box}
    assert candidate.box_xyxy_px == regions[found]
    assert (candidate.confidence > 0) == (found is not None)


def test_a_region_asked_about_is_itself_even_when_a_surer_one_lies_in_it():
    small = Region((290.0, 190.0, 310.0, 210.0), "nodule", "finding")
    asked = question(regions=(small, HILUM))
    moved = (255.0, 155.0, 355.0, 265.0)  # IoU 0.83 with the hilum
    assert drill(AnnotationsExpert(), asked, moved, "hilum").candidates[0].label == "hilum"


def test_of_two_annotations_with_one_box_a_drill_takes_the_label_asked_about():
    asked = question(regions=(replace(NODULE, label="mass"), NODULE))
    assert drill(AnnotationsExpert(), asked, NODULE.box_xyxy_px, "nodule").candidates[0].label == "nodule"
    assert drill(AnnotationsExpert(), asked, NODULE.box_xyxy_px, "mass").candidates[0].label == "mass"


def test_whose_left_is_a_setting_and_a_side_in_the_label_outranks_it():
    asked = question(question="Is it on the left?", regions=(replace(NODULE, label="effusion"),))
    image, patient = AnnotationsExpert(), AnnotationsExpert(sides_of="patient")
    assert scan(image, asked).text.endswith("effusion on the upper left")
    assert scan(patient, asked).text.endswith("effusion on the upper right")
    assert scan(image, asked).candidates[0].confidence > scan(patient, asked).candidates[0].confidence
    labelled = question(question="Is it on the left?", regions=(replace(NODULE, label="Left effusion"),))
    assert scan(patient, labelled).candidates[0].confidence == scan(image, asked).candidates[0].confidence
    assert scan(patient, labelled).text == "likely left effusion"


def test_no_text_tells_an_answer_that_is_no_label():
    asked = question(question="Is the nodule striped?", answer="striped", regions=(NODULE, HILUM))
    for seen in (scan(AnnotationsExpert(), asked), drill(AnnotationsExpert(), asked, NODULE.box_xyxy_px)):
        assert "striped" not in seen.text


def test_annotations_are_privileged_and_settings_name_the_expert():
    assert AnnotationsExpert().identity.privileged
    assert not SaliencyExpert().identity.privileged
    made = [AnnotationsExpert(), AnnotationsExpert(view_px=112), AnnotationsExpert(sides_of="patient")]
    made += [SaliencyExpert(), SaliencyExpert(work_px=128), SaliencyExpert(boxes_max=4)]
    assert len({expert.identity.id for expert in made}) == len(made)


@pytest.mark.parametrize("name", ["annotations", "saliency"])
def test_shipped_experts_search_a_phantom_by_the_rules(name):
    made = phantom(0, 5, "L2", 224)
    regions = tuple(Region(each.box_xyxy_px, each.label, each.provenance) for each in made.regions)
    asked = question(question=made.questions[0].text, answer=made.questions[0].answer, regions=regions)
    image = Image.fromarray(made.pixels)
    config = SearchConfig(origins=("scan_only", "drill_only", "random"))
    results = [
        search(
            [SearchItem(asked, (SearchImage("image0", image.size, lambda: image),))],
            make_expert(name, {}),
            config,
            source="p",
            seed=0,
        )
        for _ in range(2)
    ]
    assert results[0] == results[1]
    assert not results[0].rejects
    assert all(row.origin == "random" or problems(row, [image.size]) == [] for row in results[0].trajectories)


def test_the_annotations_expert_looks_first_at_the_finding_on_the_side_asked_about():
    for index in range(8):  # every L2 question names a side
        made = phantom(1, index, "L2", 224)
        side = "left" if "left" in made.questions[0].text else "right"
        regions = tuple(Region(each.box_xyxy_px, each.label, each.provenance) for each in made.regions)
        asked = question(question=made.questions[0].text, answer=made.questions[0].answer, regions=regions)
        surest = max(
            scan(AnnotationsExpert(), asked, Image.fromarray(made.pixels)).candidates, key=lambda c: c.confidence
        )
        assert surest.label in ("nodule", "consolidation")
        assert (surest.box_xyxy_px[0] + surest.box_xyxy_px[2] < 224) == (side == "left")


def test_experts_are_made_by_name_with_their_settings():
    assert make_expert("annotations", {"view_px": 112}) == AnnotationsExpert(view_px=112)
    assert make_expert("saliency", {}) == SaliencyExpert()


@pytest.mark.parametrize(
    ("name", "given_settings", "says"),
    [
        ("oracle", {}, "take one of annotations"),
        ("saliency", {"view_px": 112}, "view_px"),
        ("annotations", {"view_px": 0}, "view_px"),
        ("annotations", {"view_px": "big"}, "view_px"),
        ("annotations", {"sides_of": "doctor"}, "sides_of"),
        ("saliency", {"work_px": 9000}, "work_px"),
        ("saliency", {"boxes_max": 0}, "boxes_max"),
        ("saliency", {"confidence_min": 1.5}, "confidence_min"),
        ("saliency", {"confidence_min": "high"}, "confidence"),
    ],
)
def test_wrong_names_and_settings_are_usage_errors_that_say_so(name, given_settings, says):
    with pytest.raises(UsageError) as caught:
        make_expert(name, given_settings)
    assert says in str(caught.value)


def test_naming_an_expert_loads_no_other():
    code = (
        "from pipeline.adapters.experts.registry import make_expert; make_expert('annotations', {}); import sys; "
        "sys.exit(bool({'numpy', 'PIL', 'pipeline.adapters.experts.saliency'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
