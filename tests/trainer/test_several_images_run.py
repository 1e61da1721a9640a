"""Questions about two and three images from the store to a trained and measured policy."""

import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

import trainer.data
from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.core.hunt import SearchConfig
from pipeline.stages.build_trajectories import BuildTrajectories, build_trajectories
from pipeline.stages.ingest import ingest
from pipeline.stages.phantom_source import PhantomSource
from schemas.frames import crop_box, from_wire, to_wire
from schemas.grammar import parse
from schemas.reader import Store
from schemas.records import Question
from tests.trainer.small_runs import SIDE_PX, SLICE, steps_of, train
from trainer.data import Scenes, load_image, load_train_data, questions_of
from trainer.dialogue import Dialogue
from trainer.environment import Environment
from trainer.episodes import expert_episode
from trainer.evaluate_command import evaluate

INGESTED = "ingest/phantom/default"


@dataclass(frozen=True)
class Studies:
    """Phantoms asked about beside one or two others: always of the second image, by name in every other question."""

    drawn: PhantomSource
    name: ClassVar[str] = "phantom"
    revision: ClassVar[int] = 1
    licence: ClassVar[str] = "CC0-1.0"

    def config(self) -> dict:
        return {"studies": True, **self.drawn.config()}

    def plan(self) -> list[SourceShard]:
        return self.drawn.plan()

    def digest(self, shard: SourceShard) -> str:
        return self.drawn.digest(shard)

    def read(self, shard: SourceShard) -> SourceRows:
        rows = self.drawn.read(shard)
        ids = [image.image_id for image in rows.images]
        rows.questions[:] = [self._beside_others(one, ids, number) for number, one in enumerate(rows.questions)]
        return rows

    def _beside_others(self, question: Question, ids: list[str], number: int) -> Question:
        (own,) = question.image_ids
        others = [image_id for image_id in ids if image_id != own]
        text = f"<image 1> came before <image 2>. {question.question}" if number % 2 else question.question
        regions = tuple(replace(region, image=1) for region in question.regions)
        images = (others[0], own, *others[1:2]) if number % 3 else (others[0], own)
        return replace(question, image_ids=images, question=text, regions=regions)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = Store(tmp_path_factory.mktemp("studies") / "store")
    ingest(made, Studies(PhantomSource(n_train=6, n_test=4, side_px=SIDE_PX)))
    build_trajectories(
        made, BuildTrajectories(made.root, made.head().version, INGESTED, "annotations", (), SearchConfig(), 0)
    )
    return made


@pytest.fixture(scope="module")
def environment(policy, small_recipe):
    """Looks as many as the search allows."""
    config = replace(small_recipe.dialogue, looks_max=4)
    return Environment(Dialogue(policy.processor, config), small_recipe.view)


@pytest.fixture(scope="module")
def told(store, environment):
    """(scene, trajectory, episode) of every expert trajectory of the train split."""
    snapshot = store.snapshot()
    scenes = Scenes(snapshot, environment)
    data = load_train_data(snapshot, snapshot.slice(SLICE), "cvs", 6)
    pairs = [(scenes(question), one) for question in data.questions for one in data.trajectories[question.question_id]]
    return [(scene, one, expert_episode(environment, scene, one)) for scene, one in pairs]


def test_questions_have_two_or_three_images_and_a_scene_has_them_in_order(store, environment):
    snapshot = store.snapshot()
    questions = questions_of(snapshot, INGESTED, "train")
    assert {len(one.image_ids) for one in questions} == {2, 3}
    scenes = Scenes(snapshot, environment)
    for question in questions:
        stored = [load_image(snapshot, image_id) for image_id in question.image_ids]
        assert [image.tobytes() for image in scenes(question).images] == [image.tobytes() for image in stored]


def test_scenes_are_kept_by_their_images(store, environment, monkeypatch):
    """Room for five images: a study of three and one of two; alone, a study stays whatever its size."""
    snapshot = store.snapshot()
    questions = questions_of(snapshot, INGESTED, "train")
    three, other_three = [one for one in questions if len(one.image_ids) == 3][:2]
    two = next(one for one in questions if len(one.image_ids) == 2)
    monkeypatch.setattr(trainer.data, "IMAGES_KEPT", 5)
    scenes = Scenes(snapshot, environment)
    for question in (three, two):
        scenes(question)
    assert list(scenes.kept) == [three.question_id, two.question_id]
    scenes(other_three)
    assert list(scenes.kept) == [two.question_id, other_three.question_id]
    monkeypatch.setattr(trainer.data, "IMAGES_KEPT", 1)
    assert len(scenes(three).images) == 3
    assert list(scenes.kept) == [three.question_id]


def test_an_expert_looks_at_the_second_image_and_is_shown_its_pixels(store, environment, told):
    """By hand from the bytes of the store: the box of the record, rounded to the wire, cut out of image_ids[1]."""
    snapshot, met = store.snapshot(), set()
    for scene, one, episode in told:
        steps = [step for step in one.steps if step.look_xyxy_px is not None]
        assert one.image_ids == scene.question.image_ids
        assert len(steps) == len(episode.looks) > 0
        for number, (step, look) in enumerate(zip(steps, episode.looks, strict=True)):
            image = load_image(snapshot, one.image_ids[step.image])
            seen_px = tuple(28 * side for side in reversed(scene.encoded[step.image].merged_grid))
            wire = to_wire(step.look_xyxy_px, image.size, seen_px)
            cut = image.crop(crop_box(from_wire(wire, image.size, seen_px), image.size))
            view = environment.view
            by_hand = environment.processor.encode_image(cut, view.crop_min_pixels, view.crop_max_pixels)
            shown = episode.images[len(scene.images) + number]
            assert torch.equal(shown.pixel_values, by_hand.pixel_values)
            assert (look.image, look.wire) == (step.image, wire)
            assert parse(episode.turns[number], environment.dialogue.dialect).image == step.image + 1
            met.add(step.image)
        assert environment.is_grammatical(episode)
    assert 1 in met


@pytest.fixture(scope="module")
def run(store, recipe_path, tmp_path_factory):
    """One step of imitation, then two of dual-stream GRPO with its self-check, in float32."""
    overrides = ("warm.kind=expert", "warm.steps=1", "run.steps=2", "dialogue.looks_max=4")
    return train(store, tmp_path_factory.mktemp("several") / "run", recipe_path, *overrides)


def test_training_runs_on_both_streams(run):
    lines = steps_of(run)
    assert [line["phase"] for line in lines] == ["warm", "grpo", "grpo"]
    assert all(math.isfinite(line["loss"]) and line["grad_norm"] > 0 and line["is_skipped"] == 0 for line in lines)
    assert all(line["unshown"] == line["untold"] == 0 for line in lines)
    assert all(line["expert/looks"] >= 1 and line["expert/grammar"] == 1.0 for line in lines[1:])
    assert all(line["policy/trajectories"] == 6 for line in lines[1:])


def test_the_policy_is_measured(run, store):
    head, episodes = evaluate(run, store.root, "test", "latest", None, None, 0.0, "cpu")
    assert head["overall"]["n"] == len(episodes) == len(questions_of(store.snapshot(), INGESTED, "test"))
    assert json.dumps(head)
