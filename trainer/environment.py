"""The world that a written turn meets, the same for experts and policy: it parses, crops, and answers with feedback.

It knows the images and the rules, never the expert and never the gold answer. A box that cannot be looked at, or is
no box, and an image that is not named or not there get a sentence as feedback; any other turn that does not parse ends
the episode, without an answer. A question whose images have no room in the model's context is refused, never cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from schemas.boxes import Box, Size
from schemas.errors import InputError
from schemas.frames import WireBox, crop, from_wire, to_wire, wire_problem
from schemas.grammar import Answer, Look, Malformed, is_grammatical, parse
from schemas.records import Question
from trainer.dialogue import Dialogue, Ids
from trainer.processor import TOKEN_PX, Processor
from trainer.recipe import ViewConfig
from trainer.sequences import EncodedImage, TokenRow

FEEDBACK_TOKENS = 128  # room for the words around a crop


@dataclass(frozen=True)
class Scene:
    """One question with its images in order, as stored and as the policy sees them; `image` is an index into them."""

    question: Question
    images: tuple[Image.Image, ...]
    encoded: tuple[EncodedImage, ...]

    @property
    def has_several(self) -> bool:
        return len(self.images) > 1

    def size(self, image: int) -> Size:
        return self.images[image].size

    def resized(self, image: int) -> Size:
        """Width and height of the frame that wire coordinates count in."""
        _, height, width = self.encoded[image].grid_thw
        return width * 14, height * 14


@dataclass(frozen=True)
class LookTaken:
    """A look that was executed: what was asked for, on the wire, and what was cut, in stored pixels of which image."""

    wire: WireBox
    box_xyxy_px: Box
    image: int  # index into the scene's images


@dataclass
class Episode:
    """One conversation in the making; `is_over` tells when nothing more is to be written."""

    scene: Scene
    stream: str
    name: str
    ids: list[int]
    is_written: list[bool]
    images: list[EncodedImage]
    n_prompt: int
    turns: list[str] = field(default_factory=list)
    turn_spans: list[tuple[int, int]] = field(default_factory=list)
    looks: list[LookTaken] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    answer: str | None = None
    is_over: bool = False

    @property
    def row(self) -> TokenRow:
        return TokenRow(tuple(self.ids), tuple(self.is_written), tuple(self.images), self.n_prompt, self.name)

    @property
    def placed_looks(self) -> list[tuple[int, Box]]:
        """Each look with the index of its image."""
        return [(look.image, look.box_xyxy_px) for look in self.looks]

    def write(self, ids: tuple[int, ...], text: str) -> None:
        self.turn_spans.append((len(self.ids), len(self.ids) + len(ids)))
        self.ids += ids
        self.is_written += [True] * len(ids)
        self.turns.append(text)

    def observe(self, seen: Ids) -> None:
        self.ids += seen.ids
        self.is_written += [False] * len(seen.ids)
        self.images += seen.images


@dataclass(frozen=True)
class Environment:
    dialogue: Dialogue
    view: ViewConfig

    @property
    def looks_max(self) -> int:
        return self.dialogue.config.looks_max

    @property
    def processor(self) -> Processor:
        return self.dialogue.processor

    def scene(self, question: Question, images: Sequence[Image.Image]) -> Scene:
        least, most = self.view.image_min_pixels, self.view.image_max_pixels
        encoded = tuple(self.processor.encode_image(image, least, most) for image in images)
        self._refuse_without_room(question, encoded)
        return Scene(question, tuple(images), encoded)

    def _refuse_without_room(self, question: Question, encoded: Sequence[EncodedImage]) -> None:
        """InputError unless the longest episode of the question fits into the context of the checkpoint."""
        n_prompt, room = len(self.dialogue.prompt(question, encoded).ids), self.processor.tokenizer.model_max_length
        turn, crop_ = self.dialogue.config.turn_tokens_max, self.view.crop_max_pixels // TOKEN_PX**2
        needed = n_prompt + turn + self.looks_max * (turn + crop_ + FEEDBACK_TOKENS)
        if needed > room:
            raise InputError(
                f"a prompt of {n_prompt} tokens with {len(encoded)} images has no room: {needed} tokens with the"
                f" longest episode, {room} in the model's context",
                where=question.question_id,
                fix="lower view.image_max_pixels, view.crop_max_pixels or dialogue.looks_max",
            )

    def start(self, scene: Scene, stream: str, name: str) -> Episode:
        prompt = self.dialogue.prompt(scene.question, scene.encoded)
        n_prompt = len(prompt.ids)
        return Episode(scene, stream, name, list(prompt.ids), [False] * n_prompt, list(prompt.images), n_prompt)

    def take(self, episode: Episode, ids: tuple[int, ...], *, is_whole: bool = True) -> Ids | None:
        """Add a written turn (ids as written, stop marker included) and react: the observation, or None at the end.

        `is_whole` is False for a turn that ran out of tokens before it ended.
        """
        text = self.dialogue.decode(ids)
        episode.write(ids, text)
        turn = parse(text, self.dialogue.dialect) if is_whole else Malformed("length", "The turn did not end.")
        asks_to_look = isinstance(turn, Look) or (isinstance(turn, Malformed) and turn.rule in ("box", "image"))
        if asks_to_look and len(episode.turns) <= self.looks_max:
            observation = self._look(episode, turn)
            episode.observe(observation)
            return observation
        if isinstance(turn, Answer):
            episode.answer = turn.answer.strip()
        elif isinstance(turn, Malformed):
            episode.problems.append(turn.rule)
        else:
            episode.problems.append("too many looks")
        episode.is_over = True
        return None

    def _look(self, episode: Episode, look: Look | Malformed) -> Ids:
        """The feedback of one look: the crop of exactly the box asked for, or a sentence why there is none."""
        number = f"Look {len(episode.turns)} of {self.looks_max}."
        try:
            taken, seen = self._seen(look, episode.scene)
        except _Refused as refused:
            episode.problems.append(refused.rule)
            return self.dialogue.observation(f"{number} {refused.sentence}", None)
        episode.looks.append(taken)
        where = f"Image {taken.image + 1}, box" if episode.scene.has_several else "Box"
        return self.dialogue.observation(f"{number} {where} {list(taken.wire)}.", seen)

    def _seen(self, look: Look | Malformed, scene: Scene) -> tuple[LookTaken, EncodedImage]:
        """What is cut for a look, and the crop."""
        if isinstance(look, Malformed):
            raise _Refused(look.rule, look.message)
        image = _image_of(look, scene)
        if problem := wire_problem(look.box, scene.resized(image), self.view.look_min_side_px):
            raise _Refused("box", problem)
        box = from_wire(look.box, scene.size(image), scene.resized(image))
        least, most = self.view.crop_min_pixels, self.view.crop_max_pixels
        try:
            seen = self.processor.encode_image(crop(scene.images[image], box), least, most)
        except InputError as error:  # an aspect ratio that no processor takes
            raise _Refused("box", error.what) from error
        return LookTaken(look.box, box, image), seen

    def look(self, scene: Scene, words: str, image: int, box_xyxy_px: Box) -> Look:
        """A look at a box of a stored image as this environment's policy has to write it."""
        wire = to_wire(box_xyxy_px, scene.size(image), scene.resized(image))
        return Look(words, wire, image=image + 1 if scene.has_several else None)

    def is_grammatical(self, episode: Episode) -> bool:
        return not episode.problems and is_grammatical(episode.turns, self.dialogue.dialect, self.looks_max)


def _image_of(look: Look, scene: Scene) -> int:
    """The index of the image that a look names; where there is one alone it need not be named."""
    n_images = len(scene.images)
    if look.image is None and scene.has_several:
        raise _Refused("image", f"Name the image: 1 to {n_images}.")
    number = look.image or 1
    if number > n_images:
        raise _Refused("image", f"There is no such image: there {'are' if scene.has_several else 'is'} {n_images}.")
    return number - 1


class _Refused(Exception):
    """Why a look was not executed: a rule of the grammar and a sentence; never leaves this module."""

    def __init__(self, rule: str, sentence: str) -> None:
        self.rule, self.sentence = rule, sentence
