import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.boxes import area, intersection
from schemas.grammar import parse
from schemas.records import Region
from tests.doubles import question
from trainer.lessons import COVERED_MIN, lesson, named_regions, prior_answers, random_look, words
from trainer.recipe import WarmConfig

WARM = WarmConfig(kind="format", reading_share=0.5)
FORM, READING = replace(WARM, reading_share=0.0), replace(WARM, reading_share=1.0)
SIZE = (448, 448)
UPPER, LOWER = (60.0, 60.0, 110.0, 115.0), (300.0, 320.0, 350.0, 360.0)
GUESSES = {None: ("perhaps", "perhaps", "perhaps", "hardly")}


def with_nodule(scene_of, box, **asked):
    return scene_of(regions=(Region(box, "nodule", "finding"),), **asked)


def lessons(environment, scene, config, n=60):
    return [lesson(environment, scene, GUESSES, config, ("test", number)) for number in range(n)]


def looks(told):
    return [one.episode.looks[0].wire for one in told]


def shows(told, box):
    """Share of the box that the crop of each lesson holds."""
    return [intersection(one.episode.looks[0].box_xyxy_px, box) / area(box) for one in told]


def test_a_form_look_does_not_know_where_the_lesion_is(environment, scene_of):
    here, there = (lessons(environment, with_nodule(scene_of, box), FORM) for box in (UPPER, LOWER))
    nowhere = lessons(environment, scene_of(), FORM)
    drawn = [random_look(SIZE, WARM, ("test", number)) for number in range(60)]
    wanted = [environment.look(scene_of(), "", 0, box).box for box in drawn]
    assert looks(here) == looks(there) == looks(nowhere) == wanted
    assert all(one.trains_looks for one in here + there)


def test_a_form_look_that_misses_gets_a_guess_and_one_that_hits_the_truth(environment, scene_of):
    told = lessons(environment, with_nodule(scene_of, UPPER), FORM, 300)
    covered = shows(told, UPPER)
    assert {one.episode.answer for one, share in zip(told, covered, strict=True) if share < 0.8} == {
        "perhaps",
        "hardly",
    }
    assert {one.episode.answer for one, share in zip(told, covered, strict=True) if share > 0.99} == {"yes"}
    assert all(one.is_shown == (one.episode.answer == "yes") for one in told)
    guessed = Counter(one.episode.answer for one in told if not one.is_shown)
    assert 2 < guessed["perhaps"] / guessed["hardly"] < 4.5  # three to one in the prior


def test_a_reading_look_holds_the_lesion_and_is_not_taught(environment, scene_of):
    for box in (UPPER, LOWER):
        told = lessons(environment, with_nodule(scene_of, box), READING)
        assert min(shows(told, box)) >= COVERED_MIN
        assert {one.episode.answer for one in told} == {"yes"}
        assert all(one.is_shown and not one.trains_looks for one in told)
        assert len(set(looks(told))) > 50  # somewhere around it, not always the same


def test_both_kinds_in_the_share_asked_for(environment, scene_of):
    told = lessons(environment, with_nodule(scene_of, UPPER), replace(WARM, reading_share=0.25), 200)
    assert 0.15 < sum(not one.trains_looks for one in told) / len(told) < 0.35
    unnamed = lessons(environment, scene_of(), READING)
    assert all(one.trains_looks and one.is_shown and one.episode.answer == "yes" for one in unnamed)


def test_a_lesson_is_a_function_of_its_key(environment, scene_of):
    scene = with_nodule(scene_of, UPPER)
    once, again = (lessons(environment, scene, WARM) for _ in range(2))
    assert [one.episode.ids for one in once] == [one.episode.ids for one in again]
    assert len({tuple(one.episode.ids) for one in once}) > 50


def test_lessons_are_grammatical_and_their_words_hold_no_number(environment, scene_of):
    for one in lessons(environment, with_nodule(scene_of, UPPER), WARM):
        assert environment.is_grammatical(one.episode)
        assert len(one.episode.looks) == 1
        said = [parse(text, environment.dialogue.dialect).reasoning for text in one.episode.turns]
        assert not re.search(r"\d", " ".join(said))


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(40, 900),
    height=st.integers(40, 900),
    key=st.integers(0, 999),
    edges=st.lists(st.floats(0, 1), min_size=4, max_size=4, unique=True),
)
def test_a_random_look_lies_in_the_image_around_what_it_must_hold(width, height, key, edges):
    low_x, high_x = sorted(edges[:2])
    low_y, high_y = sorted(edges[2:])
    around = (low_x * width, low_y * height, high_x * width, high_y * height)
    for target in (None, around):
        look = random_look((width, height), WARM, (key,), around=target)
        assert min(look) >= -1e-6
        assert look[2] <= width + 1e-6
        assert look[3] <= height + 1e-6
        for axis, extent in enumerate((width, height)):
            least = WARM.look_side_share_min * extent
            most = max(WARM.look_side_share_max * extent, 0 if target is None else target[axis + 2] - target[axis])
            assert least - 1e-6 <= look[axis + 2] - look[axis] <= most + 1e-6
    assert intersection(look, around) == pytest.approx(area(around))


def test_random_looks_are_uniform():
    """Place and side of 2,000 looks: each quarter of their range is met as often, within five deviations."""
    drawn = [random_look(SIZE, WARM, (number,)) for number in range(2000)]
    for axis in (0, 1):
        sides = [look[axis + 2] - look[axis] for look in drawn]
        places = [look[axis] / (448 - side) for look, side in zip(drawn, sides, strict=True)]
        shares = [(side / 448 - 0.25) / 0.15 for side in sides]
        for values in (places, shares):
            assert all(abs(n - 500) < 100 for n in Counter(int(4 * value) for value in values).values())


def test_prior_answers_keep_multiplicity_and_know_no_order():
    asked = [
        question("b", question_type="side", answer="left"),
        question("a", question_type="side", answer="right"),
        question("c", question_type="side", answer="left"),
        question("d", answer="no"),
    ]
    assert prior_answers(asked) == prior_answers(asked[::-1]) == {"side": ("right", "left", "left"), None: ("no",)}


LEFT, RIGHT = Region(UPPER, "nodule", "finding"), Region(LOWER, "nodule", "finding")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Is the nodule striped?", [LEFT, RIGHT]),
        ("Is the NODULE on the left striped?", [LEFT]),
        ("Is the nodule on the right striped?", [RIGHT]),
        ("Which is larger, the left or the right nodule?", [LEFT, RIGHT]),
        ("What is the finding on the right, nodule or consolidation?", [RIGHT]),
        ("Is there an effusion?", []),
        ("Are there nodules?", []),
        ("Is there a clip?", []),  # drawn, but no finding
    ],
)
def test_regions_a_question_names(scene_of, text, named):
    others = (Region((0.0, 0.0, 9.0, 9.0), "clip", "distractor"), Region(UPPER, "nodule", "second-reader"))
    assert named_regions(scene_of(question=text, regions=(LEFT, *others, RIGHT))) == named


def on_image(image, box, **asked):
    return {"regions": (Region(box, "nodule", "finding", image),)} | asked


def test_of_several_images_a_reading_look_is_at_the_one_that_shows_it(environment, scene_of_three):
    """One box, in the upper third of the first image and in the middle third of the second."""
    box = (10.0, 60.0, 60.0, 115.0)
    for image in (0, 1):
        scene = scene_of_three(**on_image(image, box))
        told = lessons(environment, scene, READING, 20)
        assert {look.image for one in told for look in one.episode.looks} == {image}
        assert min(shows(told, box)) >= COVERED_MIN
        assert {one.episode.answer for one in told} == {"yes"}
        place = f"{('upper', 'middle')[image]} left of image {image + 1}"
        assert words(named_regions(scene), scene, True) == (
            f"likely nodule on the {place}",
            f"clear nodule on the {place}",
        )


def test_of_several_images_a_form_look_is_at_any_and_the_right_box_of_a_wrong_one_shows_nothing(
    environment, scene_of_three
):
    whole = (0.0, 0.0, 224.0, 224.0)
    large = replace(FORM, look_side_share_min=1.0, look_side_share_max=1.0)
    told = lessons(environment, scene_of_three(**on_image(1, whole)), large, 90)
    met = Counter(one.episode.looks[0].image for one in told)
    assert all(15 < met[image] < 45 for image in range(3))
    assert all(one.is_shown == (one.episode.looks[0].image == 1) for one in told)


def test_a_side_is_that_of_the_regions_own_image(scene_of_three):
    """x = 200 is on the left of the first image (448 wide) and on the right of the third (224 wide)."""
    asked = {"question": "Is the nodule on the right striped?"}
    box = (190.0, 60.0, 210.0, 80.0)
    assert [len(named_regions(scene_of_three(**on_image(image, box, **asked)))) for image in (0, 2)] == [0, 1]


def test_with_two_findings_the_answer_goes_with_the_one_asked_about(environment, scene_of):
    scene = scene_of(question="Is the nodule on the right striped?", regions=(LEFT, RIGHT))
    assert min(shows(lessons(environment, scene, READING), LOWER)) >= COVERED_MIN
    told = lessons(environment, scene, FORM, 300)
    of_the_other = [one for one, share in zip(told, shows(told, UPPER), strict=True) if share > 0.99]
    assert of_the_other
    assert not any(one.is_shown for one in of_the_other)
