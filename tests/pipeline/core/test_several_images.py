"""One search over all images of a question: scanned one after another, chosen from together, cut each from its own."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import search as search_module
from pipeline.core.cvs import SamplerConfig, greedy
from pipeline.core.grn import Aim, NavigatorConfig, Stop, advance, next_query, start
from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem
from pipeline.core.search import search
from schemas.boxes import inside
from schemas.experts import Candidate, Drill, ExpertIdentity, Scan, Seen, as_asked, call_id
from schemas.manifest import sha256_of
from schemas.records import Rule
from schemas.rows import from_table, to_table
from tests.doubles import IDENTITY, ScriptedExpert, question
from tests.rederived import problems

RULE = Rule(gain_min=0.15, confident_at=0.85, looks_max=4, mass=0.9, temperature=0.2, crossing="exclude")
BEST = greedy(RULE)
SIZES = ((200, 100), (120, 90), (60, 160), (200, 100))
ALL = ("scan_only", "drill_only", "random")
RESCANS = ExpertIdentity("scripted", "1", rescans=True)
A, B, C = ((x, 10.0, x + 20, 30.0) for x in (10.0, 40.0, 80.0))


def item(number, sizes, ids=None):
    ids = ids or tuple(f"image{number}-{index}" for index in range(len(sizes)))
    images = tuple(
        SearchImage(one, size, lambda one=one: f"pixels of {one}") for one, size in zip(ids, sizes, strict=True)
    )
    return SearchItem(question(f"q{number}", image_ids=ids), images)


def seen(*candidates):
    return Seen(tuple(Candidate(box, "r", confidence) for box, confidence in candidates), "words")


def scanned(*answers, sizes=SIZES, **options):
    """The state after first scans that gave these candidates, image by image."""
    state = start(sizes[: len(answers)], **options)
    for image, answer in enumerate(answers):
        move = next_query(state, BEST, RULE)
        assert move == Scan(image=image)
        state = advance(state, move, seen(*answer), RULE, f"scan{image}")
    return state


def told(state, *answers, rule=RULE):
    """`state` after drills with these confidences or re-scans with these candidates, and what comes next."""
    for answer in answers:
        move = next_query(state, BEST, rule)
        reply = seen((move.drill.box_xyxy_px, answer)) if isinstance(move, Aim) else seen(*answer)
        state = advance(state, move, reply, rule, f"call{len(state.steps)}")
    return state, next_query(state, BEST, rule)


def shape(state):
    return [(step.mode, step.image, step.call_id) for step in state.steps]


configs = st.builds(
    SearchConfig,
    st.builds(NavigatorConfig, st.sampled_from((0.05, 0.5)), st.sampled_from((0.6, 0.9)), st.integers(1, 8)),
    st.builds(SamplerConfig, st.integers(0, 4), st.sampled_from((0.5, 1.0)), st.sampled_from((0.1, 2.0))),
    st.just(ALL),
)
scripts = st.fixed_dictionaries(
    {
        "script": st.integers(0, 10**6),
        "n_regions": st.integers(0, 5),
        "odd": st.sampled_from((0.0, 0.4)),
        "identity": st.sampled_from((IDENTITY, RESCANS)),
    }
)
shapes = st.lists(st.sampled_from(SIZES), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(configs, scripts, st.lists(shapes, min_size=1, max_size=3))
def test_every_decision_follows_from_the_row_alone(config, script, several):
    items = [item(number, sizes) for number, sizes in enumerate(several)]
    result = search(items, ScriptedExpert(**script), config, source="scripted", seed=1)
    assert not result.rejects
    asked = {one.question.question_id: one for one in items}
    calls = {call.call_id: call for call in result.calls}
    for row in result.trajectories:
        one = asked[row.question_id]
        assert row.image_ids == one.question.image_ids
        assert row.origin == "random" or problems(row, list(one.sizes)) == []
        first = [step.region for step in row.steps if step.round == 1]
        assert len(set(first)) == len(first)  # nothing is chosen twice
        for step in row.steps:
            boxes = [box for box in (step.box_xyxy_px, step.look_xyxy_px) if box is not None]
            assert all(inside(box, one.sizes[step.image]) for box in boxes)
            assert step.call_id is None or calls[step.call_id].image_id == row.image_ids[step.image]
        for region in row.regions:
            assert inside(region.box_xyxy_px, one.sizes[region.image])
            assert region.call_id is None or calls[region.call_id].image_id == row.image_ids[region.image]
    assert tuple(from_table("trajectories", to_table("trajectories", result.trajectories))) == result.trajectories
    recorded = Recorded(calls, script["identity"])
    assert search(items, recorded, config, source="scripted", seed=1) == result


class Recorded:
    """Answers from recorded calls, and knows nothing else."""

    def __init__(self, calls, identity):
        self.calls, self.identity = calls, identity

    def answer(self, asks):
        names = [call_id(self.identity.id, as_asked(ask.question), ask.image_id, ask.query) for ask in asks]
        told = [self.calls[name] for name in names]
        return [Seen(tuple(Candidate(*each) for each in call.candidates), call.text, call.raw) for call in told]


def test_a_search_of_one_image_is_what_it_was_before_there_were_several(monkeypatch):
    """Calls were named by the question's id alone then, and told no reason of a failure."""
    for module in ("pipeline.core.search", "tests.doubles"):
        monkeypatch.setattr(f"{module}.as_asked", lambda question, **_: question.question_id)
    rows = []
    for rescans, n_regions, looks_max in ((a, b, c) for a in (False, True) for b in (0, 1, 6) for c in (1, 4, 9)):
        config = SearchConfig(NavigatorConfig(looks_max=looks_max), SamplerConfig(variants=3), ALL)
        expert = ScriptedExpert(odd=0.1, n_regions=n_regions, identity=RESCANS if rescans else IDENTITY)
        items = [item(number, SIZES[:1], ("image0",)) for number in range(8)]
        found = search(items, expert, config, source="scripted", seed=4)
        rows += to_table("trajectories", found.trajectories).to_pylist()
        rows += to_table("expert_calls", found.calls).to_pylist()
    for row in rows:
        assert {*row.pop("region_image", ()), *row.pop("step_image", ())} <= {0}
        if "image_ids" in row:
            (row["image_id"],) = row.pop("image_ids")
        row.pop("message", None)
    assert sha256_of(rows) == "36ea18111c72a342232ed770d88896575763d7f229a8ae88e39254efdfb4976a"


def test_a_call_is_named_by_its_image_not_by_the_place_it_has_in_the_question():
    drill = Drill(A, "r", B, 1)
    for query in (Scan(), Scan((A, B)), drill):
        moved = replace(query, image=3)
        assert moved != query
        assert call_id("e", "q", "i", moved) == call_id("e", "q", "i", query)


def test_regions_of_all_images_compete_in_one_choice():
    state = scanned([(A, 0.2)], [(A, 0.7), (B, 0.6)], [(A, 0.65)])
    assert [(region.image, region.call_id) for region in state.regions] == [
        (0, "scan0"), (1, "scan1"), (1, "scan1"), (2, "scan2")
    ]  # fmt: skip
    state, move = told(state, 0.1, 0.1, 0.1)
    assert shape(state) == [
        ("scan", 0, "scan0"), ("scan", 1, "scan1"), ("scan", 2, "scan2"),
        ("drill", 1, "call3"), ("scan", 2, "scan2"), ("drill", 2, "call4"), ("scan", 1, "scan1"), ("drill", 1, "call6"),
    ]  # fmt: skip
    assert [step.region for step in state.steps if step.mode == "drill"] == [1, 3, 2]
    assert move.choice.candidates == (0,)  # box A of image 0, though A was visited on two others
    assert (move.drill.image, move.drill.look_xyxy_px) == (0, (0.0, 0.0, 50.0, 50.0))


def test_a_look_ends_at_the_edge_of_its_own_image():
    state = scanned([(A, 0.1)], [((100.0, 80.0, 120.0, 90.0), 0.9)])
    assert next_query(state, BEST, RULE).drill.look_xyxy_px == (80.0, 70.0, 120.0, 90.0)


@pytest.mark.parametrize(
    ("looks_max", "images", "reason"), [(4, [0, 1, 2], "exhausted"), (3, [0, 1, 2], "exhausted"), (2, [0, 1], "length")]
)
@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0])  # a gain, or being sure, changes nothing
def test_without_any_region_each_whole_image_is_looked_at_once(looks_max, images, reason, confidence):
    state = scanned([], [], [], rescans=True)
    assert [(r.box_xyxy_px, r.label, r.confidence, r.image) for r in state.regions] == [
        ((0.0, 0.0, float(w), float(h)), "whole image", 0.0, image) for image, (w, h) in enumerate(SIZES[:3])
    ]
    state, move = told(state, *[confidence] * len(images), rule=replace(RULE, looks_max=looks_max))
    assert [step.image for step in state.steps if step.mode == "drill"] == images
    assert {step.round for step in state.steps if step.mode == "drill"} == {1}
    assert (move, state.fallback) == (Stop(reason), "whole_image")


def test_a_region_on_any_image_is_no_reason_to_look_at_whole_ones():
    state = scanned([], [(A, 0.5)], [])
    assert (state.fallback, len(state.regions)) == (None, 1)
    assert told(state, 0.5)[1] == Stop("exhausted")


def test_images_are_scanned_again_in_turn_until_one_brings_a_region():
    rule = replace(RULE, looks_max=9)
    state, move = told(scanned([(A, 0.5)], [(A, 0.4)], [], rescans=True), 0.1, 0.1, rule=rule)
    assert move == Scan((A,), 0)
    state, move = told(state, [(A, 0.9)], rule=rule)  # known
    assert move == Scan((A,), 1)
    state, move = told(state, [(B, 0.3)], rule=rule)  # new: chosen at once
    assert (move.region, move.drill.image) == (2, 1)
    state, move = told(state, 0.1, rule=rule)
    assert move == Scan((A,), 0)  # the round begins again
    state, move = told(state, [], [], rule=rule)
    assert move == Scan((), 2)  # nothing was visited there
    state, move = told(state, [], rule=rule)
    assert move == Stop("exhausted")  # a round that brought nothing is not repeated
    assert [image for mode, image, _ in shape(state) if mode == "scan"] == [0, 1, 2, 1, 0, 1, 0, 1, 2]


def test_the_first_scans_are_one_batch_and_what_is_asked_comes_with_its_image():
    class Watched(ScriptedExpert):
        def answer(self, asks):
            assert all(ask.image == f"pixels of {ask.image_id}" for ask in asks)
            assert all(ask.question.image_ids[ask.query.image] == ask.image_id for ask in asks)
            return super().answer(asks)

    expert = Watched()
    search([item(0, SIZES), item(1, SIZES[:2])], expert, SearchConfig(), source="scripted", seed=0)
    assert len(expert.batches[0]) == 6


def test_an_image_that_a_question_has_twice_is_asked_about_once():
    expert = ScriptedExpert()
    result = search([item(0, SIZES[:1] * 2, ("same", "same"))], expert, SearchConfig(), source="scripted", seed=0)
    row = result.trajectories[0]
    assert len(expert.batches[0]) == 1
    assert row.steps[0].call_id == row.steps[1].call_id
    assert Counter(region.image for region in row.regions) == {0: 5, 1: 5}
    assert problems(row, list(SIZES[:1] * 2)) == []


def test_an_expert_is_handed_no_more_images_at_once_than_there_is_room_for(monkeypatch):
    items = [item(number, SIZES[:3]) for number in range(4)]
    at_once = ScriptedExpert()
    expected = search(items, at_once, SearchConfig(), source="scripted", seed=0)
    monkeypatch.setattr(search_module, "PIXELS_AT_ONCE", 41_000)  # the three images of one question have 40,400
    in_goes = ScriptedExpert()
    assert search(items, in_goes, SearchConfig(), source="scripted", seed=0) == expected
    assert [len(batch) for batch in in_goes.batches[:4]] == [3, 3, 3, 3]
    assert all(batch == sorted(batch) for batch in in_goes.batches)
    assert len(at_once.batches[0]) == 12


def test_ablations_stay_on_the_images_they_know():
    found = search([item(0, SIZES[:3])], ScriptedExpert(), SearchConfig(origins=ALL), source="scripted", seed=0)
    rows = {row.origin: row for row in found.trajectories if row.origin != "cvs"}
    cells = rows["drill_only"].regions
    assert [cell.image for cell in cells] == [0] * 5 + [1] * 5 + [2] * 5
    assert cells[9].box_xyxy_px == (0.0, 0.0, 120.0, 90.0)
    looks = [[step for step in rows[origin].steps if step.look_xyxy_px] for origin in ("grn", "random")]
    assert [step.image for step in looks[0]] == [step.image for step in looks[1]]
    assert all(inside(step.look_xyxy_px, SIZES[step.image]) for step in looks[1])
    assert [step.image for step in rows["scan_only"].steps[:3]] == [0, 1, 2]


def test_a_question_without_images_is_refused_by_name():
    with pytest.raises(ValueError, match="q7 has no image"):
        SearchItem(question("q7", image_ids=()), ())
