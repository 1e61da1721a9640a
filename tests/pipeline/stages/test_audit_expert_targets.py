"""Which questions count: those with a region of their own; and clear only what is stated to be clear."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.stages.audit_expert import Which
from pipeline.stages.audit_expert_targets import Targets, is_clear, sizes_of, targets
from schemas.errors import InputError, UsageError
from schemas.records import Finding, Question, Region
from schemas.seeds import uniform
from tests.pipeline.scripted_truths import AWAY, SPOT, TellingExpert, measured, spotted, store_of, store_with
from tests.pipeline.small_stores import INGEST, asked, drawn_image

LUNG = Region((0.0, 0.0, 30.0, 48.0), "lung", "mask")
MASS = Region(AWAY, "mass", "reader")
NEARLY_SPOT = (10.0, 10.0, 20.0, 19.0)


def sorted_out(
    root: Path,
    questions: Sequence[Question],
    findings: Sequence[tuple[int, str, int | None, str]] = (),
    truth: str = "asked",
    split: str | None = None,
) -> Targets:
    n_images = 4
    stated = [Finding(drawn_image(at).image_id, finding, value, who, "drawn") for at, finding, value, who in findings]
    snapshot = store_with(root, questions, stated, n_images).snapshot()
    return targets(snapshot, INGEST, truth, sizes_of(snapshot, INGEST), split)


def ask(number: int, text: str, *regions: Region, answer: str = "yes", source: str = "drawn") -> Question:
    return asked(number, drawn_image(number), question=text, answer=answer, regions=regions, source=source)


@pytest.mark.parametrize(
    ("text", "truth", "labels"),
    [
        ("Is there a mass?", "asked", ["mass"]),
        ("Is there a nodule?", "asked", []),
        ("Is the lung clear?", "asked", ["lung"]),
        ("Is there a nodule?", "findings", ["mass"]),  # an organ is no finding
        ("Is there a nodule?", "all", ["lung", "mass"]),
    ],
)
def test_whose_regions_count(tmp_path: Path, text: str, truth: str, labels: list[str]):
    found = sorted_out(tmp_path, [ask(0, text, LUNG, MASS)], truth=truth)
    boxes = [each for one in found.annotated for truths in one.truths.values() for each in truths]
    assert boxes == [({"lung": LUNG, "mass": MASS}[label].box_xyxy_px,) for label in labels]
    assert (found.n_other_regions, found.n_no_regions, found.clear) == (0 if labels else 1, 0, ())


@pytest.mark.parametrize(("source", "left_box"), [("drawn", SPOT), ("slake", AWAY)])
def test_left_is_the_patients_on_radiographs_and_the_images_elsewhere(tmp_path: Path, source: str, left_box):
    regions = (*spotted(SPOT, label="mass"), *spotted(AWAY, label="mass"))
    found = sorted_out(tmp_path, [ask(0, "Is there a mass on the left?", *regions, source=source)])
    assert [list(one.truths.values()) for one in found.annotated] == [[((left_box,),)]]


def test_a_side_in_the_label_outranks_where_the_box_lies(tmp_path: Path):
    """Also on the image's other half: an annotator has said which it is."""
    named = spotted(AWAY, label="mass in the left lung")
    found = sorted_out(
        tmp_path, [ask(0, "Is there a mass on the left?", *named), ask(1, "A mass on the right?", *named)]
    )
    assert [one.question.question_id for one in found.annotated] == ["drawn-0000"]


def test_two_readings_of_one_region_count_once_and_their_readers_are_named(tmp_path: Path):
    again = Region(NEARLY_SPOT, "spot", "second-reader")
    found = sorted_out(tmp_path, [ask(0, "Is spot 0 bright?", *spotted(SPOT), again)])
    assert list(found.annotated[0].truths.values()) == [((SPOT, NEARLY_SPOT),)]
    assert found.provenances == {"drawn": 1, "second-reader": 1}


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ([], False),  # an absent label is no negative
        ([("mass", 0), ("nodule", 0)], True),
        ([("mass", 0), ("nodule", None)], False),
        ([("mass", None)], False),
        ([("mass", 0), ("nodule", -1)], False),
        ([("mass", 0), ("mass", 1)], False),  # one annotator is enough
        ([("No Finding", 1), ("mass", None)], True),
        ([("No Finding", 1)], True),
        ([("Normal", 1), ("Lung Opacity", 0)], True),
        ([("No Lung Opacity / Not Normal", 1), ("Lung Opacity", 0)], False),
        ([("No Finding", 0), ("mass", 0)], False),  # contradictory
        ([("No Finding", 1), ("mass", 1)], False),
    ],
)
def test_what_is_stated_to_be_clear(stated, expected):
    assert is_clear(stated) is expected


def test_every_question_is_sorted_out_once(tmp_path: Path):
    questions = [
        ask(0, "Is there a mass?", MASS),
        ask(1, "Is there a nodule?", MASS),
        ask(2, "Is there a mass?", answer="no"),
        ask(3, "Is there a mass?", answer="no"),
    ]
    found = sorted_out(tmp_path, questions, [(2, "mass", 0, "reader"), (3, "mass", None, "reader")])
    assert [one.question.question_id for one in found.annotated] == ["drawn-0000"]
    assert [one.question.question_id for one in found.clear] == ["drawn-0002"]
    assert (found.n_other_regions, found.n_no_regions) == (1, 1)
    in_test = sorted_out(tmp_path / "again", questions, split="test")
    assert [len(each) for each in (in_test.annotated, in_test.clear)] == [0, 0]
    assert (in_test.n_other_regions, in_test.n_no_regions) == (0, 1)


def test_a_question_is_clear_where_all_of_its_images_are(tmp_path: Path):
    ids = [drawn_image(number).image_id for number in range(3)]
    pairs = [ask(0, "Is there a mass?"), ask(1, "Is there a mass?")]
    questions = [replace(pairs[0], image_ids=(ids[0], ids[1])), replace(pairs[1], image_ids=(ids[1], ids[2]))]
    found = sorted_out(tmp_path, questions, [(0, "mass", 0, "reader"), (1, "mass", 0, "reader")])
    assert [one.question.question_id for one in found.clear] == ["drawn-0000"]
    assert found.n_no_regions == 1  # of its second image nobody says anything


def test_a_sample_is_the_same_whatever_was_met_before(tmp_path: Path):
    """Of more questions than are held at a time, the smallest draws of all."""
    image = drawn_image(0)
    questions = [asked(number, image, regions=spotted(SPOT)) for number in range(180)]
    snapshot = store_with(tmp_path / "store", questions, [], 1).snapshot()
    sizes = sizes_of(snapshot, INGEST)
    found = targets(snapshot, INGEST, "asked", sizes, n=5, seed=3)
    order = sorted((uniform("audit expert", 3, one.question_id), one.question_id) for one in questions)
    assert [one.question.question_id for one in found.annotated] == sorted(name for _, name in order[:5])
    assert (found.n_annotated, len(targets(snapshot, INGEST, "asked", sizes).annotated)) == (180, 180)


def test_false_alarms_are_measured_on_clear_images_only(tmp_path: Path):
    questions = [ask(0, "Is there a mass?", MASS), *(ask(at, "Is there a mass?", answer="no") for at in (1, 2, 3))]
    stated = [Finding(drawn_image(at).image_id, "mass", 0, "reader", "drawn") for at in (1, 2)]
    store = store_with(tmp_path / "store", questions, stated, 4)
    report = measured(store, TellingExpert([(0.5, False, 0.5), (0.75, True, 0.5), None]))
    clear = report.worth.clear
    assert (clear.any_box.value, clear.sure_box.value, clear.any_box.n) == (0.5, 0.5, 2)
    assert (report.questions["clear"], report.questions["measured_clear"]) == (2, 2)
    assert report.questions["left_out_no_regions"] == 1
    assert report.worth.n_boxes == 1  # boxes on clear images are no part of precision


def test_without_a_region_there_is_nothing_to_measure(tmp_path: Path):
    store = store_of(tmp_path / "store", 2, regions=())
    with pytest.raises(InputError, match="has a region to measure against"):
        measured(store, TellingExpert([None]))


@pytest.mark.parametrize("wrong", [{"truth": "some"}, {"split": "dev"}])
def test_unknown_words_are_usage_errors(wrong):
    with pytest.raises(UsageError, match="is none of"):
        Which(**wrong)
