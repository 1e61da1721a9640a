import json
import math
from copy import copy
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import InputError
from schemas.grammar import Answer, Look, render
from trainer.environment import FEEDBACK_TOKENS, Environment

LOOK = '<reasoning></reasoning><action>{"name": "Gaze", "coordinate": %s}</action>'


def written(environment, turn):
    return environment.dialogue.written(turn if isinstance(turn, str) else render(turn, environment.dialogue.dialect))


def play(environment, scene, *turns, stream="policy"):
    """The episode after some turns, and what was observed after each, as text."""
    episode, seen = environment.start(scene, stream, "played"), []
    for turn in turns:
        observed = environment.take(episode, written(environment, turn))
        seen.append(None if observed is None else environment.dialogue.decode(observed.ids))
    return episode, seen


def test_the_crop_is_the_box_in_pixels_of_the_stored_image(environment, scene_of):
    """Stored 448 × 448, seen at 112 × 112: one wire pixel is four stored ones."""
    scene = scene_of()
    episode, seen = play(environment, scene, Look("", (7, 14, 28, 42)))
    assert scene.resized(0) == (112, 112)
    assert [look.box_xyxy_px for look in episode.looks] == [(28.0, 56.0, 112.0, 168.0)]
    by_hand = environment.processor.encode_image(scene.images[0].crop((28, 56, 112, 168)), 4 * 784, 4 * 784)
    assert [image.key for image in episode.images] == [scene.encoded[0].key, by_hand.key]
    assert "<feedback>Look 1 of 3. Box [7, 14, 28, 42].<|vision_start|>" in seen[0]
    assert not episode.problems
    assert not episode.is_over


@settings(max_examples=25, deadline=None)
@given(data=st.data(), width=st.integers(100, 300), height=st.integers(100, 300))
def test_the_crop_is_the_box_at_any_size(environment, scene_of, data, width, height):
    """Exact arithmetic as the witness: each axis has its own scale, and whole stored pixels cover the box."""
    roomy = Environment(environment.dialogue, replace(environment.view, crop_max_pixels=112 * 112))
    scene = scene_of(width, height)
    edges = []
    for side in scene.resized(0):
        low = data.draw(st.integers(0, 2 * side // 3))
        edges.append((low, data.draw(st.integers(low + side // 3, side))))
    (x0, x1), (y0, y1) = edges
    episode, _ = play(roomy, scene, Look("", (x0, y0, x1, y1)))
    scale_x, scale_y = Fraction(width, scene.resized(0)[0]), Fraction(height, scene.resized(0)[1])
    exact = (x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y)
    (box,) = (look.box_xyxy_px for look in episode.looks)
    assert box == pytest.approx([float(edge) for edge in exact])
    area = (*map(math.floor, exact[:2]), *map(math.ceil, exact[2:]))
    by_hand = environment.processor.encode_image(scene.images[0].crop(area), 4 * 784, 112 * 112)
    assert episode.images[1].key == by_hand.key


SECOND = (36, 14, 72, 42)  # on the wire of an image of 448 × 224 that is seen at 140 × 56


def test_a_look_cuts_the_image_that_it_names(environment, scene_of_three):
    scene = scene_of_three()
    assert [scene.resized(image) for image in range(3)] == [(112, 112), (140, 56), (84, 112)]
    episode, seen = play(environment, scene, Look("", SECOND, image=2), Look("", (0, 0, 84, 112), image=3))
    assert [image for image, _ in episode.placed_looks] == [1, 2]
    assert episode.looks[0].box_xyxy_px == pytest.approx((115.2, 56.0, 230.4, 168.0))
    assert episode.looks[1].box_xyxy_px == (0.0, 0.0, 224.0, 336.0)
    cut = scene.images[1].crop((115, 56, 231, 168)), scene.images[2]
    by_hand = [environment.processor.encode_image(crop, 4 * 784, 4 * 784).key for crop in cut]
    assert [image.key for image in episode.images] == [*(one.key for one in scene.encoded), *by_hand]
    assert "<feedback>Look 1 of 3. Image 2, box [36, 14, 72, 42].<|vision_start|>" in seen[0]
    assert "<feedback>Look 2 of 3. Image 3, box [0, 0, 84, 112].<|vision_start|>" in seen[1]
    assert not episode.problems


@pytest.mark.parametrize(
    ("image", "box", "problem", "sentence"),
    [
        ("", SECOND, "image", "Name the image: 1 to 3."),
        (', "image": 4', SECOND, "image", "There is no such image: there are 3."),
        (', "image": 123456789', SECOND, "image", "There is no such image: there are 3."),
        (', "image": 0', SECOND, "image", "The image must be a whole number from 1 on."),
        (', "image": "2"', SECOND, "image", "The image must be a whole number from 1 on."),
        (', "image": 3', (0, 0, 100, 56), "box", "The box leaves the image, which is 84 wide and 112 high."),
        (', "image": 2', (0, 0, 84, 112), "box", "The box leaves the image, which is 140 wide and 56 high."),
    ],
)
def test_a_look_at_no_image_of_the_question_gets_a_sentence(environment, scene_of_three, image, box, problem, sentence):
    bad = LOOK % f"{list(box)}{image}"
    episode, seen = play(environment, scene_of_three(), bad, Look("", SECOND, image=2), Answer("", "yes"))
    assert f"<feedback>Look 1 of 3. {sentence}</feedback>" in seen[0]
    assert "Look 2 of 3. Image 2, box" in seen[1]
    assert (len(episode.looks), episode.problems, episode.answer) == (1, [problem], "yes")
    assert not environment.is_grammatical(episode)


def test_one_image_need_not_be_named_and_has_no_second(environment, scene_of):
    box = (7, 14, 28, 42)
    episode, seen = play(environment, scene_of(), Look("", box), Look("", box, image=1), Look("", box, image=2))
    assert seen[1] == seen[0].replace("Look 1", "Look 2")
    assert episode.images[1].key == episode.images[2].key
    assert "Look 3 of 3. There is no such image: there is 1.</feedback>" in seen[2]
    assert (len(episode.looks), episode.problems) == (2, ["image"])


def test_images_without_room_are_refused_and_never_cut(environment, scene_of_three):
    """The longest episode: prompt, three looks of 80 tokens with 4 of a crop and the words around it, an answer."""
    n_prompt = environment.start(scene_of_three(), "policy", "whole").n_prompt
    tokenizer = copy(environment.processor.tokenizer)
    processor = replace(environment.processor, tokenizer=tokenizer)
    cramped = replace(environment, dialogue=replace(environment.dialogue, processor=processor))
    scene = scene_of_three()
    tokenizer.model_max_length = n_prompt + 80 + 3 * (80 + 4 + FEEDBACK_TOKENS)
    assert cramped.scene(scene.question, scene.images).encoded == scene.encoded
    tokenizer.model_max_length -= 1
    with pytest.raises(InputError, match=f"a prompt of {n_prompt} tokens with 3 images") as error:
        cramped.scene(scene.question, scene.images)
    assert error.value.where == "q0"
    assert cramped.scene(scene.question, scene.images[:2])


def test_both_streams_see_the_same(environment, scene_of):
    turns = (Look("one", (0, 0, 50, 60)), Look("two", (9, 9, 9, 20)), Look("three", (60, 50, 112, 112)))
    ends = (Answer("so", "yes"), "no turn at all")
    for end in ends:
        policy, seen_by_policy = play(environment, scene_of(), *turns, end)
        expert, seen_by_expert = play(environment, scene_of(), *turns, end, stream="expert")
        assert seen_by_policy == seen_by_expert
        assert replace(expert, stream="policy") == policy
        assert policy.row.image_keys == expert.row.image_keys


def test_what_was_written_is_marked_and_nothing_else(environment, scene_of):
    scene = scene_of()
    turns = (Look("one", (0, 0, 50, 60)), Look("two", (9, 9, 9, 20)), Answer("so", "yes"))
    episode, _ = play(environment, scene, *turns)
    marked = [token for token, written_ in zip(episode.ids, episode.is_written, strict=True) if written_]
    assert marked == [token for turn in turns for token in written(environment, turn)]
    assert episode.ids[: episode.n_prompt] == list(environment.dialogue.prompt(scene.question, scene.encoded).ids)
    spans = [episode.is_written[start:stop] for start, stop in episode.turn_spans]
    assert sum(map(len, spans)) == sum(episode.is_written)
    assert all(all(span) for span in spans)
    assert episode.row.written_at[0] == episode.n_prompt


@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        ("[50, 10, 20, 40]", "inverted"),
        ("[50, 10, 50, 40]", "empty"),
        ("[-1, 0, 20, 20]", "leaves the image"),
        ("[0, 0, 113, 20]", "leaves the image"),
        ("[0, 0, 3, 20]", "too small"),
        ("[0, 0, 1000000, 20]", "leaves the image"),
        ("[0, 0, 10000000, 20]", "far outside"),
        ("[0, 0, 1" + "0" * 30 + ", 20]", "far outside"),
        ("[NaN, 0, 20, 20]", "four integers"),
        ("[0, 0, Infinity, 20]", "four integers"),
        ("[0.5, 0, 20, 20]", "four integers"),
        ("[1e3, 0, 20, 20]", "four integers"),
        ("[0, 0, true, 20]", "four integers"),
        ('["0", 0, 20, 20]', "four integers"),
        ("[0, 0, 20]", "four integers"),
        ("null", "four integers"),
    ],
)
def test_a_box_that_cannot_be_looked_at_gets_a_sentence(environment, scene_of, box, sentence):
    episode, seen = play(environment, scene_of(), LOOK % box, Look("", (0, 0, 20, 20)), Answer("", "yes"))
    assert "<feedback>Look 1 of 3. The box" in seen[0]
    assert sentence in seen[0]
    assert "<|vision_start|>" not in seen[0]
    assert "Look 2 of 3." in seen[1]
    assert (len(episode.looks), episode.problems, episode.answer) == (1, ["box"], "yes")
    assert not environment.is_grammatical(episode)


@pytest.mark.parametrize(
    ("turn", "rule"),
    [
        ("", "order"),
        ("yes", "order"),
        ("<answer>yes</answer>", "order"),
        ("<reasoning></reasoning><answer>yes</answer> and more", "outside"),
        ("<reasoning></reasoning><answer> </answer>", "answer"),
        ("<reasoning></reasoning><action>[1, 2, 3, 4]</action>", "tool"),
        ("<reasoning></reasoning><action>look</action>", "json"),
        ((LOOK % "[0, 0, 20, 20]").replace("Gaze", "Stare"), "tool"),
        ("<reasoning></reasoning><feedback>Look 1 of 3.</feedback><answer>yes</answer>", "order"),
    ],
)
def test_a_turn_that_is_none_ends_the_episode(environment, scene_of, turn, rule):
    episode, seen = play(environment, scene_of(), turn)
    assert (seen, episode.is_over, episode.answer, episode.problems) == ([None], True, None, [rule])
    assert sum(episode.is_written) == len(written(environment, turn))
    assert not environment.is_grammatical(episode)


def test_a_turn_that_ran_out_of_tokens_ends_the_episode(environment, scene_of):
    episode = environment.start(scene_of(), "policy", "cut")
    ids = written(environment, Answer("", "yes"))[:-1]
    assert environment.take(episode, ids, is_whole=False) is None
    assert (episode.is_over, episode.answer, episode.problems) == (True, None, ["length"])


def test_no_more_looks_than_allowed(environment, scene_of):
    look, bad = Look("", (0, 0, 20, 20)), LOOK % "[0, 0, 1, 1]"
    episode, seen = play(environment, scene_of(), look, bad, look)
    assert not episode.is_over
    assert "Look 3 of 3." in seen[2]
    for turn, problem in ((look, "too many looks"), (LOOK % "[0.5, 0, 20, 20]", "box")):
        episode, seen = play(environment, scene_of(), look, look, look, turn)
        assert (seen[3], episode.is_over, len(episode.looks), episode.problems) == (None, True, 3, [problem])
        assert not environment.is_grammatical(episode)


def test_a_whole_episode_is_grammatical_and_its_answer_bare(environment, scene_of):
    look = Look("", (0, 0, 20, 20))
    episode, seen = play(environment, scene_of(), look, look, look, Answer("so", " yes "))
    assert (seen[-1], episode.is_over, episode.answer, episode.problems) == (None, True, "yes", [])
    assert environment.is_grammatical(episode)


@pytest.mark.parametrize(
    ("width", "height", "sentence"),
    [(448, 448, "has no room"), (1400, 112, "aspect ratio")],  # crops of 448 × 4 px and of 1400 × 4
)
def test_a_crop_that_no_processor_takes(environment, scene_of, width, height, sentence):
    easy = Environment(environment.dialogue, replace(environment.view, look_min_side_px=1))
    scene = scene_of(width, height)
    episode, seen = play(easy, scene, Look("", (0, 0, scene.resized(0)[0], 1)), Answer("", "yes"))
    assert "Look 1 of 3." in seen[0]
    assert sentence in seen[0]
    assert (episode.looks, episode.problems, len(episode.images)) == ([], ["box"], 1)
    assert episode.answer == "yes"


def test_boxes_of_the_stored_image_are_written_in_the_frame_of_the_policy(environment, scene_of):
    look = environment.look(scene_of(), "so", 0, (30.0, 54.0, 112.0, 168.0))
    assert look == Look("so", (8, 14, 28, 42))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_nothing_a_policy_samples_raises(environment, policy, scene_of, scene_of_three, data):
    """Any ids it may sample, any text, any JSON in the right tags, of one image or of three."""
    scene = data.draw(st.sampled_from([scene_of(), scene_of_three()]))
    allowed = [token for token in range(len(policy.tokenizer)) if token not in policy.banned_ids]
    ids = st.lists(st.sampled_from(allowed), max_size=20).map(tuple)
    numbers = st.one_of(st.integers(), st.floats(), st.text(max_size=2), st.none(), st.booleans())
    named = st.one_of(st.just(""), numbers.map(lambda image: f', "image": {json.dumps(image)}'))
    bodies = st.tuples(st.lists(numbers, max_size=5).map(json.dumps), named).map("".join)
    calls = bodies.map(lambda body: written(environment, LOOK % body))
    texts = st.text(max_size=30).map(environment.dialogue.written)
    episode = environment.start(scene, "policy", "wild")
    for turn in data.draw(st.lists(st.one_of(ids, calls, texts), min_size=1, max_size=5)):
        if environment.take(episode, turn) is None:
            break
    assert len(episode.turns) <= environment.looks_max + 1
    assert sum(episode.is_written) == sum(stop - start for start, stop in episode.turn_spans)
    assert len(episode.images) == len(scene.images) + len(episode.looks)
