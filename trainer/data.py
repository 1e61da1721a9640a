"""Training data of a run: questions, images and expert trajectories of one store version, in an order made of numbers.

Which questions a step sees is a pure function of (seed, step). Only the `train` split is ever read here.
"""

import io
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from PIL import Image

from schemas.errors import UsageError
from schemas.manifest import Slice
from schemas.reader import Snapshot
from schemas.records import Question, Trajectory
from schemas.seeds import shuffled
from trainer.environment import Environment, Scene

IMAGES_KEPT = 512
BYTES_KEPT = 1 << 31  # decoded and encoded: a megapixel as the policy sees it is 24 MB


def load_image(snapshot: Snapshot, image_id: str) -> Image.Image:
    image = Image.open(io.BytesIO(snapshot.images.data(image_id)))
    image.load()
    return image


@dataclass
class Scenes:
    """Scenes by question, decoded and encoded once while they are in use."""

    snapshot: Snapshot
    environment: Environment
    kept: OrderedDict[str, Scene] = field(default_factory=OrderedDict)

    def __call__(self, question: Question) -> Scene:
        if question.question_id not in self.kept:
            images = [load_image(self.snapshot, image_id) for image_id in question.image_ids]
            self.kept[question.question_id] = self.environment.scene(question, images)
        self.kept.move_to_end(question.question_id)
        while len(self.kept) > 1 and self._is_full():
            self.kept.popitem(last=False)
        return self.kept[question.question_id]

    def _is_full(self) -> bool:
        scenes = self.kept.values()
        return sum(len(scene.images) for scene in scenes) > IMAGES_KEPT or sum(map(_n_bytes, scenes)) > BYTES_KEPT


def _n_bytes(scene: Scene) -> int:
    stored = sum(image.width * image.height * len(image.getbands()) for image in scene.images)
    return stored + sum(encoded.pixel_values.nbytes for encoded in scene.encoded)


@dataclass(frozen=True)
class TrainData:
    """Questions by id, sorted, and the expert trajectories of each."""

    questions: tuple[Question, ...]
    trajectories: dict[str, tuple[Trajectory, ...]]

    def at(self, step: int, n: int, seed: int) -> list[Question]:
        """The `n` questions of a step: an endless sequence of epochs, each shuffled by (seed, epoch)."""
        return take(self.questions, step * n, n, seed)


def take(questions: Sequence[Question], first: int, n: int, seed: int) -> list[Question]:
    """Questions first…first+n−1 of the endless shuffled sequence."""
    chosen: list[Question] = []
    while len(chosen) < n:
        epoch, place = divmod(first + len(chosen), len(questions))
        wanted = _order(len(questions), seed, epoch)[place : place + n - len(chosen)]
        chosen += [questions[index] for index in wanted]
    return chosen


def share(questions: Sequence[Question], rank: int, world: int) -> list[tuple[int, Question]]:
    """Questions rank, rank + world, … with their places; one that is asked again goes where it was asked first."""
    first: dict[str, int] = {}
    places = [first.setdefault(one.question_id, place) for place, one in enumerate(questions)]
    return [(place, one) for place, one in enumerate(questions) if places[place] % world == rank]


@lru_cache(maxsize=4)
def _order(n: int, seed: int, epoch: int) -> list[int]:
    return shuffled(list(range(n)), "epoch", seed, epoch)


def questions_of(snapshot: Snapshot, slice_key: str, split: str) -> tuple[Question, ...]:
    """Questions of one split of one ingest slice, sorted by id; UsageError when there are none."""
    found = snapshot.records("questions", split=split, slices=[slice_key])
    if not found:
        raise UsageError(f"slice {slice_key} has no questions in split {split}", where=snapshot.folder)
    return tuple(sorted(found, key=lambda one: one.question_id))


def ingest_of(slice_: Slice) -> str:
    """Key of the ingest slice that a slice of trajectories was made from."""
    keys = [key for key in slice_.inputs if key.startswith("ingest/")]
    if len(keys) != 1:
        raise UsageError(f"slice {slice_.key} was made from {keys or 'nothing'}", fix="rebuild it from one source")
    return keys[0]


def load_train_data(snapshot: Snapshot, slice_: Slice, origin: str, n_experts: int) -> TrainData:
    """Train questions of a trajectory slice with at most `n_experts` trajectories each of `origin` (`none`: none)."""
    questions = questions_of(snapshot, ingest_of(slice_), "train")
    by_question: dict[str, list[Trajectory]] = {}
    if origin != "none":
        for one in snapshot.each("trajectories", split="train", slices=[slice_.key]):
            if one.origin == origin and one.answer is not None:
                by_question.setdefault(one.question_id, []).append(one)
    kept = {key: tuple(sorted(many, key=lambda one: one.variant)[:n_experts]) for key, many in by_question.items()}
    if origin != "none" and not kept:
        raise UsageError(
            f"slice {slice_.key} has no {origin} trajectories with an answer in split train",
            fix=f"fovea build-trajectories with --origins {origin}, or set data.experts",
        )
    return TrainData(questions, kept)
